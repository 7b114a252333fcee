//! Runs the turns of one session, one after the other.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError},
    time::Duration,
};

use reef_door::chat::TurnStatus;
use reef_model::ChatSessionId;
use reef_openclaw::{
    CallError, Client,
    protocol::{Attachment, ChatSend, History, Row, Signal, SignalKind},
};
use tokio::time::Instant;

use super::{
    Chat, Worker, foreign, link,
    log::{Draft, End, LogError, OpenTurn},
    progress::{Next, Progress, REPLY_BYTES, error_of},
    verdict::{Verdict, judge, message_of_run, rows_of_turn},
};

/// How long a write that failed waits for its next try.
const WRITE_RETRY: Duration = Duration::from_secs(1);
/// Other runs of the session that are remembered until the turn has ended.
const OTHER_RUNS: usize = 16;

/// Runs a session's turns until none is left.
pub(super) async fn work(chat: &Arc<Chat>, session: ChatSessionId, worker: &Arc<Worker>) {
    loop {
        worker.inbox.take_poke();
        match chat.log.next_turn(session).await {
            Ok(Some(turn)) => {
                for signal in Runner::new(chat, worker, turn).run().await {
                    foreign::hear(chat, signal).await;
                }
            }
            Ok(None) => {
                let mut workers = chat.workers.lock().unwrap_or_else(PoisonError::into_inner);
                if !worker.inbox.take_poke() {
                    workers.remove(&session);
                    return;
                }
            }
            Err(error) => {
                tracing::error!(%error, %session, "cannot read the next turn");
                tokio::time::sleep(WRITE_RETRY).await;
            }
        }
        if chat.stopping.is_cancelled() && chat.log.next_turn(session).await.is_err() {
            return;
        }
    }
}

/// Why a turn cannot go on over this connection.
enum Trouble {
    /// The connection is gone; look again over the next one.
    Link,
    /// The log cannot be written.
    Log(LogError),
}

impl From<LogError> for Trouble {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

struct Runner<'a> {
    chat: &'a Arc<Chat>,
    worker: &'a Arc<Worker>,
    turn: OpenTurn,
    progress: Progress,
    drafts: Vec<Draft>,
    /// Since when the gateway has neither run nor answer for the turn.
    unclear_since: Option<Instant>,
    recoveries: u32,
    /// Whether the log has what was said; a run that began elsewhere may be heard of before that.
    has_message: bool,
    /// The last signal of each other run in the session, which may begin when this one has ended.
    others: VecDeque<Signal>,
}

impl<'a> Runner<'a> {
    fn new(chat: &'a Arc<Chat>, worker: &'a Arc<Worker>, turn: OpenTurn) -> Self {
        Self {
            chat,
            worker,
            progress: Progress::resume(turn.run_id.clone(), String::new(), Vec::new()),
            turn,
            drafts: Vec::new(),
            unclear_since: None,
            recoveries: 0,
            has_message: true,
            others: VecDeque::new(),
        }
    }

    /// Brings the turn to its end and logs that; returns what was heard of other runs.
    async fn run(mut self) -> VecDeque<Signal> {
        let end = match self.until_end().await {
            Ok(end) => end,
            Err(error) => {
                let is_capped = matches!(error, LogError::Capped(_));
                tracing::error!(error = format!("{:#}", anyhow::Error::new(error)), turn = %self.turn.id, "cannot log a turn");
                self.abort_quietly().await;
                self.drafts.clear();
                let (code, message) = if is_capped {
                    (
                        "log_full",
                        "The chat log of this instance is full. Delete chat sessions that you no longer need, then send the message again.",
                    )
                } else {
                    (
                        "storage_failed",
                        "The instance could not write the chat log; its disk may be full. Free space and send the message again.",
                    )
                };
                self.progress.end(TurnStatus::Failed, Some(error_of(code, message)))
            }
        };
        let drafts = std::mem::take(&mut self.drafts);
        while let Err(error) = self.chat.log.end(&self.turn, drafts.clone(), end.clone()).await {
            tracing::error!(%error, turn = %self.turn.id, "cannot log the end of a turn; trying again");
            self.chat.log.announce_stuck(self.turn.session_id, self.turn.id);
            if self.chat.stopping.is_cancelled() {
                // The next door finds the turn running and asks the gateway what became of it.
                break;
            }
            tokio::time::sleep(WRITE_RETRY).await;
        }
        self.others
    }

