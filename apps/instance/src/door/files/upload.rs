//! Writing: a nameless file is filled and gets its name at the end.

use std::{
    fs::File,
    io::{self, IoSlice, Write},
    os::fd::OwnedFd,
    time::Duration,
};

use axum::{
    Json,
    body::{BodyDataStream, Bytes},
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::StreamExt;
use http::{HeaderMap, StatusCode, header};
use reef_door::{
    ErrorCode,
    files::{Encoding, Entry, UploadFile, WriteFile},
};
use tokio::task::JoinHandle;

use super::{Files, conditions::condition, content::insert, failure::nonsense, path_of, tree::mode_of};
use crate::{
    door::{
        problem::{Body, Params, Problem},
        work::WorkError,
    },
    wire::{
        files::{Call, Condition, Create, Reply},
        work::{self, Failure},
    },
};

/// Bytes that are gathered before they are written; as many more may come meanwhile.
const BATCH: usize = 512 * 1024;
const DRAIN_BYTES: usize = 64 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Takes the raw body as a file's new content.
pub(super) async fn put(
    State(files): State<Files>,
    params: Params,
    request: Request,
) -> Result<Response, Problem> {
    let mode = params.get::<String>("mode", "permission bits")?;
    let create = Create {
        path: path_of(&params)?,
        parents: params.get::<String>("parents", "")?.is_none() || params.switch("parents")?,
        mode: mode.as_deref().map(mode_of).transpose()?,
        size: length(request.headers()),
        condition: condition(request.headers()),
    };
    let mut body = request.into_body().into_data_stream();
    let result = fill(&files, create, &mut body).await;
    if result.is_err() {
        drain(body).await;
    }
    result
}

async fn fill(files: &Files, create: Create, body: &mut BodyDataStream) -> Result<Response, Problem> {
    let mut upload = Upload::open(files, create).await?;
    let mut batch = Batch::default();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|_| {
            Problem::new(ErrorCode::InvalidRequest, "The body broke off; nothing was written.")
        })?;
        batch.push(chunk);
        if batch.length >= BATCH {
            upload.write(std::mem::take(&mut batch)).await?;
        }
    }
    upload.write(batch).await?;
    upload.commit().await
}

/// Takes what is left of a body that nobody wants, within reason: many clients read the answer only once they have sent
/// everything.
pub(super) async fn drain(mut body: BodyDataStream) {
    let mut left = DRAIN_BYTES;
    let draining = async {
        while let Some(Ok(chunk)) = body.next().await
            && left > chunk.len()
        {
            left -= chunk.len();
        }
    };
    // Then the connection is closed.
    let _ = tokio::time::timeout(DRAIN_TIME, draining).await;
}

/// Writes the content in a JSON body.
pub(super) async fn write(
    State(files): State<Files>,
    Body { value, .. }: Body<WriteFile>,
) -> Result<Response, Problem> {
    let create = Create {
        path: value.path,
        mode: value.mode.as_deref().map(mode_of).transpose()?,
        condition: Condition { if_match: value.if_match.map(|tag| vec![tag]), if_none_match: None },
        ..Create::default()
    };
    whole(&files, create, value.content, value.encoding).await
}

/// The same with directory and name apart.
pub(super) async fn upload(
    State(files): State<Files>,
    Body { value, .. }: Body<UploadFile>,
) -> Result<Response, Problem> {
    let UploadFile { target_dir, file_name, content, encoding } = value;
    if file_name.is_empty() || file_name.contains('/') || file_name == "." || file_name == ".." {
        return Err(Problem::field("fileName", "must be a name without /"));
    }
    let dir = if target_dir.is_empty() { "." } else { target_dir.trim_end_matches('/') };
    let create = Create { path: format!("{dir}/{file_name}"), ..Create::default() };
    whole(&files, create, content, encoding).await
}

