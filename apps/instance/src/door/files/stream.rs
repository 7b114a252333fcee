//! What hands writes to a pipe or reads from one: listings, matches, archives, changes.

use std::{convert::Infallible, io, os::fd::OwnedFd, time::Duration};

use async_stream::{stream, try_stream};
use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Request, State},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use bytes::BytesMut;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reef_door::files::{ArchiveFormat, Entry, ExtractReport, SearchMatch, SearchResult, WatchEvent};
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::unix::pipe,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Files,
    content::{attachment, insert},
    failure::nonsense,
    path_of,
    upload::drain,
};
use crate::{
    door::{
        held::{Room, json_in},
        problem::{Params, Problem},
    },
    wire::files::{Call, List, Reply, Search},
};

const LIST_LIMIT: u32 = 1000;
const MAX_LIST: u32 = 10_000;
const SEARCH_LIMIT: u32 = 200;
const MAX_SEARCH: u32 = 1000;
/// Bytes of entries or matches that one answer may have; far more than honest ones need.
const MAX_LINES: u64 = 64 << 20;
/// Bytes of them that are read whatever else is held.
const FEW_LINES: u64 = 1 << 20;
/// Bytes of one change.
const MAX_LINE: u64 = 128 << 10;
/// Bytes of an archive that are carried at a time, and that the pipe holds.
const CHUNK: usize = 256 << 10;
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Lists a directory.
pub(super) async fn list(State(files): State<Files>, params: Params) -> Result<Response, Problem> {
    let limit = limit(&params, LIST_LIMIT, MAX_LIST)?;
    let (path, recursive) = (path_of(&params)?, params.switch("recursive")?);
    let list = List {
        path: path.clone(),
        recursive,
        limit,
        cursor: params.get("cursor", "the X-Next-Cursor of an earlier page")?,
    };
    let Lines { reply, all, room } = lines::<Entry>(&files, Call::List(list)).await?;
    let Reply::Listed(next) = reply else { return Err(nonsense()) };
    let mut response = json_in(room, &all)?;
    if let Some(next) = next {
        let path = utf8_percent_encode(&path, NON_ALPHANUMERIC);
        let next = utf8_percent_encode(&next, NON_ALPHANUMERIC).to_string();
        let link = format!("<?path={path}&recursive={recursive}&limit={limit}&cursor={next}>; rel=\"next\"");
        insert(response.headers_mut(), header::LINK, &link);
        insert(response.headers_mut(), HeaderName::from_static("x-next-cursor"), &next);
    }
    Ok(response)
}

/// Searches files.
pub(super) async fn search(State(files): State<Files>, params: Params) -> Result<Response, Problem> {
    let query = params.get::<String>("query", "a text")?.filter(|query| !query.is_empty());
    let search = Search {
        path: path_of(&params)?,
        query: query.ok_or_else(|| Problem::field("query", "is missing: what to look for"))?,
        regex: params.switch("regex")?,
        ignore_case: params.switch("ignore_case")?,
        glob: params.get::<String>("glob", "a pattern like *.rs")?.filter(|glob| !glob.is_empty()),
        gitignore: params.switch("gitignore")?,
        hidden: params.switch("hidden")?,
        limit: limit(&params, SEARCH_LIMIT, MAX_SEARCH)?,
    };
    let Lines { reply, all: matches, room } = lines::<SearchMatch>(&files, Call::Search(search)).await?;
    let Reply::Searched { files: files_searched, truncated } = reply else { return Err(nonsense()) };
    json_in(room, &SearchResult { matches, truncated, files_searched })
}

