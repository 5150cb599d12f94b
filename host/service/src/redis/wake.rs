//! Announces to other replicas what this one did.

use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Pipeline, RedisError, Value};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Client;
use super::client::backoff;
use crate::backoff::Backoff;
use crate::heartbeat::Heartbeat;

/// Time limit for a response. A slower Redis is left alone for a moment, while nothing waits for it.
const ANSWER: Duration = Duration::from_millis(250);
/// A wake that is not taken expires after this time.
const LIST_SECONDS: i64 = 60;

/// Announces changes to the other replicas. The methods return at once: they only note the change, and the notifier sends it
/// if Redis is configured. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct PeerSignals {
    news: watch::Sender<Announcement>,
}

impl PeerSignals {
    /// Announces that a lease was released.
    pub(crate) fn lease_is_free(&self) {
        self.news.send_modify(|news| news.leases += 1);
    }

    /// Announces an operator's request about parked entries, which the holder of the sink's lease carries out.
    pub(crate) fn parked_are_asked_for(&self) {
        self.news.send_modify(|news| news.parked += 1);
    }

    /// Announces that tokens were created or revoked. Any announcement makes a replica read them, so this one is not a
    /// separate kind.
    pub(crate) fn access_changed(&self) {
        self.rollout_changed();
    }

    /// Announces that another release is active.
    pub(crate) fn rollout_changed(&self) {
        self.news.send_modify(|news| news.rollouts += 1);
    }
}

/// The state to announce. Only the last one counts; earlier ones are skipped.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Announcement {
    /// The position up to which this replica has committed.
    position: i64,
    leases: u64,
    parked: u64,
    rollouts: u64,
}

/// Sends announcements to other replicas, in the background and one after another.
pub(crate) struct PeerNotifier {
    client: Client,
    heartbeat: Heartbeat,
    sinks: Vec<&'static str>,
    committed: watch::Receiver<i64>,
    noted: watch::Receiver<Announcement>,
    announced: Announcement,
    backoff: Backoff,
}

impl PeerNotifier {
    /// Creates a notifier for the position that the writer has `committed`, and for the changes noted in `others`. `sinks`
    /// are the enabled sinks.
    pub(crate) fn new(
        client: Client,
        heartbeat: Heartbeat,
        sinks: Vec<&'static str>,
        committed: watch::Receiver<i64>,
        others: &PeerSignals,
    ) -> Self {
        let announced = Announcement { position: *committed.borrow(), ..Announcement::default() };
        let noted = others.news.subscribe();
        Self { client, heartbeat, sinks, committed, noted, announced, backoff: backoff() }
    }

    /// Sends announcements until `resting` is true. Those pending by then are sent first.
    pub(crate) async fn run(mut self, resting: CancellationToken) {
        loop {
            let error = match self.client.connect(ANSWER).await {
                Ok(connection) => match self.tell(connection, &resting).await {
                    Ok(()) => return,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            tracing::debug!(%error, "cannot notify other replicas; they poll the database");
            tokio::select! {
                () = tokio::time::sleep(self.backoff.after_failure()) => {}
                () = resting.cancelled() => return,
            }
        }
    }

    async fn tell(
        &mut self,
        mut connection: MultiplexedConnection,
        resting: &CancellationToken,
    ) -> Result<(), RedisError> {
        loop {
            let news =
                Announcement { position: *self.committed.borrow_and_update(), ..*self.noted.borrow_and_update() };
            if news != self.announced {
                // A client that corrupts a list must not block the other announcements.
                let answers: Vec<Result<Value, RedisError>> = self.messages(news).query_async(&mut connection).await?;
                self.announced = news;
                if let Some(Err(error)) = answers.into_iter().next() {
                    return Err(error);
                }
                self.backoff.reset();
                continue;
            }
            if resting.is_cancelled() {
                return Ok(());
            }
            tokio::select! {
                // The writer ends before the service does.
                Ok(()) = self.committed.changed() => {}
                Ok(()) = self.noted.changed() => {}
                () = resting.cancelled() => {}
            }
        }
    }

    /// Returns the commands that announce the changes, most urgent first.
    fn messages(&self, news: Announcement) -> Pipeline {
        let names = self.client.names().clone();
        let mut messages = ::redis::pipe();
        messages.ignore_errors();
        if news.position != self.announced.position {
            messages.cmd("PUBLISH").arg(&*names.wake).arg(news.position);
        }
        if news.leases != self.announced.leases {
            messages.cmd("PUBLISH").arg(&*names.lease).arg(news.leases);
        }
        if news.parked != self.announced.parked {
            messages.cmd("PUBLISH").arg(&*names.parked).arg(news.parked);
        }
        if news.rollouts != self.announced.rollouts {
            messages.cmd("PUBLISH").arg(&*names.rollout).arg(news.rollouts);
        }
        if news.position != self.announced.position {
            for list in self.sinks_of_others().map(|sink| names.wakes_of(sink)) {
                messages.cmd("LPUSH").arg(&list).arg(news.position);
                messages.cmd("LTRIM").arg(&list).arg(0).arg(0);
                messages.cmd("EXPIRE").arg(&list).arg(LIST_SECONDS);
            }
        }
        messages
    }

    /// Returns the sinks that this replica does not serve. Those that it serves were woken without Redis.
    fn sinks_of_others(&self) -> impl Iterator<Item = &'static str> + use<'_> {
        let seen = self.heartbeat.seen().borrow().clone();
        let owner = self.heartbeat.owner();
        self.sinks
            .iter()
            .copied()
            .filter(move |sink| seen.lease(sink).is_none_or(|(lease, _)| lease.owner != Some(owner)))
    }
}
