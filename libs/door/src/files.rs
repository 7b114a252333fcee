//! Files of an instance: requests, answers and events.
//!
//! Paths are absolute as the instance sees them (`/workspace/…`, the home), or begin with `~` (the home), or are relative
//! to the workspace; no part of one may be `..`. Permission bits are octal digits in a string.

use reef_model::Timestamp;

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, socket or pipe.
    Other,
}

/// One entry of a directory, or what a path names.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[schema(as = FileEntry)]
pub struct Entry {
    /// Last part of the path.
    pub name: String,
    /// Absolute, as the instance sees it.
    pub path: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: FileKind,
    /// Bytes.
    pub size: u64,
    /// Permission bits, as four octal digits.
    #[schema(example = "0644")]
    pub mode: String,
    /// When its content last changed.
    pub modified_at: Timestamp,
    /// Where a symbolic link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// For `If-Match` and `If-None-Match`; files only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

/// How a file's content is written in JSON.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
#[schema(as = FileEncoding)]
pub enum Encoding {
    /// As it is; the content is UTF-8.
    #[default]
    #[serde(alias = "utf-8")]
    Utf8,
    /// In base64 (RFC 4648 §4), with padding.
    Base64,
}

/// The answer of `GET …/files/read`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[schema(as = FileContent)]
pub struct Content {
    /// Absolute, as the instance sees it.
    pub path: String,
    /// The first 8 MiB at most.
    pub content: String,
    /// How to read `content`.
    pub encoding: Encoding,
    /// Bytes of the whole file.
    pub size: u64,
    /// For `if_match`.
    pub etag: String,
    /// When the content last changed.
    pub modified_at: Timestamp,
    /// Whether the file is longer; `GET …/files/content` has all of it.
    pub truncated: bool,
}

/// The body of `POST …/files/write`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteFile {
    /// Where; directories above it are made.
    pub path: String,
    /// The new content.
    pub content: String,
    /// How to read `content`.
    #[serde(default)]
    pub encoding: Encoding,
    /// Permission bits; those of the file that is replaced, or 0644.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "0644")]
    pub mode: Option<String>,
    /// Write only if the file has this `etag` now; `*`: only if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_match: Option<String>,
}

/// The body of `POST …/files/upload`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UploadFile {
    /// The directory; made where it is missing.
    pub target_dir: String,
    /// A name without `/`.
    pub file_name: String,
    /// The content.
    pub content: String,
    /// How to read `content`.
    #[serde(default)]
    pub encoding: Encoding,
}

/// The body of `POST …/files/mkdir`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MakeDirectory {
    /// Where; directories above it are made.
    pub path: String,
}

/// The body of `POST …/files/move` and `POST …/files/copy`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FromTo {
    /// What.
    pub from: String,
    /// Its new path, not the directory to put it into.
    pub to: String,
    /// Replace a file that is there; a directory is replaced only if it is empty.
    #[serde(default)]
    pub overwrite: bool,
}

/// The body of `POST …/files/chmod`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeMode {
    /// What; a link is followed.
    pub path: String,
    /// Permission bits, 0000 to 0777.
    #[schema(example = "0755")]
    pub mode: String,
}

/// The answer of `POST …/files/copy`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct CopyReport {
    /// The copy.
    pub entry: Entry,
    /// Regular files copied.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Devices, sockets and pipes, which are not copied.
    pub skipped: u64,
}

/// The answer of `POST …/files/archive`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
pub struct ExtractReport {
    /// Files and links written.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// The format of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub enum ArchiveFormat {
    /// Tar (POSIX.1-2001 pax where needed) in gzip (RFC 1952).
    #[serde(rename = "tar.gz")]
    TarGz,
    /// Zip (APPNOTE 6.3), with zip64 where needed.
    #[serde(rename = "zip")]
    Zip,
}

impl ArchiveFormat {
    /// Returns the name, which is also the extension of a file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TarGz => "tar.gz",
            Self::Zip => "zip",
        }
    }
}

impl std::str::FromStr for ArchiveFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "tar.gz" | "tgz" => Ok(Self::TarGz),
            "zip" => Ok(Self::Zip),
            _ => Err(UnknownFormat),
        }
    }
}

/// No such [`ArchiveFormat`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither tar.gz nor zip")]
pub struct UnknownFormat;

/// The answer of `GET …/files/search`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct SearchResult {
    /// In the order of paths and lines.
    pub matches: Vec<SearchMatch>,
    /// Whether a limit (matches, bytes, time) ended the search early.
    pub truncated: bool,
    /// Files looked into.
    pub files_searched: u64,
}

/// One line in which something was found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct SearchMatch {
    /// Absolute, as the instance sees it.
    pub path: String,
    /// The line, from 1.
    pub line: u64,
    /// The first character of the match in its line, from 1.
    pub column: u64,
    /// The line without its end, at most 1,000 characters.
    pub text: String,
}

/// The data of an event of `GET …/files/watch`; `event:` is its `change`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[schema(as = FileWatchEvent)]
pub struct WatchEvent {
    /// What happened.
    pub change: WatchChange,
    /// To what, absolute as the instance sees it; of a move, the new path.
    pub path: String,
    /// Where it was before it was moved, if that is watched too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What it is, where known.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<FileKind>,
}

/// Kinds of [`WatchEvent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = FileWatchChange)]
pub enum WatchChange {
    /// The first event: from here on nothing is missed.
    Ready,
    /// It is there; also what was moved here from where nobody watches.
    Created,
    /// Its content or permissions changed.
    Modified,
    /// It is gone; also what was moved away to where nobody watches.
    Deleted,
    /// It has another path.
    Moved,
    /// Too much happened at once and some of it was missed: list again.
    Overflow,
}

impl WatchChange {
    /// Returns the word, as on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Created => "created",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
            Self::Moved => "moved",
            Self::Overflow => "overflow",
        }
    }
}

/// The body of `POST …/files/url`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FileUrlRequest {
    /// Which file.
    pub path: String,
    /// What the URL is for.
    #[serde(default)]
    pub method: FileUrlMethod,
    /// How long it works; 1 to 604,800 (a week), default 900.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_seconds: Option<u32>,
}

/// What a signed URL is for.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum FileUrlMethod {
    /// Download.
    #[default]
    Get,
    /// Upload.
    Put,
}

/// The answer of `POST …/files/url`: a URL that needs no other credentials.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct FileUrl {
    /// For this file and method only.
    pub url: String,
    /// What it is for.
    pub method: FileUrlMethod,
    /// When it ends to work; earlier if the key that made it is revoked.
    pub expires_at: Timestamp,
}
