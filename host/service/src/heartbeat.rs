//! The only task of a replica that polls the database while the replica is idle. It reads the end of the log, the holders
//! of leases, the active releases and the valid tokens. All other tasks wait for its results.
//!
//! If Redis announces what other replicas do, a poll every few seconds is enough: it catches messages that Redis lost.
//! Without Redis, the task polls frequently while things change, and backs off while they do not.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use belfry_store::{Beat, LEASE, LeaseState, Store};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The interval with Redis or SQLite: eleven polls a minute. Including upkeep, an idle replica stays below twelve
/// statements a minute.
const SLOW: Duration = Duration::from_millis(5500);
/// The bounds of the interval without Redis: the shortest and the longest time until a new entry is seen.
const QUICKEST: Duration = Duration::from_millis(25);
const SLOWEST: Duration = Duration::from_millis(750);
/// A lease counts as expired this long before the database reports it: clocks run at slightly different speeds.
const MARGIN: Duration = Duration::from_millis(500);

/// The result of the last poll.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) beat: Arc<Beat>,
    /// When the poll began.
    asked_at: Instant,
}

impl Seen {
    /// Returns a lease, and the time until which its owner certainly holds it.
    pub(crate) fn lease(&self, name: &str) -> Option<(&LeaseState, Instant)> {
        let lease = self.beat.leases.iter().find(|lease| lease.name == name)?;
        Some((lease, self.asked_at + lease.remaining.saturating_sub(MARGIN)))
    }

    /// Returns the time since the poll began.
    pub(crate) fn age(&self) -> Duration {
        self.asked_at.elapsed()
    }
}

/// Hints about the end of the log. Only the database is authoritative, so a hint triggers a poll and nothing else.
#[derive(Default)]
struct Hints {
    highest: Mutex<Option<(i64, Instant)>>,
    heard: Notify,
}

impl Hints {
    fn take(&self) -> Option<(i64, Instant)> {
        self.highest.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Returns the time until which a lease requested at `asked_at` is certainly held.
pub(crate) fn lease_deadline(asked_at: Instant) -> Instant {
    asked_at + LEASE - MARGIN
}

/// Polls the database. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Heartbeat {
    store: Store,
    owner: Uuid,
    seen: watch::Sender<Seen>,
    log_end: watch::Sender<i64>,
    look: Arc<Notify>,
    hints: Arc<Hints>,
    /// Whether Redis announces what other replicas do.
    subscribed: watch::Receiver<bool>,
}

impl Heartbeat {
    /// Polls for the first time. `subscribed` shows whether Redis announces what other replicas do.
    pub(crate) async fn start(
        store: Store,
        subscribed: watch::Receiver<bool>,
    ) -> Result<Self, belfry_store::StoreError> {
        let owner = Uuid::new_v4();
        let asked_at = Instant::now();
        let beat = Arc::new(store.beat(owner).await?);
        let log_end = watch::Sender::new(beat.end);
        Ok(Self {
            store,
            owner,
            seen: watch::Sender::new(Seen { beat, asked_at }),
            log_end,
            look: Arc::default(),
            hints: Arc::default(),
            subscribed,
        })
    }

    /// Returns the id under which this replica takes leases.
    pub(crate) fn owner(&self) -> Uuid {
        self.owner
    }

    /// Returns the highest committed position known to this replica. It only grows, unless the database is replaced.
    pub(crate) fn log_end(&self) -> &watch::Sender<i64> {
        &self.log_end
    }

    /// Returns a receiver for the result of each poll.
    pub(crate) fn seen(&self) -> watch::Receiver<Seen> {
        self.seen.subscribe()
    }

    /// Requests a poll. It starts at once, but no sooner than `QUICKEST` after the previous one.
    pub(crate) fn look(&self) {
        self.look.notify_one();
    }

