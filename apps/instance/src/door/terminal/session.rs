//! A terminal: a process on a PTY, the end of its output, and whoever looks at it.
//!
//! Output goes into one [`Ring`]; each viewer has a place in it and takes from there at its own pace, so a viewer costs no
//! queue, and what it sees has no gap and nothing twice, from the replay on. The PTY is read:
//! - while the fastest viewer keeps up; when none does, it waits, and with it the process that writes;
//! - waiting [`AT_RISK_WAIT`] at a time for a viewer that would lose bytes, so that one that moves can stay and one that
//!   does not holds up nobody for long: it is then cut;
//! - with nobody there, at [`DETACHED_BYTES_PER_SECOND`]: what runs goes on, and endless output costs little.
//!
//! The master shares its flags with hands' copy. Whoever made it blocking there could hold up a thread of this door, which
//! is the tenant's own.

use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use reef_door::terminal::{REPLAY_BYTES, TerminalExit, TerminalSession};
use reef_model::{Clock, TerminalId, Timestamp};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot, watch},
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{ring::Ring, told};
use crate::{
    door::work::{Process, WorkError},
    wire::work::{End, Size},
};

/// The most that is read at once.
const READ_BYTES: usize = 64 << 10;
/// The most that a viewer is given at once; its socket keeps a buffer as large as its largest frame.
const PIECE_BYTES: usize = 16 << 10;
/// How far the PTY may be ahead of the fastest viewer.
const LEAD_BYTES: u64 = 64 << 10;
/// How long a viewer that would lose bytes is waited for.
const AT_RISK_WAIT: Duration = Duration::from_millis(100);
const DETACHED_BYTES_PER_SECOND: u32 = 1 << 20;
/// How long a PTY must be silent after the end of its process until that was all.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// Signals and kills that wait for their turn.
const ORDERS: usize = 16;

/// A terminal.
pub(super) struct Session {
    pub(super) id: TerminalId,
    command: Option<String>,
    created_at: Timestamp,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Sent after everything that viewers may want to see.
    changed: watch::Sender<()>,
    /// Told when a viewer has moved, come or gone.
    moved: Notify,
    orders: mpsc::Sender<Order>,
}

struct State {
    ring: Ring,
    /// Their places in the ring.
    viewers: HashMap<u64, u64>,
    next_viewer: u64,
    size: Size,
    /// `None` after the end.
    master: Option<Arc<AsyncFd<OwnedFd>>>,
    end: Option<Ended>,
    active_at: Timestamp,
    active: Instant,
}

/// How the process ended; `None` inside: together with hands.
type Ended = Option<End>;

enum Order {
    Signal(i32, oneshot::Sender<Result<(), WorkError>>),
    Kill,
}

/// Whether the PTY may be read.
enum Room {
    Free,
    /// After a while, if nothing moves.
    Soon,
    No,
}

