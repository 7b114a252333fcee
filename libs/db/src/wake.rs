//! Wakes: hints that something changed, within the process and, on PostgreSQL, between replicas.
//!
//! A wake carries no data and may be lost; whoever waits for one also looks from time to time.

use std::sync::Arc;

use sqlx::postgres::{PgListener, PgPool};
use tokio::sync::watch;

/// What may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Intent or fact of some instance, or an operation.
    Instances,
    /// The list of revocations.
    Revocations,
    /// The mail that waits.
    Mail,
}

impl Wake {
    const ALL: [Self; 3] = [Self::Instances, Self::Revocations, Self::Mail];

    /// The name of the PostgreSQL channel.
    pub(crate) const fn channel(self) -> &'static str {
        match self {
            Self::Instances => "reef_instances",
            Self::Revocations => "reef_revocations",
            Self::Mail => "reef_mail",
        }
    }
}

/// The wakes of one process: a counter for each, so that a burst is seen once and none is missed.
#[derive(Debug)]
pub(crate) struct Wakes([watch::Sender<u64>; 3]);

impl Wakes {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Wake::ALL.map(|_| watch::Sender::new(0))))
    }

    pub(crate) fn subscribe(&self, wake: Wake) -> watch::Receiver<u64> {
        self.0[wake as usize].subscribe()
    }

    pub(crate) fn send(&self, wake: Wake) {
        self.0[wake as usize].send_modify(|count| *count += 1);
    }

    fn send_all(&self) {
        Wake::ALL.into_iter().for_each(|wake| self.send(wake));
    }
}

/// Passes the notifications of other replicas on, for as long as the pool is open.
pub(crate) async fn listen(pool: PgPool, wakes: Arc<Wakes>) {
    const RETRY: std::time::Duration = std::time::Duration::from_secs(1);
    while !pool.is_closed() {
        if let Err(error) = listen_once(&pool, &wakes).await
            && !pool.is_closed()
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "lost the wakes of other replicas");
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = pool.close_event() => {}
        }
    }
}

async fn listen_once(pool: &PgPool, wakes: &Wakes) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen_all(Wake::ALL.map(Wake::channel)).await?;
    loop {
        // Whatever was said before this point was not heard.
        wakes.send_all();
        while let Some(notification) = listener.try_recv().await? {
            if let Some(wake) = Wake::ALL.into_iter().find(|wake| wake.channel() == notification.channel()) {
                wakes.send(wake);
            }
        }
    }
}
