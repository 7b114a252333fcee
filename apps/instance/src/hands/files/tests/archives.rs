//! Archives: there and back, and those that were made to do harm.

use std::{
    collections::BTreeMap,
    io::Cursor,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use reef_door::files::{ArchiveFormat, ExtractReport};
use zip::write::SimpleFileOptions;

use super::*;
use crate::hands::files::extract::{clean, stays_within};

/// What is below a directory: content or target, and mode.
fn tree(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u32)> {
    let mut all = BTreeMap::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(at) = todo.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let content = if meta.is_symlink() {
                path.read_link().unwrap().into_os_string().into_encoded_bytes()
            } else if meta.is_dir() {
                todo.push(path.clone());
                Vec::new()
            } else {
                std::fs::read(&path).unwrap()
            };
            let name = path.strip_prefix(dir).unwrap().to_owned();
            all.insert(name, (content, meta.mode()));
        }
    }
    all
}

fn extract(f: &Fixture, path: &str, archive: Vec<u8>) -> Result<ExtractReport, Failure> {
    match f.feed(Call::Extract { path: path.into() }, archive)? {
        Reply::Extracted(report) => Ok(report),
        other => panic!("{other:?}"),
    }
}

fn pack(f: &Fixture, path: &str, format: ArchiveFormat) -> Vec<u8> {
    let (reply, bytes) = f.drain(Call::Archive { path: path.into(), format });
    reply.unwrap();
    bytes
}

fn sample(f: &Fixture) {
    f.write("src/a.txt", "alpha").unwrap();
    f.write("src/empty", "").unwrap();
    f.write(&format!("src/{}/{}", "l".repeat(120), "n".repeat(200)), "long").unwrap();
    f.write("src/dir/big", &"0123456789".repeat(30_000)).unwrap();
    f.call(Call::MakeDirectory { path: "src/nothing".into() }).unwrap();
    f.call(Call::Chmod { path: "src/a.txt".into(), mode: 0o755 }).unwrap();
    f.call(Call::Chmod { path: "src/dir".into(), mode: 0o555 }).unwrap();
    symlink("../a.txt", f.at("src/nothing/link")).unwrap();
}

#[test]
fn what_is_packed_is_what_is_unpacked() {
    for format in [ArchiveFormat::TarGz, ArchiveFormat::Zip] {
        let f = Fixture::new();
        sample(&f);
        nix::unistd::mkfifo(&f.at("src/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let archive = pack(&f, "src", format);
        std::fs::remove_file(f.at("src/fifo")).unwrap();
        let report = extract(&f, "out/deep", archive.clone()).unwrap();
        assert_eq!((report.files, report.bytes), (5, 300_009), "{format:?}");
        assert_eq!(tree(&f.at("src")), tree(&f.at("out/deep")), "{format:?}");
        // Again, over what is there.
        std::fs::write(f.at("out/deep/a.txt"), "changed").unwrap();
        extract(&f, "out/deep", archive).unwrap();
        assert_eq!(tree(&f.at("src")), tree(&f.at("out/deep")), "{format:?}");
        let one = pack(&f, "src/a.txt", format);
        extract(&f, "one", one).unwrap();
        assert_eq!(f.text("one/a.txt"), "alpha");
    }
}

#[test]
fn names_that_are_no_text_stay_apart() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    for format in [ArchiveFormat::TarGz, ArchiveFormat::Zip] {
        let f = Fixture::new();
        let names = [&b"a\xff"[..], b"a\xfe", "a\u{fffd}".as_bytes(), "a\u{fffd}ff".as_bytes(), b"a"];
        for name in names {
            let dir = f.at("src").join(OsStr::from_bytes(name));
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("x"), name).unwrap();
        }
        let report = extract(&f, "out", pack(&f, "src", format)).unwrap();
        assert_eq!(report.files, 5, "{format:?}");
        let mut all: Vec<_> = tree(&f.at("out")).into_values().map(|(content, _)| content).collect();
        all.retain(|content| !content.is_empty());
        all.sort();
        let mut expected = names.to_vec();
        expected.sort();
        assert_eq!(all, expected, "{format:?}");
    }
}

