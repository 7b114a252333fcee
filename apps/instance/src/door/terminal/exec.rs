//! `POST /terminal/exec`: one command, and its output at the end or as it comes.
//!
//! A task of its own holds the process: it ends with its whole tree when its time is over or when the request is gone,
//! whether or not somebody reads the answer. What the command left running as a daemon when it ended by itself stays; its
//! output is not waited for.

use std::{convert::Infallible, io, os::fd::OwnedFd, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use bytes::BytesMut;
use futures_util::{FutureExt, Stream, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use reef_door::{
    ErrorCode,
    terminal::{
        EXEC_TIMEOUT_MS, ExecExit, ExecOutput, ExecRequest, ExecResult, MAX_EXEC_OUTPUT, MAX_EXEC_TIMEOUT_MS,
    },
};
use serde::Serialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe::{Receiver, Sender},
    sync::oneshot,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    MAX_COMMANDS, Terminals, spawn,
    text::{Decoder, lossy_cut},
    told, too_many,
};
use crate::{
    door::{
        problem::{Body, Problem},
        work::Process,
    },
    wire::work::End,
};

const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long output is waited for after the end of the command: some shells do not wait for all that they started.
pub(super) const LAST_WORDS: Duration = Duration::from_millis(250);
/// How long a killed tree may take to be reported.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// What is read at once.
const READ_BYTES: usize = 64 << 10;
/// Pause after each read of output that is thrown away, so that endless output costs little.
const SURPLUS_PAUSE: Duration = Duration::from_millis(4);
/// The largest piece of text in an event.
const PIECE_BYTES: usize = 16 << 10;

/// Runs a command.
pub(super) async fn exec(
    State(terminals): State<Arc<Terminals>>,
    headers: HeaderMap,
    Body { value: request, .. }: Body<ExecRequest>,
) -> Result<Response, Problem> {
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let is_streamed = accepts.contains("text/event-stream");
    let run = Run::start(&terminals, request).await?;
    if is_streamed { Ok(sse(run.events())) } else { Ok(Json(run.result().await).into_response()) }
}

/// A command that runs; dropped, it is killed.
struct Run {
    stdout: Receiver,
    stderr: Receiver,
    ended: oneshot::Receiver<ExecExit>,
    _stop: DropGuard,
}

impl Run {
    async fn start(terminals: &Terminals, request: ExecRequest) -> Result<Self, Problem> {
        let limit = request.timeout_ms.unwrap_or(EXEC_TIMEOUT_MS);
        if !(1..=MAX_EXEC_TIMEOUT_MS).contains(&limit) {
            let wanted = format!("must be from 1 to {MAX_EXEC_TIMEOUT_MS}");
            return Err(Problem::field("timeout_ms", &wanted));
        }
        let spawn = spawn::of_request(&request)?;
        let permit = terminals.commands.clone().try_acquire_owned();
        let permit = permit.map_err(|_| too_many("running commands", MAX_COMMANDS))?;
        let Pipes { ours: (stdin, stdout, stderr), theirs } = Pipes::open().map_err(|error| {
            tracing::error!(%error, "no pipes for a command");
            Problem::new(ErrorCode::InternalError, "The instance has no pipes left. Try again in a moment.")
        })?;
        let began = Instant::now();
        let (process, _) = terminals.work.spawn(spawn, theirs).await.map_err(spawn::problem)?;
        let stop = CancellationToken::new();
        let (sender, ended) = oneshot::channel();
        let stopped = stop.clone().cancelled_owned();
        let input = request.stdin.unwrap_or_default();
        let limit = began + Duration::from_millis(limit);
        tokio::spawn(async move {
            let end = tokio::select! {
                end = supervise(process, stdin, input, limit) => Some(end),
                // The process is dropped, and so killed.
                () = stopped => None,
            };
            drop(permit);
            if let Some((end, timed_out)) = end {
                let (exit_code, signal) = told(end);
                let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                // Nobody may be there to be told.
                let _ = sender.send(ExecExit { exit_code, signal, timed_out, duration_ms });
            }
        });
        Ok(Self { stdout, stderr, ended, _stop: stop.drop_guard() })
    }

    /// Waits for the end; keeps the beginning of the output and throws away the rest.
    async fn result(mut self) -> ExecResult {
        let (mut stdout, mut stderr) = (Capture::default(), Capture::default());
        let exit = {
            let reading = async {
                tokio::join!(stdout.fill(&mut self.stdout), stderr.fill(&mut self.stderr));
            };
            tokio::pin!(reading);
            tokio::select! {
                () = &mut reading => (&mut self.ended).await,
                exit = &mut self.ended => {
                    let _ = timeout(LAST_WORDS, reading).await;
                    exit
                }
            }
        };
        let ExecExit { exit_code, signal, timed_out, duration_ms } = exit.unwrap_or_else(|_| lost());
        ExecResult {
            exit_code,
            signal,
            truncated: stdout.is_cut || stderr.is_cut,
            stdout: stdout.text(),
            stderr: stderr.text(),
            timed_out,
            duration_ms,
        }
    }

    /// Yields the output as it comes, read only as fast as it is asked for, and at last the exit.
    fn events(self) -> impl Stream<Item = Event> {
        async_stream::stream! {
            // All of it: a field that is not named would be dropped at once.
            let Self { stdout: mut stdout_pipe, stderr: mut stderr_pipe, mut ended, _stop } = self;
            let mut id = 0;
            let (mut stdout, mut stderr) = (Text::default(), Text::default());
            let (mut exit, mut deadline) = (None, None);
            while !(stdout.is_over && stderr.is_over && exit.is_some()) {
                tokio::select! {
                    text = stdout.next(&mut stdout_pipe), if !stdout.is_over => {
                        if !text.is_empty() {
                            yield event(&mut id, "stdout", &ExecOutput { text });
                        }
                    }
                    text = stderr.next(&mut stderr_pipe), if !stderr.is_over => {
                        if !text.is_empty() {
                            yield event(&mut id, "stderr", &ExecOutput { text });
                        }
                    }
                    end = &mut ended, if exit.is_none() => {
                        exit = Some(end.unwrap_or_else(|_| lost()));
                        deadline = Some(Instant::now() + LAST_WORDS);
                    }
                    () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => break,
                }
            }
            // The reader of this may have been slower than the command: what is there already is not lost.
            for (name, text, pipe) in
                [("stdout", &mut stdout, &mut stdout_pipe), ("stderr", &mut stderr, &mut stderr_pipe)]
            {
                let most = text.read_bytes + READ_BYTES;
                while text.read_bytes < most && !text.is_over {
                    let Some(text) = text.next(pipe).now_or_never() else { break };
                    if !text.is_empty() {
                        yield event(&mut id, name, &ExecOutput { text });
                    }
                }
            }
            yield event(&mut id, "exit", &exit.unwrap_or_else(lost));
        }
    }
}

/// Waits for the end of the command, and makes one when its time is over; returns whether it was that.
async fn supervise(
    mut process: Process,
    mut stdin: Sender,
    input: String,
    limit: Instant,
) -> (Option<End>, bool) {
    let feeding = async {
        // It need not read all of it, or any.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop((stdin, input));
        std::future::pending().await
    };
    tokio::select! {
        end = process.wait() => (end, false),
        () = sleep_until(limit) => {
            let killed = async {
                let _ = process.kill_tree().await;
                process.wait().await
            };
            (timeout(KILL_LIMIT, killed).await.unwrap_or(None), true)
        }
        never = feeding => never,
    }
}

/// What is said of a command whose end nobody has seen: this program is going down, and it with that.
fn lost() -> ExecExit {
    let (exit_code, signal) = told(None);
    ExecExit { exit_code, signal, timed_out: false, duration_ms: 0 }
}

/// The three pipes of a command.
struct Pipes {
    ours: (Sender, Receiver, Receiver),
    theirs: Vec<OwnedFd>,
}

impl Pipes {
    fn open() -> io::Result<Self> {
        let (stdin_reader, stdin) = io::pipe()?;
        let (stdout, stdout_writer) = io::pipe()?;
        let (stderr, stderr_writer) = io::pipe()?;
        Ok(Self {
            ours: (
                Sender::from_owned_fd(stdin.into())?,
                Receiver::from_owned_fd(stdout.into())?,
                Receiver::from_owned_fd(stderr.into())?,
            ),
            theirs: vec![stdin_reader.into(), stdout_writer.into(), stderr_writer.into()],
        })
    }
}

/// The beginning of an output.
#[derive(Default)]
struct Capture {
    kept: Vec<u8>,
    is_cut: bool,
}

impl Capture {
    async fn fill(&mut self, pipe: &mut Receiver) {
        let mut chunk = Vec::with_capacity(READ_BYTES);
        while let Ok(1..) = pipe.read_buf(&mut chunk).await {
            let room = MAX_EXEC_OUTPUT - self.kept.len();
            self.kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                self.is_cut = true;
                sleep(SURPLUS_PAUSE).await;
            }
            chunk.clear();
        }
    }

    fn text(&self) -> String {
        if self.is_cut { lossy_cut(&self.kept) } else { String::from_utf8_lossy(&self.kept).into_owned() }
    }
}

/// An output as text.
#[derive(Default)]
struct Text {
    decoder: Decoder,
    read_bytes: usize,
    is_over: bool,
}

impl Text {
    /// Returns the next piece; empty at the end, or where a character is not complete.
    ///
    /// # Cancel safety
    /// Safe: nothing was read.
    async fn next(&mut self, pipe: &mut Receiver) -> String {
        loop {
            let ready = pipe.readable().await;
            let mut chunk = BytesMut::with_capacity(PIECE_BYTES);
            match ready.and_then(|()| pipe.try_read_buf(&mut chunk)) {
                Ok(count @ 1..) => {
                    self.read_bytes += count;
                    return self.decoder.push(&chunk);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => {
                    self.is_over = true;
                    return std::mem::take(&mut self.decoder).finish();
                }
            }
        }
    }
}

fn event(id: &mut u64, name: &str, data: &impl Serialize) -> Event {
    *id += 1;
    let event = Event::default().id(id.to_string()).event(name);
    event.json_data(data).expect("texts and numbers can be written as JSON")
}

fn sse(events: impl Stream<Item = Event> + Send + 'static) -> Response {
    let events = events.map(Ok::<_, Infallible>);
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}
