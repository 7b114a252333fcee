//! Files of an instance, as clients and the control plane's documentation see them.

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