async fn whole(
    files: &Files,
    create: Create,
    content: String,
    encoding: Encoding,
) -> Result<Response, Problem> {
    let bytes = match encoding {
        Encoding::Utf8 => content.into_bytes(),
        Encoding::Base64 => BASE64_STANDARD
            .decode(content)
            .map_err(|_| Problem::field("content", "is not base64 (RFC 4648 §4, with padding)"))?,
    };
    let create = Create { parents: true, size: Some(bytes.len() as u64), ..create };
    let mut upload = Upload::open(files, create).await?;
    let mut batch = Batch::default();
    batch.push(bytes.into());
    upload.write(batch).await?;
    upload.commit().await
}

/// A file on its way; dropped before its end, nothing is left of it.
struct Upload {
    files: Files,
    number: u64,
    /// The file, or the thread that is writing to it.
    target: Target,
    is_committed: bool,
}

enum Target {
    Idle(File),
    Writing(JoinHandle<io::Result<File>>),
    Broken,
}

#[derive(Default)]
struct Batch {
    chunks: Vec<Bytes>,
    length: usize,
}

impl Batch {
    fn push(&mut self, chunk: Bytes) {
        self.length += chunk.len();
        self.chunks.push(chunk);
    }
}

impl Upload {
    /// Opens one, in a task of its own: where nobody waits any more it is dropped, and so aborted.
    async fn open(files: &Files, create: Create) -> Result<Self, Problem> {
        let opened = tokio::spawn(Self::opened(files.clone(), create));
        opened.await.map_err(|_| nonsense())?
    }

    async fn opened(files: Files, create: Create) -> Result<Self, Problem> {
        let (Reply::Upload(number), Some(file)) = files.ask(Call::Create(create)).await? else {
            return Err(nonsense());
        };
        let mut upload = Self { files: files.clone(), number, target: Target::Broken, is_committed: false };
        files.volumes.check(&file)?;
        upload.target = Target::Idle(OwnedFd::into(file));
        Ok(upload)
    }

    /// Begins to write; returns once the batch before is written.
    async fn write(&mut self, batch: Batch) -> Result<(), Problem> {
        let file = self.settle().await?;
        self.target = Target::Writing(tokio::task::spawn_blocking(move || {
            let mut file = file;
            write_all(&mut file, &batch.chunks)?;
            Ok(file)
        }));
        Ok(())
    }

    /// Waits for what is being written.
    async fn settle(&mut self) -> Result<File, Problem> {
        match std::mem::replace(&mut self.target, Target::Broken) {
            Target::Idle(file) => Ok(file),
            Target::Writing(writing) => {
                let written = writing.await.map_err(|_| nonsense())?;
                Ok(written.map_err(|error| match Failure::from(error) {
                    Failure { kind, message: _ } if kind == work::FailureKind::NoSpace => {
                        Failure::new(kind, "The disk is full; nothing was written")
                    }
                    failure => failure,
                })?)
            }
            Target::Broken => Err(nonsense()),
        }
    }

    async fn commit(mut self) -> Result<Response, Problem> {
        drop(self.settle().await?);
        let reply = self.files.ask(Call::Commit { upload: self.number }).await?;
        self.is_committed = true;
        match reply {
            (Reply::Written(entry, is_new), _) => Ok(written(*entry, is_new)),
            _ => Err(nonsense()),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.is_committed {
            let (files, upload) = (self.files.clone(), self.number);
            let abort = move || work::Call::Files(Call::Abort { upload });
            // Where hands is gone, so is the upload; where it is busy, others wait as well.
            tokio::spawn(async move {
                while let Err(WorkError::Busy) = files.work.ask(abort(), Vec::new()).await {}
            });
        }
    }
}

/// Answers with what was written: 201 where nothing was before.
pub(super) fn written(entry: Entry, is_new: bool) -> Response {
    let etag = entry.etag.clone();
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = (status, Json(entry)).into_response();
    if let Some(etag) = etag {
        insert(response.headers_mut(), header::ETAG, &etag);
    }
    response
}

fn write_all(file: &mut File, chunks: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = chunks.iter().map(|chunk| IoSlice::new(chunk)).collect();
    let mut left = slices.as_mut_slice();
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match file.write_vectored(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut left, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
