//! Ranges and preconditions of requests (RFC 9110 §13 and §14).

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, header};
use rustix::fs::Stat;

use crate::wire::files::{Condition, etag};

/// What a request to read comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// 200.
    Whole,
    /// 206: the first byte and how many, at least one.
    Part(u64, u64),
    /// 304.
    NotModified,
    /// 412.
    Failed,
    /// 416.
    Unsatisfiable,
}

/// Decides what is wanted of a file, in the order of RFC 9110 §13.2.2.
pub(super) fn wanted(headers: &HeaderMap, stat: &Stat) -> Wanted {
    let tag = etag(stat);
    let modified = last_modified(stat);
    let has = |tags: &[String]| tags.iter().any(|wanted| wanted == "*" || *wanted == tag);
    match tags(headers, &header::IF_MATCH) {
        Some(tags) if !has(&tags) => return Wanted::Failed,
        Some(_) => {}
        None => {
            if date(headers, &header::IF_UNMODIFIED_SINCE).is_some_and(|since| modified > since) {
                return Wanted::Failed;
            }
        }
    }
    match tags(headers, &header::IF_NONE_MATCH).map(strong) {
        Some(tags) if has(&tags) => return Wanted::NotModified,
        Some(_) => {}
        None => {
            if date(headers, &header::IF_MODIFIED_SINCE).is_some_and(|since| modified <= since) {
                return Wanted::NotModified;
            }
        }
    }
    let Some(range) = headers.get(header::RANGE).and_then(|range| range.to_str().ok()) else {
        return Wanted::Whole;
    };
    let is_same = match headers.get(header::IF_RANGE).map(|value| value.to_str().unwrap_or_default()) {
        None => true,
        Some(value) if value.starts_with('"') => value == tag,
        Some(value) => httpdate::parse_http_date(value).is_ok_and(|at| at == modified),
    };
    if is_same { part(range, u64::try_from(stat.st_size).unwrap_or(0)) } else { Wanted::Whole }
}

/// Reads a `Range`; one that cannot be read, or has several parts, is as good as none.
fn part(range: &str, size: u64) -> Wanted {
    let parts = range.split_once('=').filter(|(unit, _)| unit.trim().eq_ignore_ascii_case("bytes"));
    let Some((_, set)) = parts else { return Wanted::Whole };
    let Some((first, last)) = set.trim().split_once('-') else { return Wanted::Whole };
    let number = |text: &str| match text {
        "" => Some(None),
        // More than 2^64 bytes are more than there are.
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => Some(Some(text.parse().unwrap_or(u64::MAX))),
        _ => None,
    };
    match (number(first.trim()), number(last.trim())) {
        (Some(Some(first)), Some(last)) => {
            let last: u64 = last.unwrap_or(u64::MAX);
            if last < first {
                Wanted::Whole
            } else if first >= size {
                Wanted::Unsatisfiable
            } else {
                Wanted::Part(first, last.min(size - 1) - first + 1)
            }
        }
        (Some(None), Some(Some(count))) => match count.min(size) {
            0 => Wanted::Unsatisfiable,
            count => Wanted::Part(size - count, count),
        },
        _ => Wanted::Whole,
    }
}

/// Returns the preconditions of a request to write.
pub(super) fn condition(headers: &HeaderMap) -> Condition {
    Condition {
        if_match: tags(headers, &header::IF_MATCH),
        if_none_match: tags(headers, &header::IF_NONE_MATCH).map(strong),
    }
}

/// Returns the time of the last change, in whole seconds.
pub(super) fn last_modified(stat: &Stat) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0))
}

