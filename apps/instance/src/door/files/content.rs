//! Reading: bytes of any size, and text in JSON.

use std::os::fd::OwnedFd;

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reef_door::{
    ErrorCode,
    files::{Content, Encoding, Entry},
};
use rustix::{
    fs::{Advice, Stat, fadvise, fstat},
    io::{Errno, pread},
};
use serde_json::json;

use super::{
    Files,
    body::{FileBody, stamp},
    conditions::{Wanted, last_modified, wanted},
    failure::nonsense,
    path_of,
};
use crate::{
    door::{
        held::json_in,
        problem::{Params, Problem},
    },
    wire::files::{Call, Reply, etag},
};

/// Bytes of a file that are given in JSON.
const MAX_TEXT: usize = 8 << 20;
/// What may stand as it is in `filename*` (RFC 8187 §3.2.1).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Answers with a file's bytes.
pub(super) async fn get(
    State(files): State<Files>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, Problem> {
    let (entry, file, stat) = open(&files, path_of(&params)?).await?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let (status, at, count) = match wanted(&headers, &stat) {
        Wanted::Whole => (StatusCode::OK, 0, size),
        Wanted::Part(at, count) => (StatusCode::PARTIAL_CONTENT, at, count),
        Wanted::NotModified => {
            let mut response = StatusCode::NOT_MODIFIED.into_response();
            describe(response.headers_mut(), &stat);
            return Ok(response);
        }
        Wanted::Failed => {
            return Err(Problem::new(ErrorCode::Conflict, "The file is not what the precondition says.")
                .status(StatusCode::PRECONDITION_FAILED)
                .with(json!({ "reason": "changed" })));
        }
        Wanted::Unsatisfiable => {
            let problem = Problem::new(ErrorCode::InvalidRequest, format!("The file has {size} bytes."))
                .status(StatusCode::RANGE_NOT_SATISFIABLE)
                .with(json!({ "reason": "range", "size": size }));
            let mut response = problem.into_response();
            insert(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{size}"));
            return Ok(response);
        }
    };
    if count > 1 << 20 {
        // The kernel reads further ahead; that it does not is no harm.
        let _ = fadvise(&file, at, std::num::NonZeroU64::new(count), Advice::Sequential);
    }
    let mut response = Response::new(Body::new(FileBody::new(file, &stat, at, count)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    describe(headers, &stat);
    headers.insert(header::CONTENT_LENGTH, count.into());
    if status == StatusCode::PARTIAL_CONTENT {
        insert(headers, header::CONTENT_RANGE, &format!("bytes {at}-{}/{size}", at + count - 1));
    }
    let kind = mime_guess::from_path(&entry.name).first_raw().unwrap_or("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    insert(headers, header::CONTENT_DISPOSITION, &attachment(&entry.name));
    Ok(response)
}

/// Answers with a file's text, or base64 of it.
pub(super) async fn read(State(files): State<Files>, params: Params) -> Result<Response, Problem> {
    let encoding = params.get::<String>("encoding", "utf8 or base64")?;
    let encoding = match encoding.as_deref() {
        None => None,
        Some("utf8" | "utf-8") => Some(Encoding::Utf8),
        Some("base64") => Some(Encoding::Base64),
        Some(_) => return Err(Problem::field("encoding", "must be utf8 or base64")),
    };
    let (entry, file, stat) = open(&files, path_of(&params)?).await?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let room = files.held.take(size.min(MAX_TEXT as u64)).await?;
    let bytes = tokio::task::spawn_blocking(move || head(&file, &stat)).await.map_err(|_| nonsense())?;
    let bytes = bytes.map_err(|_| nonsense())?.ok_or_else(|| {
        Problem::new(ErrorCode::Conflict, "The file changed while it was read. Read it again.")
            .with(json!({ "reason": "changed" }))
    })?;
    let truncated = size > bytes.len() as u64;
    let (content, encoding) = encode(bytes, encoding, truncated)?;
    let content = Content {
        path: entry.path,
        content,
        encoding,
        size,
        etag: etag(&stat),
        modified_at: entry.modified_at,
        truncated,
    };
    json_in(Some(room), &content)
}

/// Writes bytes as wanted; where nothing was said, as text if they are.
fn encode(bytes: Vec<u8>, wanted: Option<Encoding>, truncated: bool) -> Result<(String, Encoding), Problem> {
    if wanted == Some(Encoding::Base64) {
        return Ok((BASE64_STANDARD.encode(bytes), Encoding::Base64));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok((text, Encoding::Utf8)),
        // Cut within a character.
        Err(error) if truncated && error.utf8_error().error_len().is_none() => {
            let end = error.utf8_error().valid_up_to();
            let mut bytes = error.into_bytes();
            bytes.truncate(end);
            encode(bytes, wanted, false)
        }
        Err(error) if wanted.is_none() => Ok((BASE64_STANDARD.encode(error.into_bytes()), Encoding::Base64)),
        Err(_) => Err(Problem::field("encoding", "the file is not UTF-8; read it with encoding=base64")),
    }
}

/// Reads the beginning of a file; nothing where it is not any more what `stat` says of it.
fn head(file: &OwnedFd, stat: &Stat) -> Result<Option<Vec<u8>>, Errno> {
    let mut bytes = vec![0; MAX_TEXT];
    let mut length = 0;
    while length < bytes.len() {
        match pread(file, &mut bytes[length..], length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(length);
    Ok((stamp(&fstat(file)?) == stamp(stat)).then_some(bytes))
}

async fn open(files: &Files, path: String) -> Result<(Entry, OwnedFd, Stat), Problem> {
    let (Reply::Entry(entry), Some(file)) = files.ask(Call::Open { path }).await? else {
        return Err(nonsense());
    };
    let stat = files.volumes.check(&file)?;
    Ok((*entry, file, stat))
}

/// Sets what is true of a file whether it is sent or not.
fn describe(headers: &mut HeaderMap, stat: &Stat) {
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    insert(headers, header::ETAG, &etag(stat));
    insert(headers, header::LAST_MODIFIED, &httpdate::fmt_http_date(last_modified(stat)));
}

/// Returns a `Content-Disposition` that has the name saved (RFC 6266 §4.3).
pub(super) fn attachment(name: &str) -> String {
    let ascii: String = name
        .chars()
        .map(|c| if c == ' ' || (c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%')) { c } else { '_' })
        .collect();
    format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{}", utf8_percent_encode(name, PLAIN))
}

pub(super) fn insert(headers: &mut HeaderMap, name: http::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_while_it_is_read_has_no_text() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "before").unwrap();
        let open = OwnedFd::from(std::fs::File::open(file.path()).unwrap());
        let stat = fstat(&open).unwrap();
        assert_eq!(head(&open, &stat).unwrap().as_deref(), Some(&b"before"[..]));
        std::fs::write(file.path(), "and after").unwrap();
        assert_eq!(head(&open, &stat).unwrap(), None);
    }
}