    /// Takes a hint that the log reaches `position`. Triggers a poll if that is beyond the known end.
    pub(crate) fn hint(&self, position: i64) {
        if position <= *self.log_end.borrow() {
            return;
        }
        let mut highest = self.hints.highest.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, since) = highest.unwrap_or((position, Instant::now()));
        *highest = Some((position.max(before), since));
        drop(highest);
        self.hints.heard.notify_one();
    }

    /// Polls until the service stops.
    pub(crate) async fn run(mut self, stopping: CancellationToken) {
        let mut pause = QUICKEST;
        let mut doubt = Duration::ZERO;
        let mut failing = false;
        let mut rested_at = Instant::now();
        let (mut asked, mut hinted) = (false, false);
        loop {
            let subscribed = *self.subscribed.borrow_and_update() || matches!(self.store, Store::Sqlite(_));
            let mut wait = if subscribed && !failing { SLOW } else { pause };
            if asked {
                wait = wait.min(QUICKEST);
            }
            if hinted && !failing {
                wait = wait.min(doubt);
            }
            tokio::select! {
                () = tokio::time::sleep_until((rested_at + wait).into()) => {}
                () = self.look.notified(), if !asked => {
                    asked = true;
                    continue;
                }
                () = self.hints.heard.notified(), if !hinted => {
                    hinted = self.is_news();
                    continue;
                }
                Ok(()) = self.subscribed.changed() => {}
                () = stopping.cancelled() => return,
            }
            (asked, hinted) = (false, false);
            let hint = self.hints.take();
            let asked_at = Instant::now();
            let looked = self.store.beat(self.owner).await;
            rested_at = Instant::now();
            match looked {
                Ok(beat) => {
                    doubt = trust(hint, beat.end, doubt);
                    let news = self.note(beat, asked_at);
                    pause = if news || failing { QUICKEST } else { (pause * 2).min(SLOWEST) };
                    failing = false;
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "the database does not answer; polling until it does");
                    }
                    failing = true;
                    pause = (pause * 2).min(SLOWEST);
                }
            }
        }
    }

    /// Returns whether the highest hint is beyond the known end of the log. Discards it if it is not.
    fn is_news(&self) -> bool {
        let end = *self.log_end.borrow();
        let mut highest = self.hints.highest.lock().unwrap_or_else(PoisonError::into_inner);
        if highest.is_some_and(|(position, _)| position <= end) {
            *highest = None;
        }
        highest.is_some()
    }

    /// Publishes the result of a poll. Returns whether anything has changed.
    fn note(&self, beat: Beat, asked_at: Instant) -> bool {
        let before = self.seen.borrow().beat.clone();
        if before.incarnation != beat.incarnation {
            // A standby took over, or a backup was restored: nothing known about the log is valid any longer.
            tracing::warn!(
                before = before.incarnation,
                now = beat.incarnation,
                end_before = before.end,
                end = beat.end,
                "the database was replaced; entries that its log does not hold are lost, and `belfry audit` lists them"
            );
            self.log_end.send_replace(beat.end);
        }
        let news = before.end != beat.end
            || before.incarnation != beat.incarnation
            || before.changes() != beat.changes()
            || before.access != beat.access
            || before.parked_requests != beat.parked_requests
            || before.leases.iter().map(|lease| lease.epoch).ne(beat.leases.iter().map(|lease| lease.epoch));
        self.log_end.send_if_modified(|end| {
            let higher = beat.end > *end;
            *end = beat.end.max(*end);
            higher
        });
        self.seen.send_replace(Seen { beat: Arc::new(beat), asked_at });
        news
    }
}

/// Returns how long the next hint has to wait. Replicas only announce committed positions, so a hint beyond the end of the
/// log is forged or comes from another deployment. Many of them must not keep the database busy.
fn trust(hint: Option<(i64, Instant)>, end: i64, doubt: Duration) -> Duration {
    match hint {
        Some((position, since)) if position <= end => {
            metrics::histogram!("belfry_wake_seconds").record(since.elapsed());
            Duration::ZERO
        }
        Some(_) => (doubt * 2).clamp(QUICKEST, SLOWEST),
        None => doubt,
    }
}
