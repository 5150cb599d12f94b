//! Receives the announcements of other replicas.

use std::sync::Arc;
use std::time::Duration;

use ::redis::{Msg, PushInfo, PushKind, RedisError};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::Client;
use super::client::{backoff, remedy};
use super::names::Names;
use crate::heartbeat::Heartbeat;

/// How often the subscription is checked with PING, and the time limit for the response.
const PING_EVERY: Duration = Duration::from_secs(2);
const PONG: Duration = Duration::from_secs(1);
/// How long one command waits for a wake. The time limit for its response must be longer than that.
const BLOCK: Duration = Duration::from_secs(5);
const BLOCK_ANSWER: Duration = Duration::from_secs(7);

/// Receives the announcements of other replicas.
#[derive(Clone)]
pub(crate) struct Listener {
    pub(crate) client: Client,
    pub(crate) heartbeat: Heartbeat,
    /// The enabled sinks.
    pub(crate) sinks: Vec<&'static str>,
    /// Whether the announcements of other replicas are received.
    pub(crate) subscribed: watch::Sender<bool>,
}

impl Listener {
    /// Listens until the service stops.
    pub(crate) async fn run(self, stopping: CancellationToken) {
        tokio::select! {
            () = self.subscribe() => {}
            () = self.take_wakes() => {}
            () = stopping.cancelled() => {}
        }
        self.set_subscribed(false);
    }

    /// Keeps a subscription, and subscribes again after each failure.
    async fn subscribe(&self) {
        let mut backoff = backoff();
        let mut away = false;
        loop {
            let error = match self.subscribed(&mut away).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            if self.set_subscribed(false) {
                backoff.reset();
            }
            if !away {
                away = true;
                let (redis, remedy) = (self.client.address(), remedy(&error));
                tracing::warn!(redis, %error, remedy, "Redis is unavailable; replicas poll the database until it is back");
            }
            tokio::time::sleep(backoff.after_failure()).await;
        }
    }

    /// Subscribes, and listens until that fails.
    async fn subscribed(&self, away: &mut bool) -> Result<std::convert::Infallible, RedisError> {
        let gone = Arc::new(Notify::new());
        let (heartbeat, leaves, names) = (self.heartbeat.clone(), gone.clone(), self.client.names().clone());
        let hear = move |push: PushInfo| match push.kind {
            PushKind::Message => hear(&heartbeat, &names, push),
            PushKind::Disconnection => leaves.notify_one(),
            _ => {}
        };
        let mut connection = self.client.listen(PONG, hear).await?;
        let Names { wake, lease, rollout, parked } = self.client.names();
        connection.subscribe(&[&**wake, &**lease, &**parked, &**rollout][..]).await?;
        if *away {
            *away = false;
            tracing::info!(redis = self.client.address(), "Redis is back");
        }
        // Earlier announcements are covered by the poll that this triggers.
        self.set_subscribed(true);
        loop {
            tokio::select! {
                () = tokio::time::sleep(PING_EVERY) => {}
                () = gone.notified() => {}
            }
            ::redis::cmd("PING").query_async::<()>(&mut connection).await?;
        }
    }

    /// Notes whether announcements are received. Returns whether that has changed.
    fn set_subscribed(&self, subscribed: bool) -> bool {
        metrics::gauge!("belfry_redis_connected").set(if subscribed { 1.0 } else { 0.0 });
        self.subscribed.send_if_modified(|before| std::mem::replace(before, subscribed) != subscribed)
    }

    /// Takes wakes from the lists of the sinks that this replica serves, and retries after each failure.
    async fn take_wakes(&self) {
        let mut backoff = backoff();
        let mut seen = self.heartbeat.seen();
        loop {
            let held = self.held();
            seen.borrow_and_update();
            if held.is_empty() {
                // The sender lives as long as any clone of the heartbeat.
                let _ = seen.changed().await;
                continue;
            }
            match self.take_wakes_of(&held).await {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    tracing::debug!(%error, "cannot take wakes from Redis");
                    tokio::time::sleep(backoff.after_failure()).await;
                }
            }
        }
    }

    /// Takes wakes until this replica serves other sinks, or until that fails.
    async fn take_wakes_of(&self, held: &[&'static str]) -> Result<(), RedisError> {
        let mut connection = self.client.connect(BLOCK_ANSWER).await?;
        let lists: Vec<String> = held.iter().map(|sink| self.client.names().wakes_of(sink)).collect();
        let mut take = ::redis::cmd("BLPOP");
        take.arg(&lists).arg(BLOCK.as_secs());
        loop {
            let taken: Option<(String, Vec<u8>)> = tokio::select! {
                taken = take.query_async(&mut connection) => taken?,
                // The connection is dropped with its command: an abandoned response would be taken for the next one.
                () = self.held_are_not(held) => return Ok(()),
            };
            if let Some((_, position)) = taken {
                hint(&self.heartbeat, &position);
            }
        }
    }

    async fn held_are_not(&self, held: &[&'static str]) {
        let mut seen = self.heartbeat.seen();
        while self.held() == held {
            let _ = seen.changed().await;
        }
    }

    /// Returns the sinks that this replica serves.
    fn held(&self) -> Vec<&'static str> {
        let seen = self.heartbeat.seen().borrow().clone();
        let owner = Some(self.heartbeat.owner());
        let ours = |sink: &&'static str| seen.lease(sink).is_some_and(|(lease, _)| lease.owner == owner);
        self.sinks.iter().copied().filter(ours).collect()
    }
}

fn hear(heartbeat: &Heartbeat, names: &Names, push: PushInfo) {
    let Some(message) = Msg::from_push_info(push) else { return };
    let channel = message.get_channel_name();
    if channel == &*names.wake {
        hint(heartbeat, message.get_payload_bytes());
    } else if [&names.lease, &names.parked, &names.rollout].into_iter().any(|name| channel == &**name) {
        // The content is ignored: the leases, the requests and the active releases are read from the database.
        heartbeat.look();
    }
}

/// Passes a hint to the heartbeat. Ignores anything that is not a position, because no replica has sent it.
fn hint(heartbeat: &Heartbeat, position: &[u8]) {
    if let Some(position) = std::str::from_utf8(position).ok().and_then(|position| position.parse().ok()) {
        heartbeat.hint(position);
    }
}
