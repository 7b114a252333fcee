//! The door's one connection to the gateway, and where its events go.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use reef_openclaw::{CallError, Client, Events};

use super::{Chat, GatewayAccess, foreign};

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(2);

/// Dials and shakes hands.
pub(super) async fn connect(gateway: &dyn GatewayAccess) -> anyhow::Result<(Client, Events)> {
    let stream = gateway.dial().await.context("cannot dial the gateway")?;
    Ok(Client::connect(stream, gateway.token()).await?)
}

/// Waits for a connection that lives.
///
/// # Cancel safety
/// Safe.
pub(super) async fn current(chat: &Chat) -> Client {
    let mut link = chat.link.subscribe();
    loop {
        let client = link.borrow_and_update().clone();
        if let Some(client) = client.filter(|client| !client.is_closed()) {
            return client;
        }
        if link.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Keeps the connection for ever: connects whenever the gateway is ready, hands out its events, connects again.
pub(super) async fn keep(chat: &Arc<Chat>) {
    let mut ready = chat.gateway.ready();
    let mut retry = RETRY_FIRST;
    loop {
        if ready.wait_for(|ready| *ready).await.is_err() {
            return;
        }
        match connect(&*chat.gateway).await {
            Ok((client, events)) => {
                retry = RETRY_FIRST;
                tracing::info!("connected to the gateway");
                chat.link.send_replace(Some(client));
                tokio::join!(forget_deleted(chat), hand_out(chat, events));
                chat.link.send_replace(None);
                tracing::info!("the connection to the gateway is lost");
            }
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "no connection to the gateway yet");
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(RETRY_MOST);
            }
        }
    }
}

/// Deletes in the gateway what was deleted here.
pub(super) async fn forget_deleted(chat: &Chat) {
    let Some(client) = chat.link.borrow().clone() else { return };
    let sessions = chat.log.forgotten().await.unwrap_or_else(|error| {
        tracing::error!(%error, "cannot read which sessions the gateway must forget");
        Vec::new()
    });
    for (session, key) in sessions {
        match client.session_delete(&key).await {
            Ok(()) => {}
            // The agent's main session for one cannot be deleted; asking again is of no use.
            Err(error @ CallError::Refused { retryable: false, .. }) => {
                tracing::info!(%error, key, "the gateway keeps a session that was deleted here");
            }
            Err(error) => {
                tracing::warn!(%error, %session, "the gateway did not delete a session");
                continue;
            }
        }
        if let Err(error) = chat.log.forgot(session).await {
            tracing::error!(%error, %session, "cannot note that the gateway forgot a session");
        }
    }
}

async fn hand_out(chat: &Arc<Chat>, mut events: Events) {
    while let Some(signal) = events.next().await {
        match chat.worker_of_key(foreign::session_name(&signal.session_key)) {
            Some(worker) => worker.inbox.push(signal),
            None => foreign::hear(chat, signal).await,
        }
    }
}
