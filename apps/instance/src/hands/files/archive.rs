//! Packing a tree or a file, as a stream.

use std::{
    ffi::OsStr,
    fmt::Write as _,
    fs::File,
    io::{self, BufWriter, Read, Write},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::Path,
};

use flate2::{Compression, write::GzEncoder};
use reef_door::files::{ArchiveFormat, FileKind};
use rustix::fs::{Stat, fstat, readlinkat};
use zip::{ZipWriter, write::SimpleFileOptions, write::StreamWriter};

use super::{
    READ,
    beneath::{Place, Roots},
    entry::{kind, size},
    pipe::Pipe,
    walk::{Item, Walk},
};
use crate::wire::{files::Reply, work::Failure};

/// Files from here on get the wide size fields of zip64.
const ZIP64_FROM: u64 = 0xffff_ffff;

/// Writes an archive of what is in a directory, or of one file, to `pipe`. Paths in it are relative to the directory;
/// devices, sockets and pipes are left out, links are stored as links.
pub(super) fn archive(
    roots: &Roots,
    path: &str,
    format: ArchiveFormat,
    pipe: Pipe,
) -> Result<Reply, Failure> {
    let place = roots.place(path)?;
    let fail = |error: io::Error| place.failure(error);
    let source = Source::open(&place)?;
    let pipe = BufWriter::with_capacity(64 * 1024, pipe);
    match format {
        ArchiveFormat::TarGz => {
            let mut tar = tar::Builder::new(GzEncoder::new(pipe, Compression::default()));
            source.pack(&mut tar).map_err(fail)?;
            tar.into_inner().and_then(GzEncoder::finish).and_then(|mut pipe| pipe.flush()).map_err(fail)?;
        }
        ArchiveFormat::Zip => {
            let mut zip = ZipWriter::new_stream(pipe);
            source.pack(&mut zip).map_err(fail)?;
            let pipe = zip.finish().map_err(|error| fail(error.into()))?;
            pipe.into_inner().flush().map_err(fail)?;
        }
    }
    Ok(Reply::Done)
}

/// What an archive is made of.
enum Source {
    Tree(Walk),
    File(OwnedFd, std::path::PathBuf),
}

impl Source {
    fn open(place: &Place<'_>) -> Result<Self, Failure> {
        let fail = |error: io::Error| place.failure(error);
        let file = place.open(READ).map_err(fail)?;
        match kind(&fstat(&file).map_err(|error| fail(error.into()))?) {
            FileKind::Directory => Ok(Self::Tree(Walk::new(file).map_err(fail)?)),
            FileKind::File => Ok(Self::File(file, place.name().into())),
            FileKind::Symlink | FileKind::Other => Err(fail(rustix::io::Errno::NXIO.into())),
        }
    }

    fn pack(self, packer: &mut impl Packer) -> io::Result<()> {
        let mut walk = match self {
            Self::File(file, name) => return pack_file(packer, file, &name),
            Self::Tree(walk) => walk,
        };
        while let Some(item) = walk.next() {
            let item = item?;
            match kind(&item.stat) {
                FileKind::Directory => packer.directory(&item.path, &item.stat)?,
                FileKind::Symlink => pack_link(packer, &item)?,
                FileKind::File => match item.open_regular() {
                    Ok(file) => pack_file(packer, file, &item.path)?,
                    // It is gone since its directory was read.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                },
                FileKind::Other => {}
            }
        }
        Ok(())
    }
}

fn pack_file(packer: &mut impl Packer, file: OwnedFd, path: &Path) -> io::Result<()> {
    let stat = fstat(&file)?;
    // The size is written before the content: what is appended meanwhile is left out.
    let whole = Whole { file: File::from(file), left: size(&stat) };
    packer.file(path, &stat, whole)
}

fn pack_link(packer: &mut impl Packer, item: &Item) -> io::Result<()> {
    match readlinkat(&*item.dir, &item.name, Vec::new()) {
        Ok(target) => packer.link(&item.path, &item.stat, Path::new(OsStr::from_bytes(target.as_bytes()))),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Reads exactly as much as was promised.
struct Whole {
    file: File,
    left: u64,
}

impl Read for Whole {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(buf.len(), |left| left.min(buf.len()));
        if most == 0 {
            return Ok(0);
        }
        let count = self.file.read(&mut buf[..most])?;
        if count == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "a file became shorter while it was read",
            ));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// A format.
trait Packer {
    fn directory(&mut self, path: &Path, stat: &Stat) -> io::Result<()>;
    fn file(&mut self, path: &Path, stat: &Stat, content: Whole) -> io::Result<()>;
    fn link(&mut self, path: &Path, stat: &Stat, target: &Path) -> io::Result<()>;
}

impl<W: Write> Packer for tar::Builder<W> {
    fn directory(&mut self, path: &Path, stat: &Stat) -> io::Result<()> {
        self.append_data(&mut tar_header(stat, tar::EntryType::Directory, 0), path, io::empty())
    }

    fn file(&mut self, path: &Path, stat: &Stat, content: Whole) -> io::Result<()> {
        self.append_data(&mut tar_header(stat, tar::EntryType::Regular, content.left), path, content)
    }

    fn link(&mut self, path: &Path, stat: &Stat, target: &Path) -> io::Result<()> {
        self.append_link(&mut tar_header(stat, tar::EntryType::Symlink, 0), path, target)
    }
}

/// Users are not stored: whoever unpacks owns.
fn tar_header(stat: &Stat, kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & 0o777);
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header
}

impl<W: Write> Packer for ZipWriter<StreamWriter<W>> {
    fn directory(&mut self, path: &Path, stat: &Stat) -> io::Result<()> {
        Ok(self.add_directory(zip_name(path), zip_options(stat, 0))?)
    }

    fn file(&mut self, path: &Path, stat: &Stat, mut content: Whole) -> io::Result<()> {
        self.start_file(zip_name(path), zip_options(stat, content.left))?;
        io::copy(&mut content, self)?;
        Ok(())
    }

    fn link(&mut self, path: &Path, stat: &Stat, target: &Path) -> io::Result<()> {
        Ok(self.add_symlink(zip_name(path), target.to_string_lossy(), zip_options(stat, 0))?)
    }
}

/// Writes a path as UTF-8. Of two paths come two names: a byte that is none becomes U+FFFD and its two hex digits, and so
/// do the bytes of that character itself.
fn zip_name(path: &Path) -> String {
    let escape = |name: &mut String, bytes: &[u8]| {
        for byte in bytes {
            let _ = write!(name, "{}{byte:02x}", char::REPLACEMENT_CHARACTER);
        }
    };
    let mut name = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for part in chunk.valid().split_inclusive(char::REPLACEMENT_CHARACTER) {
            let plain = part.trim_end_matches(char::REPLACEMENT_CHARACTER);
            name.push_str(plain);
            escape(&mut name, &part.as_bytes()[plain.len()..]);
        }
        escape(&mut name, chunk.invalid());
    }
    name
}

fn zip_options(stat: &Stat, size: u64) -> SimpleFileOptions {
    let at = time::OffsetDateTime::from_unix_timestamp(stat.st_mtime).ok().and_then(|at| {
        let year = u16::try_from(at.year()).ok()?;
        let month = u8::from(at.month());
        zip::DateTime::from_date_and_time(year, month, at.day(), at.hour(), at.minute(), at.second()).ok()
    });
    SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated)
        .unix_permissions(stat.st_mode & 0o777)
        .last_modified_time(at.unwrap_or_default())
        .large_file(size >= ZIP64_FROM)
}