    async fn until_end(&mut self) -> Result<End, LogError> {
        if self.turn.is_sent {
            // An earlier door sent it, and its gateway may have gone down with it.
            self.recoveries = 1;
            let (text, tools) = self.chat.log.said_so_far(self.turn.id).await?;
            self.progress = Progress::resume(self.turn.run_id.clone(), text, tools);
        }
        if self.turn.origin.is_some() {
            self.has_message = self.chat.log.has_message(self.turn.id).await?;
        }
        loop {
            let client = match self.connection().await? {
                Ok(client) => client,
                Err(end) => return Ok(end),
            };
            match self.drive(&client).await {
                Ok(end) => return Ok(end),
                Err(Trouble::Log(error)) => return Err(error),
                Err(Trouble::Link) => {
                    self.recoveries += 1;
                    // A call may fail on a connection that lives; that one is not tried again at once.
                    tokio::time::sleep(self.chat.limits.poll / 4).await;
                    if self.recoveries > self.chat.limits.recoveries {
                        return Ok(self.interrupted(
                            "gateway_lost",
                            "The agent's gateway stopped several times during this turn.",
                        ));
                    }
                }
            }
        }
    }

    /// Waits for a connection; or returns how the turn ends without one.
    async fn connection(&mut self) -> Result<Result<Client, End>, LogError> {
        let deadline = Instant::now() + self.chat.limits.reconnect;
        loop {
            tokio::select! {
                client = link::current(self.chat) => return Ok(Ok(client)),
                () = self.chat.stopping.cancelled() => return Ok(Err(self.stopped())),
                () = tokio::time::sleep_until(deadline) => {
                    return Ok(Err(if self.turn.cancel_requested {
                        self.progress.end(TurnStatus::Cancelled, None)
                    } else if self.turn.is_sent {
                        self.interrupted("gateway_lost", "The agent's gateway stopped and did not come back in time.")
                    } else {
                        let message = "The agent's gateway is not up. Nothing was sent; try again when the instance is ready.";
                        self.progress.end(TurnStatus::Failed, Some(error_of("gateway_unavailable", message)))
                    }));
                }
                () = self.worker.cancel.notified() => {
                    self.notice_cancel().await?;
                    if self.turn.cancel_requested && !self.turn.is_sent {
                        return Ok(Err(self.progress.end(TurnStatus::Cancelled, None)));
                    }
                }
            }
        }
    }

    /// Runs the turn over one connection.
    async fn drive(&mut self, client: &Client) -> Result<End, Trouble> {
        let looked = if self.turn.is_sent { self.consult(client).await? } else { self.send(client).await? };
        if let Some(end) = looked {
            return Ok(end);
        }
        if self.turn.cancel_requested {
            self.abort(client).await?;
        }
        loop {
            let patience = if self.unclear_since.is_some() || self.turn.cancel_requested {
                self.chat.limits.poll
            } else {
                self.chat.limits.quiet
            };
            tokio::select! {
                biased;
                signals = self.worker.inbox.take() => {
                    let Some(signals) = signals else {
                        // Some were dropped; the transcript has what they said.
                        if let Some(end) = self.consult(client).await? {
                            return Ok(end);
                        }
                        continue;
                    };
                    for signal in signals {
                        if let Some(end) = self.hear(client, signal).await? {
                            return Ok(end);
                        }
                    }
                    self.flush().await?;
                }
                () = client.closed() => return Err(Trouble::Link),
                () = self.chat.stopping.cancelled() => {
                    self.abort_quietly().await;
                    return Ok(self.stopped());
                }
                () = self.worker.cancel.notified() => {
                    self.notice_cancel().await?;
                    if self.turn.cancel_requested {
                        self.abort(client).await?;
                    }
                }
                () = tokio::time::sleep(patience) => {
                    if self.turn.cancel_requested {
                        self.abort(client).await?;
                    }
                    if let Some(end) = self.consult(client).await? {
                        return Ok(end);
                    }
                }
            }
        }
    }

    /// Sends the message; the turn's id makes a second time harmless.
    async fn send(&mut self, client: &Client) -> Result<Option<End>, Trouble> {
        let Some(request) = self.chat.log.request(self.turn.id).await? else { return Ok(Some(self.lost())) };
        if !self.turn.is_sent {
            if !self.chat.log.mark_running(&self.turn).await? {
                // Cancelled at this moment: its end is in the log.
                return Ok(Some(self.progress.end(TurnStatus::Cancelled, None)));
            }
            self.turn.is_sent = true;
        }
        let attachments: Vec<Attachment> = request
            .attachments
            .into_iter()
            .map(|file| Attachment {
                r#type: "file",
                mime_type: file.mime_type,
                file_name: file.name,
                content: file.content,
            })
            .collect();
        let message = ChatSend {
            session_key: &self.turn.key,
            message: &request.message,
            idempotency_key: &self.turn.run_id,
            attachments: &attachments,
        };
        let deadline = Instant::now() + self.chat.limits.reconnect;
        loop {
            match client.chat_send(&message).await {
                Ok(sent) if sent.status == "ok" => return Box::pin(self.consult(client)).await,
                Ok(_) => {
                    self.unclear_since = None;
                    return Ok(None);
                }
                Err(CallError::Refused { retryable: true, .. })
                    if Instant::now() < deadline && !client.is_closed() =>
                {
                    tokio::time::sleep(self.chat.limits.poll / 2).await;
                }
                Err(CallError::Refused { message, .. }) => {
                    let error = error_of("rejected", &message);
                    return Ok(Some(self.progress.end(TurnStatus::Failed, Some(error))));
                }
                Err(error) => return Err(link_trouble(&error)),
            }
        }
    }

