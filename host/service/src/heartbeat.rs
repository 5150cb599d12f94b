//! The one task of a replica that looks at the database when nothing happens: how far the log goes, who holds which
//! lease, what serves. Everybody else waits for what it finds.
//!
//! Where Redis tells what other replicas do, a look every few seconds is enough: it catches what Redis lost. Where nobody
//! tells, it looks more often while things change, and less and less while they do not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use belfry_store::{Beat, LEASE, LeaseState, Store};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

/// Eleven a minute: with the upkeep beside it, an idle replica stays below twelve statements a minute.
const SLOW: Duration = Duration::from_millis(5500);
/// The bounds of looking where nobody tells: what a new entry has to wait for, at least and at most.
const QUICKEST: Duration = Duration::from_millis(25);
const SLOWEST: Duration = Duration::from_secs(1);
/// A lease counts as ended this much earlier than the database would say: clocks run at slightly different speeds.
const MARGIN: Duration = Duration::from_millis(500);

/// What the last look found.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) beat: Arc<Beat>,
    /// When it was asked for.
    asked_at: Instant,
}

impl Seen {
    /// A lease, and until when it surely is its owner's.
    pub(crate) fn lease(&self, name: &str) -> Option<(&LeaseState, Instant)> {
        let lease = self.beat.leases.iter().find(|lease| lease.name == name)?;
        Some((lease, self.asked_at + lease.remaining.saturating_sub(MARGIN)))
    }
}

/// Until when a lease surely holds that was asked for at this time.
pub(crate) fn lease_deadline(asked_at: Instant) -> Instant {
    asked_at + LEASE - MARGIN
}

/// Looks at the database. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Heartbeat {
    store: Store,
    owner: Uuid,
    seen: watch::Sender<Seen>,
    log_end: watch::Sender<i64>,
    look: Arc<Notify>,
    /// Whether somebody tells of what other replicas do.
    told: watch::Receiver<bool>,
}

impl Heartbeat {
    /// Look for the first time. `told` says whether Redis tells of other replicas.
    pub(crate) async fn start(store: Store, told: watch::Receiver<bool>) -> Result<Self, belfry_store::StoreError> {
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
            told,
        })
    }

    /// Under which name this replica takes leases.
    pub(crate) fn owner(&self) -> Uuid {
        self.owner
    }

    /// The highest committed position that this replica knows of; it only grows, unless the database becomes another.
    pub(crate) fn log_end(&self) -> &watch::Sender<i64> {
        &self.log_end
    }

    /// What each look finds.
    pub(crate) fn seen(&self) -> watch::Receiver<Seen> {
        self.seen.subscribe()
    }

    /// Look at once.
    pub(crate) fn look(&self) {
        self.look.notify_one();
    }

    /// Somebody told that the log goes so far.
    pub(crate) fn raise(&self, position: i64) {
        self.log_end.send_if_modified(|end| {
            let higher = position > *end;
            *end = position.max(*end);
            higher
        });
    }

    /// Look until the service stops.
    pub(crate) async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let mut pause = QUICKEST;
        let mut failing = false;
        loop {
            let told = *self.told.borrow_and_update() || matches!(self.store, Store::Sqlite(_));
            tokio::select! {
                () = tokio::time::sleep(if told && !failing { SLOW } else { pause }) => {}
                () = self.look.notified() => {}
                _ = self.told.changed() => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
            let asked_at = Instant::now();
            match self.store.beat(self.owner).await {
                Ok(beat) => {
                    let news = self.note(beat, asked_at);
                    pause = if news || failing { QUICKEST } else { (pause * 2).min(SLOWEST) };
                    failing = false;
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "the database does not answer; looking again until it does");
                    }
                    failing = true;
                    pause = (pause * 2).min(SLOWEST);
                }
            }
        }
    }

    /// Gives whether anything is new.
    fn note(&self, beat: Beat, asked_at: Instant) -> bool {
        let before = self.seen.borrow().beat.clone();
        if before.incarnation != beat.incarnation {
            // A standby took over, or a backup was restored: what was known of the log is known no more.
            tracing::warn!(
                before = before.incarnation,
                now = beat.incarnation,
                end = beat.end,
                "the database is another"
            );
            self.log_end.send_replace(beat.end);
        }
        let news = before.end != beat.end
            || before.rollout != beat.rollout
            || before.parked_requests != beat.parked_requests
            || before.leases.iter().map(|lease| lease.epoch).ne(beat.leases.iter().map(|lease| lease.epoch));
        self.raise(beat.end);
        self.seen.send_replace(Seen { beat: Arc::new(beat), asked_at });
        news
    }
}
