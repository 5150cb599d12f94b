//! The one task of a replica that looks at the database when nothing happens: how far the log goes, who holds which
//! lease, what serves, whose tokens count. Everybody else waits for what it finds.
//!
//! Where Redis tells what other replicas do, a look every few seconds is enough: it catches what Redis lost. Where nobody
//! tells, it looks more often while things change, and less and less while they do not.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use belfry_store::{Beat, LEASE, LeaseState, Store};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

/// Eleven a minute: with the upkeep beside it, an idle replica stays below twelve statements a minute.
const SLOW: Duration = Duration::from_millis(5500);
/// The bounds of looking where nobody tells: what a new entry has to wait for, at least and at most.
const QUICKEST: Duration = Duration::from_millis(25);
const SLOWEST: Duration = Duration::from_millis(750);
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

    /// How long ago that was.
    pub(crate) fn age(&self) -> Duration {
        self.asked_at.elapsed()
    }
}

/// What somebody said of how far the log goes. Only the database knows, so this leads to a look and to nothing else.
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
    hints: Arc<Hints>,
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
            hints: Arc::default(),
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

    /// Look soon: at once, unless the last look was just now.
    pub(crate) fn look(&self) {
        self.look.notify_one();
    }

    /// Somebody says that the log goes so far. If that is news, it leads to a look.
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

    /// Look until the service stops.
    pub(crate) async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let mut pause = QUICKEST;
        let mut doubt = Duration::ZERO;
        let mut failing = false;
        let mut rested_at = Instant::now();
        let (mut asked, mut hinted) = (false, false);
        loop {
            let told = *self.told.borrow_and_update() || matches!(self.store, Store::Sqlite(_));
            let mut wait = if told && !failing { SLOW } else { pause };
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
                Ok(()) = self.told.changed() => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
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
                        tracing::warn!(%error, "the database does not answer; looking again until it does");
                    }
                    failing = true;
                    pause = (pause * 2).min(SLOWEST);
                }
            }
        }
    }

    /// Whether a hint says more than what is known by now.
    fn is_news(&self) -> bool {
        let end = *self.log_end.borrow();
        let mut highest = self.hints.highest.lock().unwrap_or_else(PoisonError::into_inner);
        if highest.is_some_and(|(position, _)| position <= end) {
            *highest = None;
        }
        highest.is_some()
    }

    /// Gives whether anything is new.
    fn note(&self, beat: Beat, asked_at: Instant) -> bool {
        let before = self.seen.borrow().beat.clone();
        if before.incarnation != beat.incarnation {
            // A standby took over, or a backup was restored: what was known of the log is known no more.
            tracing::warn!(
                before = before.incarnation,
                now = beat.incarnation,
                end_before = before.end,
                end = beat.end,
                "the database is another; what its log does not hold is lost, and `belfry audit` names it"
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

/// How long the next hint has to wait after this one. A replica gives hints of what is committed, so one that the log
/// does not reach is forged, or meant for others; many of those must not keep the database busy.
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