impl Session {
    /// Takes over a process and its terminal; the session goes on by itself until that ends.
    pub(super) fn start(
        command: Option<String>,
        size: Size,
        process: Process,
        master: OwnedFd,
        clock: Arc<dyn Clock>,
        idle_limit: Duration,
        permit: OwnedSemaphorePermit,
    ) -> io::Result<Arc<Self>> {
        rustix::io::ioctl_fionbio(&master, true)?;
        #[expect(
            unsafe_code,
            reason = "an owned descriptor stays open and the same for as long as it is owned"
        )]
        let master = Arc::new(unsafe { AsyncFd::register(master) }?);
        let (orders, taken) = mpsc::channel(ORDERS);
        let now = clock.now();
        let session = Arc::new(Self {
            id: TerminalId::generate(),
            command,
            created_at: now,
            clock,
            state: Mutex::new(State {
                ring: Ring::new(REPLAY_BYTES),
                viewers: HashMap::new(),
                next_viewer: 0,
                size,
                master: Some(master.clone()),
                end: None,
                active_at: now,
                active: Instant::now(),
            }),
            changed: watch::Sender::new(()),
            moved: Notify::new(),
            orders,
        });
        let running = session.clone();
        tokio::spawn(async move {
            running.run(process, taken, master, idle_limit).await;
            drop(permit);
        });
        Ok(session)
    }

    /// Adds a viewer, which begins with what is kept.
    pub(super) fn attach(self: &Arc<Self>) -> Viewer {
        let mut state = self.lock();
        let number = state.next_viewer;
        state.next_viewer += 1;
        let place = state.ring.clean_start();
        state.viewers.insert(number, place);
        state.active = Instant::now();
        let (replay_end, size) = (state.ring.end(), state.size);
        drop(state);
        self.moved.notify_one();
        Viewer {
            session: self.clone(),
            number,
            place,
            replay: replay_end - place,
            size,
            changes: self.changed.subscribe(),
        }
    }

    /// Types; returns how many bytes were taken, at least one.
    ///
    /// # Errors
    /// After the end.
    ///
    /// # Cancel safety
    /// Safe: nothing was taken.
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let master = {
            let mut state = self.lock();
            self.touch(&mut state);
            state.master.clone().ok_or(io::ErrorKind::BrokenPipe)?
        };
        master.async_io(Interest::WRITABLE, |master| Ok(rustix::io::write(master, bytes)?)).await
    }

    /// Sets the size; the process is told by SIGWINCH, the viewers by [`View::Resized`].
    pub(super) fn resize(&self, size: Size) {
        let mut state = self.lock();
        if state.size == size {
            return;
        }
        if let Some(master) = &state.master {
            let winsize = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
            // It fails when the process has just ended.
            let _ = tcsetwinsize(master.get_ref(), winsize);
        }
        state.size = size;
        drop(state);
        self.changed.send_replace(());
    }

    /// Sends a signal to the foreground; an error says to the client why not.
    pub(super) async fn signal(&self, signal: i32) -> Result<(), String> {
        let (done, sent) = oneshot::channel();
        // Nobody takes it after the end.
        let _ = self.orders.send(Order::Signal(signal, done)).await;
        match sent.await {
            Ok(sent) => sent.map_err(|error| format!("the signal cannot be sent: {error}")),
            Err(_) => Err("the process has ended".to_owned()),
        }
    }

    /// Ends the process with everything that it started, by and by.
    pub(super) fn kill(&self) {
        // Full: signals that nobody waits for; the next look comes soon enough for a second try.
        if let Err(mpsc::error::TrySendError::Full(order)) = self.orders.try_send(Order::Kill) {
            let orders = self.orders.clone();
            tokio::spawn(async move { orders.send(order).await.is_ok() });
        }
    }

    /// Returns how it ended, if it did.
    pub(super) fn end(&self) -> Option<Ended> {
        self.lock().end
    }

    /// Returns how much the process has written.
    #[cfg(test)]
    pub(super) fn written(&self) -> u64 {
        self.lock().ring.end()
    }

    /// Waits for the end.
    pub(super) async fn ended(&self) {
        let mut changes = self.changed.subscribe();
        while self.end().is_none() {
            // The sender is in `self`.
            let _ = changes.changed().await;
        }
    }

    /// Returns what a list shows.
    pub(super) fn describe(&self) -> TerminalSession {
        let state = self.lock();
        TerminalSession {
            id: self.id,
            command: self.command.clone(),
            cols: state.size.cols,
            rows: state.size.rows,
            viewers: u32::try_from(state.viewers.len()).unwrap_or(u32::MAX),
            created_at: self.created_at,
            last_active_at: state.active_at,
            exit: state.end.map(|end| {
                let (code, signal) = told(end);
                TerminalExit { code, signal }
            }),
        }
    }

    async fn run(
        &self,
        mut process: Process,
        mut orders: mpsc::Receiver<Order>,
        master: Arc<AsyncFd<OwnedFd>>,
        idle_limit: Duration,
    ) {
        let gone = CancellationToken::new();
        let control = async {
            let end = loop {
                tokio::select! {
                    end = process.wait() => break end,
                    order = orders.recv() => match order {
                        // Whoever asked may have gone.
                        Some(Order::Signal(signal, done)) => drop(done.send(process.signal(signal).await)),
                        Some(Order::Kill) | None => drop(process.kill_tree().await),
                    },
                    () = self.idle_for(idle_limit) => {
                        tracing::info!(terminal = %self.id, "an idle terminal is ended");
                        drop(process.kill_tree().await);
                    }
                }
            };
            gone.cancel();
            end
        };
        let (end, ()) = tokio::join!(control, self.pump(&master, &gone));
        let mut state = self.lock();
        state.master = None;
        state.end = Some(end);
        drop(state);
        self.changed.send_replace(());
    }

    /// Waits until nobody has looked, typed or written anything for `limit`.
    async fn idle_for(&self, limit: Duration) {
        loop {
            let since = {
                let state = self.lock();
                if state.viewers.is_empty() { state.active } else { Instant::now() }
            };
            if since.elapsed() >= limit {
                return;
            }
            sleep_until(since + limit).await;
        }
    }

    /// Moves the PTY's output into the ring, until its end or, once the process is `gone`, its last words.
    async fn pump(&self, master: &AsyncFd<OwnedFd>, gone: &CancellationToken) {
        // A daemon may hold the terminal and write on.
        let mut last_words = REPLAY_BYTES;
        loop {
            tokio::select! {
                biased;
                () = self.room() => {}
                // Then what is left is taken without: a viewer that does not read must not keep it from ending.
                () = async { gone.cancelled().await; sleep(LAST_WORDS).await } => {}
            }
            let ready = tokio::select! {
                biased;
                ready = master.readable() => ready,
                () = async { gone.cancelled().await; sleep(LAST_WORDS).await } => return,
            };
            let Ok(mut ready) = ready else { return };
            // Here only while there is something to move.
            let mut chunk = Vec::with_capacity(READ_BYTES);
            let is_over = loop {
                let read = ready.try_io(|master| {
                    Ok(rustix::io::read(master, rustix::buffer::spare_capacity(&mut chunk))?)
                });
                match read {
                    Ok(Ok(0)) => break true,
                    Ok(Ok(_)) if chunk.len() < READ_BYTES => {}
                    // There is nothing more at present.
                    Ok(Ok(_)) | Err(_) => break false,
                    Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                    // EIO: nobody has the other side open any more.
                    Ok(Err(_)) => break true,
                }
            };
            drop(ready);
            if gone.is_cancelled() {
                last_words = last_words.saturating_sub(chunk.len());
            }
            let has_viewers = self.push(&chunk);
            let read = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
            drop(chunk);
            if is_over || last_words == 0 {
                return;
            }
            if !has_viewers {
                let pause = Duration::from_secs(1) * read / DETACHED_BYTES_PER_SECOND;
                let _ = timeout_at(Instant::now() + pause, self.moved.notified()).await;
            }
        }
    }

    /// Appends output; returns whether somebody is there to see it.
    fn push(&self, bytes: &[u8]) -> bool {
        let mut state = self.lock();
        if !bytes.is_empty() {
            state.ring.push(bytes);
            self.touch(&mut state);
        }
        let has_viewers = !state.viewers.is_empty();
        drop(state);
        self.changed.send_replace(());
        has_viewers
    }

    /// Waits until the PTY may be read.
    async fn room(&self) {
        let mut deadline = None;
        loop {
            let room = self.lock().room();
            match room {
                Room::Free => return,
                Room::No => self.moved.notified().await,
                Room::Soon => {
                    let deadline = *deadline.get_or_insert_with(|| Instant::now() + AT_RISK_WAIT);
                    if timeout_at(deadline, self.moved.notified()).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn touch(&self, state: &mut State) {
        state.active_at = self.clock.now();
        state.active = Instant::now();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn room(&self) -> Room {
        let (start, end) = (self.ring.start(), self.ring.end());
        let Some(furthest) = self.viewers.values().max() else { return Room::Free };
        if furthest + LEAD_BYTES <= end {
            return Room::No;
        }
        let lost_next = (end + READ_BYTES as u64).saturating_sub(REPLAY_BYTES as u64);
        if self.viewers.values().any(|place| (start..lost_next).contains(place)) {
            Room::Soon
        } else {
            Room::Free
        }
    }
}

/// One who looks at a terminal; dropped, it has gone.
pub(super) struct Viewer {
    pub(super) session: Arc<Session>,
    number: u64,
    /// Of the next byte to see.
    pub(super) place: u64,
    /// Bytes from there that were written before it came.
    pub(super) replay: u64,
    /// What it was told last.
    pub(super) size: Size,
    changes: watch::Receiver<()>,
}

/// What a viewer sees next.
pub(super) enum View {
    /// Output; to be acknowledged by [`Viewer::took`].
    Output(Bytes),
    /// The terminal has another size.
    Resized(Size),
    /// It ended, and everything before that was seen.
    Ended(Ended),
    /// What should come next is not kept any more.
    TooSlow,
}

impl Viewer {
    /// Waits for what is next.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn next(&mut self) -> View {
        loop {
            self.changes.mark_unchanged();
            if let Some(view) = self.look() {
                return view;
            }
            // The sender is in the session.
            let _ = self.changes.changed().await;
        }
    }

    /// Moves on behind `count` bytes that were [`View::Output`].
    pub(super) fn took(&mut self, count: usize) {
        self.place += count as u64;
        self.session.lock().viewers.insert(self.number, self.place);
        self.session.moved.notify_one();
    }

    fn look(&mut self) -> Option<View> {
        let state = self.session.lock();
        if state.size != self.size {
            self.size = state.size;
            return Some(View::Resized(state.size));
        }
        match state.ring.read(self.place, PIECE_BYTES) {
            None => Some(View::TooSlow),
            Some(piece) if !piece.is_empty() => Some(View::Output(piece)),
            Some(_) => state.end.map(View::Ended),
        }
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let mut state = self.session.lock();
        state.viewers.remove(&self.number);
        state.active = Instant::now();
        drop(state);
        self.session.moved.notify_one();
    }
}