/// Returns the entity tags of a header, if it is there. None of ours has a comma.
fn tags(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<String>> {
    headers.contains_key(name).then(|| {
        let values = headers.get_all(name).iter();
        // What is no text matches nothing.
        let texts = values.map(|value| value.to_str().unwrap_or("\"\""));
        texts.flat_map(|text| text.split(',')).map(|tag| tag.trim().to_owned()).collect()
    })
}

/// Makes a weak comparison of a strong one (RFC 9110 §8.8.3.2); ours are all strong.
fn strong(tags: Vec<String>) -> Vec<String> {
    tags.into_iter().map(|tag| tag.strip_prefix("W/").map(str::to_owned).unwrap_or(tag)).collect()
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        use Wanted::{Part, Unsatisfiable, Whole};
        for (range, size, expected) in [
            ("bytes=0-0", 10, Part(0, 1)),
            ("bytes=2-", 10, Part(2, 8)),
            ("bytes=2-99", 10, Part(2, 8)),
            ("bytes=-3", 10, Part(7, 3)),
            ("bytes=-99", 10, Part(0, 10)),
            ("Bytes = 1-2", 10, Part(1, 2)),
            ("bytes=0-99999999999999999999999", 10, Part(0, 10)),
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Unsatisfiable),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-5", 0, Unsatisfiable),
            ("bytes=5-2", 10, Whole),
            ("bytes=0-1,3-4", 10, Whole),
            ("bytes=", 10, Whole),
            ("bytes=-", 10, Whole),
            ("bytes=+1-2", 10, Whole),
            ("bytes=a-b", 10, Whole),
            ("lines=0-1", 10, Whole),
            ("0-1", 10, Whole),
        ] {
            assert_eq!(part(range, size), expected, "{range} of {size}");
        }
    }

    #[test]
    fn preconditions_are_taken_in_their_order() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "0123456789").unwrap();
        let stat = rustix::fs::stat(file.path()).unwrap();
        let (tag, at) = (etag(&stat), httpdate::fmt_http_date(last_modified(&stat)));
        let (weak, long_ago) = (format!("W/{tag}"), "Thu, 01 Jan 1970 00:00:00 GMT");
        let many = format!("\"a\", {tag}");
        for (given, expected) in [
            (vec![("if-match", tag.as_str())], Wanted::Whole),
            (vec![("if-match", "*")], Wanted::Whole),
            (vec![("if-match", many.as_str())], Wanted::Whole),
            (vec![("if-match", weak.as_str())], Wanted::Failed),
            (vec![("if-match", "\"x\"")], Wanted::Failed),
            (vec![("if-unmodified-since", long_ago)], Wanted::Failed),
            (vec![("if-match", "*"), ("if-unmodified-since", long_ago)], Wanted::Whole),
            (vec![("if-none-match", weak.as_str())], Wanted::NotModified),
            (vec![("if-none-match", "*")], Wanted::NotModified),
            (vec![("if-none-match", "\"x\""), ("if-modified-since", at.as_str())], Wanted::Whole),
            (vec![("if-modified-since", at.as_str())], Wanted::NotModified),
            (vec![("if-modified-since", long_ago)], Wanted::Whole),
            (vec![("range", "bytes=1-2")], Wanted::Part(1, 2)),
            (vec![("range", "bytes=1-2"), ("if-range", tag.as_str())], Wanted::Part(1, 2)),
            (vec![("range", "bytes=1-2"), ("if-range", at.as_str())], Wanted::Part(1, 2)),
            (vec![("range", "bytes=1-2"), ("if-range", "\"x\"")], Wanted::Whole),
            (vec![("range", "bytes=1-2"), ("if-range", weak.as_str())], Wanted::Whole),
            (vec![("range", "bytes=99-"), ("if-none-match", tag.as_str())], Wanted::NotModified),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in &given {
                headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
            }
            assert_eq!(wanted(&headers, &stat), expected, "{given:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever the header says, a part is never empty and never beyond the end.
        #[test]
        fn a_part_is_within_the_file(
            range in prop_oneof![".{0,40}", r"bytes=[0-9]{0,22}-[0-9]{0,22}", r"bytes ?=[-0-9, ]{0,12}"],
            size in prop_oneof![0_u64..20, any::<u64>().prop_map(|size| size >> 1)],
        ) {
            if let Wanted::Part(first, count) = part(&range, size) {
                prop_assert!(count > 0);
                prop_assert!(first.checked_add(count).is_some_and(|end| end <= size));
            }
        }
    }
}
