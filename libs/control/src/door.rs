//! Asks a door how its instance does. A door is hostile input: the answer is bounded in time and size.

use std::{io, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use reef_db::InstanceRow;
use reef_door::{DoorPhase, DoorStatus};
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;

use crate::{Control, ControlError, Inner, instance::Upstream};

const MAX_STATUS_BYTES: usize = 64 * 1024;
/// Of each text in it; a reason quotes three lines of a log.
const MAX_TEXT_CHARS: usize = 2_000;
/// How long somebody who wants to use a door waits to hear whether it is there.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the door holds a look that waits for a change.
const HOLD: Duration = Duration::from_secs(50);
/// How much longer than it promised a door may take.
const SLACK: Duration = Duration::from_secs(10);
/// A door whose state changes without end is looked at so often, not without end.
const MIN_PERIOD: Duration = Duration::from_millis(100);

impl Inner {
    /// Tells whether the door of the wanted generation answers and stays, whatever its gateway does.
    pub async fn has_door(&self, upstream: &Upstream) -> bool {
        let look = async {
            let row = self.db().lookup_instance_any(upstream.id).await?.ok_or(ControlError::NotFound)?;
            self.door_status(&row, None).await
        };
        matches!(
            tokio::time::timeout(LOOK_TIMEOUT, look).await,
            Ok(Ok(door)) if door.generation == upstream.generation && door.phase != DoorPhase::Draining
        )
    }

    /// Returns the door's status; with `after`, once its revision is greater or 50 s have passed.
    pub(crate) async fn door_status(
        &self,
        row: &InstanceRow,
        after: Option<u64>,
    ) -> Result<DoorStatus, ControlError> {
        let token = self.tokens_of(row)?.door;
        let stream = self.runtime().dial(row.id).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let path = match after {
            Some(revision) => format!("/status?after={revision}&wait={}", HOLD.as_secs()),
            None => "/status".to_owned(),
        };
        let request = http::Request::get(path)
            .header(http::header::HOST, "door")
            .header(http::header::AUTHORIZATION, format!("Bearer {}", token.expose_secret()))
            .body(Empty::<Bytes>::new())
            .map_err(io::Error::other)?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(io::Error::other)?;
            if response.status() != http::StatusCode::OK {
                return Err(io::Error::other(format!("door answered {}", response.status())));
            }
            let body = Limited::new(response.into_body(), MAX_STATUS_BYTES);
            let bytes = body.collect().await.map_err(io::Error::other)?.to_bytes();
            let status = serde_json::from_slice(&bytes).map_err(io::Error::other)?;
            Ok(legible(status))
        };
        // The connection is driven here and goes with this call; no task is left behind.
        tokio::select! {
            answer = answer => Ok(answer?),
            ended = connection => {
                Err(io::Error::other(format!("door hung up: {:?}", ended.err())).into())
            }
        }
    }
}

impl Control {
    /// Waits in the background for the door's next change and then has the instance looked at.
    ///
    /// One watch per instance; an idle instance costs one held request and no query.
    pub(crate) fn watch_door(&self, row: &InstanceRow, revision: u64) {
        let stop = CancellationToken::new();
        let earlier = self.watches().insert(row.id, stop.clone());
        if let Some(earlier) = earlier {
            earlier.cancel();
        }
        let (control, row) = (self.clone(), row.clone());
        tokio::spawn(async move {
            let next = tokio::time::Instant::now() + MIN_PERIOD;
            let look = tokio::time::timeout(HOLD + SLACK, control.door_status(&row, Some(revision)));
            if let Some(outcome) = stop.run_until_cancelled(look).await {
                control.watches().remove(&row.id);
                match outcome {
                    Ok(Ok(status)) if status.revision == revision => {}
                    _ => {
                        tokio::time::sleep_until(next).await;
                        control.queue().push(row.id);
                    }
                }
            }
        });
    }

    fn watches(
        &self,
    ) -> std::sync::MutexGuard<'_, std::collections::BTreeMap<reef_model::InstanceId, CancellationToken>>
    {
        self.watches.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Makes what a door says of itself fit to be kept and shown.
fn legible(mut status: DoorStatus) -> DoorStatus {
    for text in [&mut status.reason, &mut status.openclaw_version].into_iter().flatten() {
        *text = text.chars().filter(|c| !c.is_control()).take(MAX_TEXT_CHARS).collect();
    }
    status
}

#[cfg(test)]
mod tests {
    use reef_model::Isolation;

    use super::*;

    #[test]
    fn what_a_door_says_is_short_and_plain() {
        let said = |text: &str| {
            let status = legible(DoorStatus {
                revision: 1,
                generation: 1,
                phase: DoorPhase::Failing,
                reason: Some(text.to_owned()),
                isolation: Isolation::None,
                openclaw_version: Some(text.to_owned()),
                gateway_restarts: 0,
                active_turns: 0,
                last_active_at: None,
            });
            assert_eq!(status.reason, status.openclaw_version);
            status.reason.unwrap()
        };
        assert_eq!(said("no\u{1b}[2J config\n"), "no[2J config");
        assert_eq!(said(&"ü".repeat(60_000)), "ü".repeat(MAX_TEXT_CHARS));
    }
}