/// Packs a directory or file.
pub(super) async fn archive(State(files): State<Files>, params: Params) -> Result<Response, Problem> {
    let path = path_of(&params)?;
    let format = params.get("format", "tar.gz or zip")?.unwrap_or(ArchiveFormat::TarGz);
    let name = path.trim_end_matches('/').rsplit('/').next().filter(|name| !matches!(*name, "" | "." | "~"));
    let name = format!("{}.{}", name.unwrap_or("files"), format.as_str());
    let mut running = Running::reading(&files, Call::Archive { path, format })?;
    let mut buffer = BytesMut::new();
    // With the first bytes it is known that there is something.
    if running.read(&mut buffer).await? == 0 {
        running.done().await?;
        return Err(nonsense());
    }
    let body = try_stream! {
        loop {
            yield buffer.split().freeze();
            if running.read(&mut buffer).await.map_err(|_| broken())? == 0 {
                break;
            }
        }
        // Not whole: the body breaks off, it does not end.
        running.done().await.map_err(|_| broken())?;
    };
    let body = Body::from_stream(body.map(|chunk: Result<Bytes, io::Error>| chunk));
    let mut response = Response::new(body);
    let kind = match format {
        ArchiveFormat::TarGz => "application/gzip",
        ArchiveFormat::Zip => "application/zip",
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    insert(headers, header::CONTENT_DISPOSITION, &attachment(&name));
    Ok(response)
}

/// Unpacks the raw body.
pub(super) async fn extract(
    State(files): State<Files>,
    params: Params,
    request: Request,
) -> Result<Json<ExtractReport>, Problem> {
    let path = path_of(&params)?;
    let (read, write) = new_pipe()?;
    let asking = ask(&files, Call::Extract { path }, read);
    let mut pipe = pipe::Sender::from_owned_fd(write).map_err(|_| nonsense())?;
    let mut body = request.into_body().into_data_stream();
    while let Some(chunk) = body.next().await {
        // What is cut off hands finds out by itself; and when it reads no more, it has said why.
        let Ok(chunk) = chunk else { break };
        if pipe.write_all(&chunk).await.is_err() {
            break;
        }
    }
    drop(pipe);
    let result = asking.await.map_err(|_| nonsense())?;
    drain(body).await;
    match result? {
        Reply::Extracted(report) => Ok(Json(report)),
        _ => Err(nonsense()),
    }
}

/// Streams what changes, as server-sent events.
pub(super) async fn watch(State(files): State<Files>, params: Params) -> Result<Response, Problem> {
    let call = Call::Watch { path: path_of(&params)?, recursive: params.switch("recursive")? };
    let Running { pipe, asking } = Running::reading(&files, call)?;
    let mut lines = BufReader::new(pipe);
    let Some(first) = next_change(&mut lines).await else {
        asking.await.map_err(|_| nonsense())??;
        return Err(nonsense());
    };
    let events = stream! {
        let _asking = asking;
        let mut next = Some(first);
        let mut id = 0_u64;
        while let Some(change) = next {
            id += 1;
            let event = Event::default().id(id.to_string()).event(change.change.as_str());
            if let Ok(event) = event.json_data(&change) {
                yield Ok::<_, Infallible>(event);
            }
            next = next_change(&mut lines).await;
        }
    };
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response();
    no_store(response.headers_mut());
    Ok(response)
}

fn no_store(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
}

async fn next_change(lines: &mut BufReader<pipe::Receiver>) -> Option<WatchEvent> {
    let mut line = Vec::new();
    lines.take(MAX_LINE).read_until(b'\n', &mut line).await.ok()?;
    serde_json::from_slice(&line).ok()
}

/// What a call wrote and said.
struct Lines<T> {
    reply: Reply,
    all: Vec<T>,
    room: Option<Room>,
}

/// Reads all lines that a call writes. While there is no room for many, hands waits with them.
async fn lines<T: DeserializeOwned>(files: &Files, call: Call) -> Result<Lines<T>, Problem> {
    let Running { mut pipe, asking } = Running::reading(files, call)?;
    let mut bytes = Vec::new();
    let mut read = async |most: u64| {
        (&mut pipe).take(most - bytes.len() as u64).read_to_end(&mut bytes).await.map_err(|_| nonsense())?;
        Ok::<_, Problem>(bytes.len() as u64 == most)
    };
    let mut room = None;
    if read(FEW_LINES).await? {
        room = Some(files.held.take(MAX_LINES).await?);
        if read(MAX_LINES).await? {
            return Err(Problem::field("limit", "the answer would be too large; ask for less"));
        }
    }
    let reply = asking.await.map_err(|_| nonsense())??;
    let all = serde_json::Deserializer::from_slice(&bytes).into_iter().collect::<Result<_, _>>();
    Ok(Lines { reply, all: all.map_err(|_| nonsense())?, room })
}

/// A call that writes to a pipe. Dropped, hands notices and ends it.
struct Running {
    pipe: pipe::Receiver,
    asking: Asking,
}

type Asking = AbortOnDropHandle<Result<Reply, Problem>>;

impl Running {
    fn reading(files: &Files, call: Call) -> Result<Self, Problem> {
        let (read, write) = new_pipe()?;
        let pipe = pipe::Receiver::from_owned_fd(read).map_err(|_| nonsense())?;
        Ok(Self { pipe, asking: ask(files, call, write) })
    }

    async fn read(&mut self, buffer: &mut BytesMut) -> Result<usize, Problem> {
        buffer.reserve(CHUNK);
        self.pipe.read_buf(buffer).await.map_err(|_| nonsense())
    }

    async fn done(self) -> Result<(), Problem> {
        match self.asking.await.map_err(|_| nonsense())?? {
            Reply::Done => Ok(()),
            _ => Err(nonsense()),
        }
    }
}

/// Asks in the background: while the pipe is served, somebody must wait for the answer.
fn ask(files: &Files, call: Call, fd: OwnedFd) -> Asking {
    let files = files.clone();
    let asking = async move { files.ask_with(call, vec![fd]).await.map(|(reply, _)| reply) };
    AbortOnDropHandle::new(tokio::spawn(asking))
}

fn new_pipe() -> Result<(OwnedFd, OwnedFd), Problem> {
    let (read, write) = io::pipe().map_err(|_| nonsense())?;
    // The usual 64 KiB do as well.
    let _ = rustix::pipe::fcntl_setpipe_size(&read, CHUNK);
    Ok((read.into(), write.into()))
}

fn broken() -> io::Error {
    io::Error::other("hands could not finish the archive")
}

fn limit(params: &Params, usual: u32, most: u32) -> Result<u32, Problem> {
    let limit = params.get("limit", "a whole number")?.unwrap_or(usual);
    if (1..=most).contains(&limit) {
        Ok(limit)
    } else {
        Err(Problem::field("limit", &format!("must be 1 to {most}")))
    }
}