    /// Takes one signal.
    async fn hear(&mut self, client: &Client, signal: Signal) -> Result<Option<End>, Trouble> {
        if let SignalKind::Row(row) = &signal.kind
            && row.role == "user"
        {
            self.hear_user(row).await?;
            return Ok(None);
        }
        if signal.run_id != self.progress.run_id() {
            self.hear_other(signal);
            return Ok(None);
        }
        self.unclear_since = None;
        match self.progress.apply(signal.kind, &mut self.drafts) {
            // Nothing was said: steered into another run, or it had nothing to say.
            Next::End(end) if self.turn.origin.is_some() && end.is_steered() => {
                Ok(self.consult(client).await?.or(Some(*end)))
            }
            Next::Go => self.end_if_over(client).await,
            Next::End(end) => Ok(Some(*end)),
            Next::Consult => {
                self.unclear_since = Some(Instant::now());
                self.consult(client).await
            }
        }
    }

    fn take_message(&mut self, row: &Row) {
        self.has_message = true;
        self.progress.heard(&row.meta.id, row.text(), &mut self.drafts);
    }

    fn hear_other(&mut self, signal: Signal) {
        if signal.run_id.is_empty() || matches!(signal.kind, SignalKind::Row(_)) {
            return;
        }
        self.others.retain(|other| other.run_id != signal.run_id);
        if self.others.len() == OTHER_RUNS {
            self.others.pop_front();
        }
        self.others.push_back(signal);
    }

    /// Stops the run and ends the turn when the answer has grown too large.
    async fn end_if_over(&mut self, client: &Client) -> Result<Option<End>, Trouble> {
        if !self.progress.is_over() {
            return Ok(None);
        }
        self.abort(client).await?;
        Ok(Some(self.progress.end(TurnStatus::Failed, None)))
    }

    /// Takes a user's row: ours, the gateway's own that resumes the turn, or somebody else's that was steered into it.
    async fn hear_user(&mut self, row: &Row) -> Result<(), Trouble> {
        let Some(run) = row.started_run().filter(|_| self.turn.origin.is_none()) else {
            match row.started_run() {
                Some(run) if row.resumes_after_restart() => self.switch_run(run).await?,
                _ if self.turn.origin.is_some() => self.take_message(row),

                // Which run it begins is not known yet; ours has a name on its row.
                _ => self.chat.foreign.remember(&self.turn.key, row),
            }
            return Ok(());
        };
        if row.resumes_after_restart() {
            self.switch_run(run).await?;
        } else if run != self.turn.run_id && run.parse::<reef_model::TurnId>().is_err() {
            self.progress.heard(&row.meta.id, row.text(), &mut self.drafts);
        }
        Ok(())
    }

    async fn switch_run(&mut self, run: &str) -> Result<(), LogError> {
        if self.progress.run_id() != run {
            self.progress.switch_run(run);
            run.clone_into(&mut self.turn.run_id);
            self.chat.log.mark_running(&self.turn).await?;
        }
        Ok(())
    }