fn tar_gz(build: impl FnOnce(&mut tar::Builder<GzEncoder<Vec<u8>>>)) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    build(&mut tar);
    tar.into_inner().unwrap().finish().unwrap()
}

fn header(kind: tar::EntryType, name: &str, link: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    // Past the checks of the crate, as an attacker would.
    let old = header.as_old_mut();
    old.name[..name.len()].copy_from_slice(name.as_bytes());
    old.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o4777);
    header.set_cksum();
    header
}

#[test]
fn an_archive_made_to_do_harm_does_none() {
    use tar::EntryType::{Block, Char, Fifo, Link, Regular, Symlink};
    let cases = [
        (Regular, "../evil", "", FailureKind::Outside),
        (Regular, "/evil", "", FailureKind::Outside),
        (Regular, "a/../../evil", "", FailureKind::Outside),
        (Symlink, "link", "/etc", FailureKind::Outside),
        (Symlink, "link", "../outside", FailureKind::Outside),
        (Symlink, "a/link", "../../outside", FailureKind::Outside),
        (Symlink, "a/link", "b/../../../outside", FailureKind::Outside),
        (Link, "hard", "../outside/secret", FailureKind::Outside),
        (Link, "hard", "out/secret", FailureKind::Outside),
        (Regular, "out/evil", "", FailureKind::Outside),
        (Char, "device", "", FailureKind::NotAFile),
        (Block, "device", "", FailureKind::NotAFile),
        (Fifo, "fifo", "", FailureKind::NotAFile),
    ];
    for (kind, name, link, expected) in cases {
        let f = Fixture::new();
        std::fs::create_dir(f.at("t")).unwrap();
        // A link that was there before is not followed either.
        symlink("../../outside", f.at("t/out")).unwrap();
        let archive = tar_gz(|tar| tar.append(&header(kind, name, link, 0), std::io::empty()).unwrap());
        let failure = extract(&f, "t", archive).unwrap_err();
        assert_eq!(failure.kind, expected, "{kind:?} {name} -> {link}: {failure}");
        assert_eq!(f.names("t"), ["out"], "{name}");
        assert_eq!(f.names(""), ["t"], "{name}");
        assert_eq!(std::fs::read_dir(f.root.path().join("outside")).unwrap().count(), 1);
    }
    for name in ["../evil", "/evil", "a/../../evil"] {
        let f = Fixture::new();
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        let archive = zip.finish().unwrap().into_inner();
        assert_eq!(extract(&f, "t", archive).unwrap_err().kind, FailureKind::Outside, "{name}");
    }
    let f = Fixture::new();
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    zip.add_symlink("link", "../../outside", SimpleFileOptions::default()).unwrap();
    zip.start_file("link/evil", SimpleFileOptions::default()).unwrap();
    let archive = zip.finish().unwrap().into_inner();
    assert_eq!(extract(&f, "t", archive).unwrap_err().kind, FailureKind::Outside);
}

#[test]
fn a_link_in_the_archive_is_no_way_for_what_comes_after() {
    let f = Fixture::new();
    let archive = tar_gz(|tar| {
        tar.append(&header(tar::EntryType::Symlink, "d", "other", 0), std::io::empty()).unwrap();
        tar.append(&header(tar::EntryType::Regular, "d/file", "", 0), std::io::empty()).unwrap();
    });
    f.call(Call::MakeDirectory { path: "t/other".into() }).unwrap();
    assert_eq!(extract(&f, "t", archive).unwrap_err().kind, FailureKind::Outside);
    assert!(f.names("t/other").is_empty());
}

#[test]
fn special_permissions_are_not_given() {
    let f = Fixture::new();
    let archive =
        tar_gz(|tar| tar.append(&header(tar::EntryType::Regular, "su", "", 2), b"x\n".as_slice()).unwrap());
    extract(&f, "t", archive).unwrap();
    assert_eq!(f.at("t/su").metadata().unwrap().mode() & 0o7777, 0o777);
}

