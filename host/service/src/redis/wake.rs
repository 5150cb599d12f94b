//! Telling other replicas what this one did.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Pipeline, RedisError, Value};
use tokio::sync::watch;

use super::Client;
use super::client::Backoff;
use crate::heartbeat::Heartbeat;

/// The channels and lists of one deployment, whose prefix stands before all of them. Cheap to clone.
#[derive(Clone)]
pub(super) struct Names {
    /// The channel on which a replica says how far the log goes. Each sink also has a list of this name with its own behind a colon, from which
    /// its holder takes what it missed between two connections.
    pub(super) wake: Arc<str>,
    /// The channel for leases that are free.
    pub(super) lease: Arc<str>,
    /// The channel for changes of what serves.
    pub(super) rollout: Arc<str>,
    /// The channel for requests for parked entries.
    pub(super) parked: Arc<str>,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        let name = |word: &str| Arc::from(format!("{prefix}outbox:{word}"));
        Self { wake: name("wake"), lease: name("lease"), rollout: name("rollout"), parked: name("parked") }
    }

    /// The list of a sink's wakes.
    pub(super) fn wakes_of(&self, sink: &str) -> String {
        format!("{}:{sink}", self.wake)
    }
}

/// A Redis that takes longer is left alone for a moment. Nobody waits for it meanwhile.
const ANSWER: Duration = Duration::from_millis(250);
/// A wake that nobody takes is worth nothing after this.
const LIST_SECONDS: i64 = 60;

/// The other replicas, as those see them who have something to tell. Telling takes no time: it is noted here, and the
/// teller passes it on if there is a Redis. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Others {
    news: watch::Sender<News>,
}

impl Others {
    /// A lease was given back.
    pub(crate) fn lease_is_free(&self) {
        self.news.send_modify(|news| news.leases += 1);
    }

    /// An operator wants something done with parked entries, which the holder of the sink's lease does.
    pub(crate) fn parked_are_asked_for(&self) {
        self.news.send_modify(|news| news.parked += 1);
    }

    /// Tokens were made or revoked: something that every replica looks up when it hears that anything else is so.
    pub(crate) fn access_changed(&self) {
        self.rollout_changed();
    }

    /// Another release serves.
    pub(crate) fn rollout_changed(&self) {
        self.news.send_modify(|news| news.rollouts += 1);
    }
}

/// What there is to tell. Only the last state counts, however many there were.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct News {
    /// How far this replica has committed.
    position: i64,
    leases: u64,
    parked: u64,
    rollouts: u64,
}

/// Tells other replicas, in the background and one thing after another.
pub(crate) struct Teller {
    client: Client,
    heartbeat: Heartbeat,
    sinks: Vec<&'static str>,
    committed: watch::Receiver<i64>,
    noted: watch::Receiver<News>,
    told: News,
    backoff: Backoff,
}

impl Teller {
    /// Tell how far the writer has `committed`, and what is noted for `others`. `sinks` are those that are enabled.
    pub(crate) fn new(
        client: Client,
        heartbeat: Heartbeat,
        sinks: Vec<&'static str>,
        committed: watch::Receiver<i64>,
        others: &Others,
    ) -> Self {
        let told = News { position: *committed.borrow(), ..News::default() };
        let noted = others.news.subscribe();
        Self { client, heartbeat, sinks, committed, noted, told, backoff: Backoff::new() }
    }

    /// Tell until the service rests; what is known by then is told first.
    pub(crate) async fn run(mut self, mut resting: watch::Receiver<bool>) {
        loop {
            let error = match self.client.connect(ANSWER).await {
                Ok(connection) => match self.tell(connection, &mut resting).await {
                    Ok(()) => return,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            tracing::debug!(%error, "other replicas cannot be told; they look for themselves");
            tokio::select! {
                () = tokio::time::sleep(self.backoff.next()) => {}
                _ = resting.wait_for(|resting| *resting) => return,
            }
        }
    }

    async fn tell(
        &mut self,
        mut connection: MultiplexedConnection,
        resting: &mut watch::Receiver<bool>,
    ) -> Result<(), RedisError> {
        loop {
            let news = News { position: *self.committed.borrow_and_update(), ..*self.noted.borrow_and_update() };
            if news != self.told {
                // Whoever spoils a list must not keep the rest from being told.
                let answers: Vec<Result<Value, RedisError>> = self.messages(news).query_async(&mut connection).await?;
                self.told = news;
                if let Some(Err(error)) = answers.into_iter().next() {
                    return Err(error);
                }
                self.backoff = Backoff::new();
                continue;
            }
            if *resting.borrow() {
                return Ok(());
            }
            tokio::select! {
                // The writer ends before its service does.
                Ok(()) = self.committed.changed() => {}
                Ok(()) = self.noted.changed() => {}
                _ = resting.wait_for(|resting| *resting) => {}
            }
        }
    }

    /// What is new, most urgent first.
    fn messages(&self, news: News) -> Pipeline {
        let names = self.client.names().clone();
        let mut messages = ::redis::pipe();
        messages.ignore_errors();
        if news.position != self.told.position {
            messages.cmd("PUBLISH").arg(&*names.wake).arg(news.position);
        }
        if news.leases != self.told.leases {
            messages.cmd("PUBLISH").arg(&*names.lease).arg(news.leases);
        }
        if news.parked != self.told.parked {
            messages.cmd("PUBLISH").arg(&*names.parked).arg(news.parked);
        }
        if news.rollouts != self.told.rollouts {
            messages.cmd("PUBLISH").arg(&*names.rollout).arg(news.rollouts);
        }
        if news.position != self.told.position {
            for list in self.sinks_of_others().map(|sink| names.wakes_of(sink)) {
                messages.cmd("LPUSH").arg(&list).arg(news.position);
                messages.cmd("LTRIM").arg(&list).arg(0).arg(0);
                messages.cmd("EXPIRE").arg(&list).arg(LIST_SECONDS);
            }
        }
        messages
    }

    /// A sink that this replica serves was woken without Redis.
    fn sinks_of_others(&self) -> impl Iterator<Item = &'static str> + use<'_> {
        let seen = self.heartbeat.seen().borrow().clone();
        let owner = self.heartbeat.owner();
        self.sinks
            .iter()
            .copied()
            .filter(move |sink| seen.lease(sink).is_none_or(|(lease, _)| lease.owner != Some(owner)))
    }
}
