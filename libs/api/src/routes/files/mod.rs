//! `/api/instances/{id}/files`: passed to the door, but for the links that need no other credentials.

mod link;

use reef_door::files::{
    ChangeMode, Content, CopyReport, Entry, ExtractReport, FromTo, MakeDirectory, SearchResult, UploadFile,
    WatchEvent, WriteFile,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{ApiState, caller::Files, forward::Way, routes::pass::passed_on};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list, delete))
        .routes(routes!(read))
        .routes(routes!(write))
        .routes(routes!(mkdir))
        .routes(routes!(upload))
        .routes(routes!(stat))
        .routes(routes!(rename))
        .routes(routes!(copy))
        .routes(routes!(chmod))
        .routes(routes!(download, store))
        .routes(routes!(pack, unpack))
        .routes(routes!(search))
        .routes(routes!(watch))
        .merge(link::routes())
}

passed_on! {
    right: Files, scope: "files", tag: "Files";

    /// Lists a directory, by name.
    ///
    /// Paths are absolute in the instance and lie beneath `/workspace` or the home directory; relative ones begin at
    /// `/workspace`, `~` is the home. That holds for every route of files.
    get "/files" list = "listFiles" {
        way: Way::WORK, kind: "passthrough", wakes: true,
        params: [
            ("path" = String, Query, description = "The directory."),
            ("recursive" = Option<bool>, Query, description = "Also what is below its directories; links are not followed."),
            ("limit" = Option<u32>, Query, description = "Entries per page; 1,000 unless said.", minimum = 1, maximum = 10000),
            ("cursor" = Option<String>, Query, description = "The `X-Next-Cursor` of the page before."),
        ],
        responses((status = 200, description = "One page.", body = Vec<Entry>)),
    }

    /// Deletes a file, a link, or a directory.
    delete "/files" delete = "deleteFile" {
        way: Way::WORK, kind: "destructive", wakes: true,
        params: [
            ("path" = String, Query),
            ("recursive" = Option<bool>, Query, description = "Delete a directory with what is in it."),
            ("If-Match" = Option<String>, Header, description = "Delete the file only where it has this `ETag`."),
        ],
        responses(
            (status = 204, description = "It is gone."),
            (status = 412, description = "It has changed (`If-Match`).", body = reef_door::ErrorBody),
        ),
    }

    /// Reads a file as JSON: its first 8 MiB.
    get "/files/read" read = "readFile" {
        way: Way::PROMPT, kind: "passthrough", wakes: true,
        params: [
            ("path" = String, Query),
            ("encoding" = Option<String>, Query, description = "`utf8` or `base64`; left out: the one that fits."),
        ],
        responses((status = 200, description = "Its content.", body = Content)),
    }

    /// Writes a file, as a whole or not at all.
    post "/files/write" write = "writeFile" {
        way: Way::PROMPT, kind: "passthrough", wakes: true,
        params: [],
        request_body(content = WriteFile, example = json!({"path": "/workspace/notes.md", "content": "# Notes\n"})),
        responses(
            (status = 200, description = "The file; it was replaced.", body = Entry),
            (status = 201, description = "The file; it is new.", body = Entry),
            (status = 412, description = "It has changed (`if_match`).", body = reef_door::ErrorBody),
        ),
    }

    /// Makes a directory, and those above it; does nothing where it is there.
    post "/files/mkdir" mkdir = "makeDirectory" {
        way: Way::PROMPT, kind: "passthrough", wakes: true,
        params: [],
        request_body(content = MakeDirectory, example = json!({"path": "/workspace/reports"})),
        responses(
            (status = 200, description = "The directory; it was there.", body = Entry),
            (status = 201, description = "The directory; it is new.", body = Entry),
        ),
    }

    /// Writes a file into a directory.
    post "/files/upload" upload = "uploadFile" {
        way: Way::PROMPT, kind: "passthrough", wakes: true,
        params: [],
        request_body(content = UploadFile, example = json!({"targetDir": "/workspace/data", "fileName": "a.csv", "content": "a,b\n1,2\n"})),
        responses(
            (status = 200, description = "The file; it was replaced.", body = Entry),
            (status = 201, description = "The file; it is new.", body = Entry),
        ),
    }

    /// Tells what a path names.
    get "/files/stat" stat = "statFile" {
        way: Way::PROMPT, kind: "passthrough", wakes: true,
        params: [
            ("path" = String, Query),
            ("follow" = Option<bool>, Query, description = "Of a link, tell what it leads to."),
        ],
        responses((status = 200, description = "The entry; of a link, the link itself.", body = Entry)),
    }

    /// Moves or renames.
    post "/files/move" rename = "moveFile" {
        way: Way::WORK, kind: "passthrough", wakes: true,
        params: [],
        request_body(content = FromTo, example = json!({"from": "/workspace/a.txt", "to": "/workspace/b.txt"})),
        responses((status = 200, description = "What was moved.", body = Entry)),
    }

    /// Copies a file, or a directory with what is in it.
    post "/files/copy" copy = "copyFile" {
        way: Way::WORK, kind: "passthrough", wakes: true,
        params: [],
        request_body(content = FromTo, example = json!({"from": "/workspace/a.txt", "to": "/workspace/b.txt"})),
        responses((status = 201, description = "The copy.", body = CopyReport)),
    }

    /// Changes permission bits.
    post "/files/chmod" chmod = "changeFileMode" {
        way: Way::PROMPT, kind: "passthrough", wakes: true,
        params: [],
        request_body(content = ChangeMode, example = json!({"path": "/workspace/run.sh", "mode": "0755"})),
        responses((status = 200, description = "The entry.", body = Entry)),
    }

    /// Downloads a file: any size, whole or a range of it (RFC 9110 §14).
    get "/files/content" download = "downloadFile" {
        way: Way::BYTES, kind: "passthrough", wakes: true,
        params: [
            ("path" = String, Query),
            ("signature" = Option<String>, Query, description = "Part of a link of `POST …/files/url`; with it no other credentials are needed."),
            ("Range" = Option<String>, Header, description = "`bytes=0-1023` for instance."),
            ("If-None-Match" = Option<String>, Header, description = "Answer 304 where the file has this `ETag`."),
            ("If-Range" = Option<String>, Header, description = "Answer the range only where the file has this `ETag`."),
        ],
        responses(
            (status = 200, description = "The file; an attachment.", body = String, content_type = "*/*"),
            (status = 206, description = "The range.", body = String, content_type = "*/*"),
            (status = 304, description = "It has not changed."),
            (status = 412, description = "It has changed.", body = reef_door::ErrorBody),
            (status = 416, description = "The range is not in the file.", body = reef_door::ErrorBody),
        ),
    }

    /// Uploads a file: any size, and no half of it is ever seen.
    put "/files/content" store = "storeFile" {
        way: Way::BYTES, kind: "passthrough", wakes: true,
        params: [
            ("path" = String, Query),
            ("signature" = Option<String>, Query, description = "Part of a link of `POST …/files/url`; with it no other credentials are needed."),
            ("mode" = Option<String>, Query, description = "Permission bits, `0644` for instance; those of the file that is replaced unless said."),
            ("parents" = Option<bool>, Query, description = "Make the directories above it; so unless said."),
            ("If-Match" = Option<String>, Header, description = "Replace the file only where it has this `ETag`."),
            ("If-None-Match" = Option<String>, Header, description = "`*`: only where there is none."),
        ],
        request_body(content = String, content_type = "application/octet-stream", description = "The bytes."),
        responses(
            (status = 200, description = "The file; it was replaced.", body = Entry),
            (status = 201, description = "The file; it is new.", body = Entry),
            (status = 412, description = "It has changed, or is there.", body = reef_door::ErrorBody),
        ),
    }

    /// Downloads a directory as an archive, packed on the way.
    get "/files/archive" pack = "downloadArchive" {
        way: Way::BYTES, kind: "passthrough", wakes: true,
        params: [
            ("path" = String, Query),
            ("format" = Option<String>, Query, description = "`tar.gz` (default) or `zip`."),
        ],
        responses((status = 200, description = "The archive.", body = String, content_type = "*/*")),
    }

    /// Extracts an archive into a directory; nothing of it gets outside.
    post "/files/archive" unpack = "extractArchive" {
        way: Way::BYTES, kind: "passthrough", wakes: true,
        params: [
            ("path" = String, Query, description = "The directory; made where it is missing."),
        ],
        request_body(content = String, content_type = "application/octet-stream", description = "The archive: `tar.gz` or `zip`."),
        responses((status = 200, description = "What was extracted.", body = ExtractReport)),
    }

    /// Searches text in the files below a directory.
    get "/files/search" search = "searchFiles" {
        way: Way::WORK, kind: "passthrough", wakes: true,
        params: [
            ("path" = String, Query, description = "The directory."),
            ("query" = String, Query, description = "The text, or with `regex=true` the expression."),
            ("glob" = Option<String>, Query, description = "Only files that match, `*.md` for instance."),
            ("regex" = Option<bool>, Query, description = "`query` is a regular expression (Rust's `regex`)."),
            ("ignore_case" = Option<bool>, Query, description = "Capitals are as good as small letters."),
            ("gitignore" = Option<bool>, Query, description = "Leave out what `.gitignore` files name."),
            ("hidden" = Option<bool>, Query, description = "Also in hidden files and directories."),
            ("limit" = Option<u32>, Query, description = "At most so many matches; 200 unless said.", minimum = 1, maximum = 1000),
        ],
        responses((status = 200, description = "What was found.", body = SearchResult)),
    }

    /// Follows what happens to the files below a directory (SSE).
    get "/files/watch" watch = "watchFiles" {
        way: Way::STREAM, kind: "sse", wakes: true,
        params: [
            ("path" = String, Query, description = "The directory."),
            ("recursive" = Option<bool>, Query, description = "Also below its directories."),
        ],
        responses((status = 200, description = "Server-sent events; `data` is a FileWatchEvent.", body = WatchEvent, content_type = "text/event-stream")),
    }
}