#[test]
fn what_is_cut_off_or_no_archive_is_said() {
    let f = Fixture::new();
    sample(&f);
    for format in [ArchiveFormat::TarGz, ArchiveFormat::Zip] {
        let archive = pack(&f, "src", format);
        let half = archive[..archive.len() - 9].to_vec();
        assert_eq!(extract(&f, "t", half).unwrap_err().kind, FailureKind::Invalid, "{format:?}");
    }
    for bytes in [&b""[..], b"PK", b"plain text"] {
        assert_eq!(extract(&f, "t", bytes.to_vec()).unwrap_err().kind, FailureKind::Invalid);
    }
    let names = f.names("t");
    assert!(names.iter().all(|name| !name.starts_with(".reef")), "{names:?}");
}

#[test]
fn bombs_are_not_unpacked() {
    let f = Fixture::new();
    let size = 192 << 20;
    let bomb = tar_gz(|tar| {
        let header = header(tar::EntryType::Regular, "zeros", "", size);
        tar.append(&header, std::io::repeat(0).take(size)).unwrap();
    });
    assert_eq!(extract(&f, "t", bomb).unwrap_err().kind, FailureKind::TooLarge);
    // A name that would fill the memory.
    let long = 64 << 20;
    let bomb = tar_gz(|tar| {
        let header = header(tar::EntryType::GNULongName, "././@LongLink", "", long);
        tar.append(&header, std::io::repeat(b'x').take(long)).unwrap();
    });
    assert_eq!(extract(&f, "t", bomb).unwrap_err().kind, FailureKind::TooLarge);
    assert!(f.names("t").is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Archives with a few bytes changed are unpacked or refused; nothing is written elsewhere, nothing panics.
    #[test]
    fn damaged_archives_do_no_harm(
        is_zip in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let f = Fixture::new();
        f.write("src/a.txt", "alpha").unwrap();
        f.write("src/dir/b", "beta").unwrap();
        symlink("dir/b", f.at("src/link")).unwrap();
        let mut bytes = if is_zip {
            pack(&f, "src", ArchiveFormat::Zip)
        } else {
            // What is inside of the compression is what is to be hit.
            let packed = pack(&f, "src", ArchiveFormat::TarGz);
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut plain).unwrap();
            plain
        };
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if !is_zip {
            let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
            gz.write_all(&bytes).unwrap();
            bytes = gz.finish().unwrap();
        }
        let _ = extract(&f, "t", bytes);
        prop_assert_eq!(std::fs::read_dir(f.root.path()).unwrap().count(), 3);
        prop_assert_eq!(std::fs::read_dir(f.root.path().join("outside")).unwrap().count(), 1);
        for name in f.names("") {
            prop_assert!(name == "src" || name == "t", "{}", name);
        }
    }

    /// Whatever a tar header says, it unpacks below its directory or not at all.
    #[test]
    fn any_header_stays_within(
        kind in prop::sample::select(b"0123456\0gxKLS7".as_slice()),
        name in r"(/|\.|\.\.|a|out|t|link){0,8}",
        link in r"(/|\.|\.\.|a|out|t|secret){0,8}",
        after in r"(/|\.|\.\.|a|out|t|link){0,8}",
    ) {
        let f = Fixture::new();
        let archive = tar_gz(|tar| {
            let kind = tar::EntryType::new(kind);
            tar.append(&header(kind, &name, &link, 0), std::io::empty()).unwrap();
            tar.append(&header(tar::EntryType::Regular, &after, "", 0), std::io::empty()).unwrap();
        });
        let _ = extract(&f, "t", archive);
        prop_assert_eq!(std::fs::read_dir(f.root.path()).unwrap().count(), 3);
        prop_assert_eq!(f.names(""), ["t"]);
        prop_assert_eq!(std::fs::read_to_string(f.root.path().join("outside/secret")).unwrap(), "secret");
    }

    /// A path that is taken has only normal parts; a link that is taken cannot be used to climb.
    #[test]
    fn what_is_clean_has_no_way_up(path in r"(/|\.|\.\.|a|b){0,9}", target in r"(/|\.|\.\.|a|b){0,9}") {
        if let Some(clean) = clean(Path::new(&path)) {
            prop_assert!(clean.components().all(|part| matches!(part, std::path::Component::Normal(_))));
            if stays_within(&clean, Path::new(&target)) {
                let ups = Path::new(&target).components().filter(|part| *part == std::path::Component::ParentDir);
                prop_assert!(ups.count() < clean.components().count().max(1));
                prop_assert!(!target.starts_with('/'));
            }
        }
    }
}