    /// Looks into the transcript for what became of the turn.
    async fn consult(&mut self, client: &Client) -> Result<Option<End>, Trouble> {
        let history = client.chat_history(&self.turn.key).await.map_err(|error| link_trouble(&error))?;
        let rows = rows_of_turn(&history, &self.turn.run_id, self.turn.id).unwrap_or_default();
        if !self.has_message
            && let Some(row) = message_of_run(&history, self.progress.run_id())
        {
            self.take_message(row);
        }
        let verdict = judge(&history, &self.turn.run_id, self.turn.id);
        tracing::debug!(turn = %self.turn.id, ?verdict, "looked into the transcript");
        match verdict {
            Verdict::NeverArrived if self.turn.cancel_requested => {
                Ok(Some(self.progress.end(TurnStatus::Cancelled, None)))
            }
            // It is prepared, or it left no trace.
            Verdict::NeverArrived if self.turn.origin.is_some() => {
                let is_active = history.session_info.as_ref().is_some_and(|info| info.has_active_run);
                Ok(if is_active { None } else { self.unclear(self.chat.limits.resume) })
            }
            Verdict::NeverArrived => self.send(client).await,
            Verdict::Streams { run_id, text } => {
                self.switch_run(&run_id).await?;
                self.unclear_since = None;
                self.progress.catch_up(rows.iter(), &mut self.drafts);
                self.progress.advance(&text, &mut self.drafts);
                self.flush().await?;
                self.end_if_over(client).await
            }
            // A run that waits for a free lane may do so for long; one that a restart should resume may not.
            Verdict::Pending if self.recoveries == 0 && !self.turn.cancel_requested => Ok(None),
            // What is to be cancelled must first be resumed, or it would be resumed after all.
            Verdict::Pending if self.turn.cancel_requested => Ok(self.unclear(self.chat.limits.resume)),
            Verdict::Pending => Ok(self.unclear(self.chat.limits.reconnect)),
            Verdict::Lost if self.turn.cancel_requested => Ok(self.unclear(self.chat.limits.poll)),
            Verdict::Lost => Ok(self.unclear(self.chat.limits.resume)),
            Verdict::Ended { status, error, run_id } => {
                self.switch_run(&run_id).await?;
                self.progress.catch_up(rows.iter(), &mut self.drafts);
                if status != TurnStatus::Failed {
                    let answer = self.whole_answer(client, &history, &run_id).await?;
                    self.progress.answer_from_transcript(&answer, &mut self.drafts);
                }
                Ok(Some(self.progress.end(status, error)))
            }
        }
    }

    /// Ends a turn that has been unclear for too long.
    fn unclear(&mut self, limit: Duration) -> Option<End> {
        let since = *self.unclear_since.get_or_insert_with(Instant::now);
        (since.elapsed() >= limit).then(|| {
            if self.turn.cancel_requested {
                self.progress.end(TurnStatus::Cancelled, None)
            } else {
                self.lost()
            }
        })
    }

    /// Returns the texts of a run, whole where history cuts them; no more of them than an answer may have.
    async fn whole_answer(&self, client: &Client, history: &History, run: &str) -> Result<String, Trouble> {
        let (mut texts, mut bytes) = (Vec::new(), 0);
        for row in history.messages.iter().filter(|row| row.role == "assistant" && row.is_of_run(run)) {
            let text = if row.meta.truncated {
                let whole = client.message_get(&self.turn.key, &row.meta.id).await;
                whole.map_err(|error| link_trouble(&error))?.text()
            } else {
                row.text()
            };
            if !text.is_empty() {
                bytes += text.len();
                texts.push(text);
            }
            if bytes > REPLY_BYTES {
                break;
            }
        }
        Ok(texts.join("\n\n"))
    }

    async fn flush(&mut self) -> Result<(), LogError> {
        self.chat.log.append(&self.turn, std::mem::take(&mut self.drafts)).await
    }

    async fn notice_cancel(&mut self) -> Result<(), LogError> {
        self.turn.cancel_requested |= self.chat.log.is_cancel_requested(self.turn.id).await?;
        Ok(())
    }

    /// Stops the run. Its end comes as a signal; where nothing runs, the transcript is looked into soon.
    async fn abort(&mut self, client: &Client) -> Result<(), Trouble> {
        let aborted = match self.turn.origin {
            None => client.chat_abort(&self.turn.key, self.progress.run_id()).await,
            // A run that HTTP started knows only this way.
            Some(_) => client.session_abort(&self.turn.key).await,
        };
        match aborted {
            Ok(_) | Err(CallError::Refused { .. }) => Ok(()),
            Err(error) => Err(link_trouble(&error)),
        }
    }

    /// Stops the run if that is possible at once, so that the gateway does not resume it after its next start.
    async fn abort_quietly(&self) {
        if self.turn.origin.is_some() {
            // Whoever began it decides that.
            return;
        }
        let client = self.chat.link.borrow().clone();
        if let Some(client) = client {
            let abort = client.chat_abort(&self.turn.key, self.progress.run_id());
            let _ = tokio::time::timeout(Duration::from_secs(2), abort).await;
        }
    }

    fn lost(&self) -> End {
        self.interrupted(
            "gateway_lost",
            "The agent's gateway stopped during this turn and did not resume it.",
        )
    }

    fn stopped(&self) -> End {
        self.interrupted(
            "stopping",
            "The instance was stopped before the turn ended. Send the message again.",
        )
    }

    fn interrupted(&self, code: &str, message: &str) -> End {
        self.progress.end(TurnStatus::Interrupted, Some(error_of(code, message)))
    }
}

/// Whatever kept a call from being answered, the way on is a look into the transcript over the next connection.
fn link_trouble(error: &CallError) -> Trouble {
    tracing::debug!(%error, "a call to the gateway failed");
    Trouble::Link
}
