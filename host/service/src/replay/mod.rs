//! Compares what a release would have made of recorded events with what another release makes of them, or with what was
//! recorded.
//!
//! The **plan** selects the events and the two sides. Pages of the log are split into batches, threads project each batch
//! with both sides, and the **findings** take the batches in the order of the log. No result of a projection is recorded or
//! sent.

mod findings;
mod plan;
mod report;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use belfry_model::{Event, MessageSettings};
use belfry_sandbox::Overloaded;
use belfry_store::{LogEntry, NewChange, StoreError, now_ms};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

pub(crate) use plan::{Baseline, Plan, Wanted};
pub(crate) use report::Report;

use crate::diff::NotificationContent;
use crate::dry_run::project;
use crate::pipeline::Pipeline;
use crate::releases::{LoadedRelease, ReleaseError};
use findings::{Compared, Findings, Seen};
use plan::Against;

/// Rows of the log read per query.
const PAGE: u32 = 4000;
/// Number of events that a thread projects at once.
const LOT: usize = 200;
/// The release under which the executor runs a replay's lots: they belong to no single release, and leave a thread to
/// others.
const REPLAY: i64 = 0;
/// Interval between two progress reports.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// Why a replay failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    /// A release does not exist or cannot be loaded.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// The log cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The request is invalid.
    #[error("{0}")]
    Wrong(String),
    /// Another replay is running; only one may run at a time.
    #[error("another replay is running on this replica; wait for it, or cancel it")]
    Busy,
    /// A thread ended early.
    #[error("the replay was aborted; see the service's log")]
    CutOff,
}

/// The progress of a replay.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Progress {
    /// Events seen so far, and all events in the period.
    events: u64,
    of: u64,
    /// Differences found so far.
    added: u64,
    removed: u64,
    changed: u64,
}

/// Prepares replays, one at a time. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Replays {
    pipeline: Pipeline,
    turn: Arc<Semaphore>,
    threads: usize,
}

/// A replay that is about to run. Dropping it cancels it.
pub(crate) struct Replay {
    replays: Replays,
    plan: Arc<Plan>,
    by: String,
    _turn: OwnedSemaphorePermit,
}

/// An event in the log, and the notifications issued for it.
struct Recorded {
    entry: LogEntry,
    notifications: Vec<LogEntry>,
}

impl Replays {
    /// Creates the source of replays. A replay keeps `threads` threads busy, of those that do not serve live events.
    pub(crate) fn new(pipeline: Pipeline, threads: usize) -> Self {
        Self { pipeline, turn: Arc::new(Semaphore::new(1)), threads }
    }

    /// Loads both sides, and locates the events in the log.
    pub(crate) async fn prepare(&self, wanted: Wanted, by: String) -> Result<Replay, ReplayError> {
        let turn = self.turn.clone().try_acquire_owned().map_err(|_| ReplayError::Busy)?;
        let plan = Arc::new(Plan::make(wanted, &self.pipeline.store, &self.pipeline.registry).await?);
        Ok(Replay { replays: self.clone(), plan, by, _turn: turn })
    }
}

impl Replay {
    /// Runs the replay. Calls `progress` from time to time.
    pub(crate) async fn run(self, progress: impl Fn(Progress)) -> Result<Report, ReplayError> {
        let Self { replays, plan, by, _turn } = &self;
        let (began, mut told_at) = (Instant::now(), Instant::now());
        let mut findings = Findings::new(plan.header.clone());
        let mut lots = VecDeque::new();
        let mut position = plan.after;
        // Results are taken in order, so that the same replay produces the same report.
        let mut under_way = FuturesOrdered::new();
        loop {
            while under_way.len() <= replays.threads {
                // A page may hold only notifications of an event before it.
                while lots.is_empty() && position < plan.up_to {
                    (lots, position) = replays.read_page(plan, position).await?;
                }
                let Some(lot) = lots.pop_front() else { break };
                under_way.push_back(replays.compare(plan.clone(), lot));
            }
            let Some(compared) = under_way.next().await else { break };
            compared.map_err(|_| ReplayError::CutOff)?.into_iter().for_each(|seen| findings.note(seen));
            if told_at.elapsed() >= TELL_EVERY {
                told_at = Instant::now();
                let (added, removed, changed) = findings.differences();
                progress(Progress { events: findings.seen(), of: plan.events, added, removed, changed });
            }
        }
        let report = findings.report(began.elapsed().as_secs_f64());
        let found = report.summary(plan.baseline.release_id(), plan.is_of_one_subject());
        replays.pipeline.store.note_change(&NewChange::replayed(&plan.candidate.label, by, &found), now_ms()).await?;
        Ok(report)
    }
}

impl Replays {
    /// Reads the events after a position with their notifications. Returns them in lots, and the position to continue from.
    async fn read_page(&self, plan: &Plan, position: i64) -> Result<(VecDeque<Vec<Recorded>>, i64), ReplayError> {
        // An event's notifications directly follow it. Those of the last event in the period may be beyond its end.
        let mut rows = self.pipeline.store.read_log(position, i64::MAX, PAGE).await?;
        let full = rows.len() == PAGE as usize;
        let last_event = rows.iter().rposition(|row| row.source_event_id.is_none());
        if let Some(last_event) = last_event.filter(|place| full && *place > 0) {
            // The rest of its notifications may be on the next page.
            rows.truncate(last_event);
        }
        // The page is empty if retention has deleted the remaining rows in the meantime.
        let next = rows.last().map_or(plan.up_to, |row| row.position);
        if matches!(plan.baseline, Against::Recorded) {
            self.pipeline.registry.learn(rows.iter().filter_map(|row| row.release_id)).await?;
        }
        Ok((lots(events(rows, plan.up_to)), next))
    }

    async fn compare(&self, plan: Arc<Plan>, lot: Vec<Recorded>) -> Result<Vec<Seen>, Overloaded> {
        let Pipeline { messages, registry, beside, .. } = self.pipeline.clone();
        let work = move || {
            let projector_of = |release_id| registry.name(release_id).map(|named| named.projector);
            lot.into_iter().map(|recorded| see(&plan, recorded, &messages, &projector_of)).collect()
        };
        beside.run(REPLAY, work).await
    }
}

/// Groups rows of the log into events with their notifications, up to a position.
fn events(rows: Vec<LogEntry>, up_to: i64) -> Vec<Recorded> {
    let mut events: Vec<Recorded> = Vec::new();
    let mut places: HashMap<Uuid, usize> = HashMap::new();
    for entry in rows {
        match entry.source_event_id {
            None if entry.position > up_to => break,
            None => {
                places.insert(entry.event_id, events.len());
                events.push(Recorded { entry, notifications: Vec::new() });
            }
            // A notification whose event precedes the page is left out.
            Some(source) => {
                if let Some(place) = places.get(&source) {
                    events[*place].notifications.push(entry);
                }
            }
        }
    }
    events
}

fn lots(events: Vec<Recorded>) -> VecDeque<Vec<Recorded>> {
    let mut lots = VecDeque::with_capacity(events.len().div_ceil(LOT));
    let mut events = events.into_iter().peekable();
    while events.peek().is_some() {
        lots.push_back(events.by_ref().take(LOT).collect());
    }
    lots
}

/// Projects one event with both sides.
fn see(
    plan: &Plan,
    recorded: Recorded,
    messages: &MessageSettings,
    projector_of: &impl Fn(i64) -> Option<String>,
) -> Seen {
    let Recorded { entry, notifications } = recorded;
    if !plan.wants(&entry.event_type) || !plan.choice.takes(&entry.event_id) {
        return Seen::PassedOver;
    }
    let Ok(envelope) = entry.envelope() else { return Seen::Unreadable };
    let Ok(event) = Event::from_envelope(&envelope) else { return Seen::Unreadable };
    if !plan.is_about(&envelope) {
        return Seen::PassedOver;
    }
    let envelope = Arc::new(envelope);
    let made_by = |active: &LoadedRelease| {
        if active.wants(&envelope) { project(active, &envelope, &event, messages) } else { Ok(Vec::new()) }
    };
    let candidate = made_by(&plan.candidate);
    let baseline = match &plan.baseline {
        Against::Release(active) => made_by(active),
        Against::Recorded => {
            let ours = |row: &&LogEntry| {
                row.release_id.and_then(projector_of).is_some_and(|projector| projector == plan.header.projector)
            };
            let issued: Vec<NotificationContent> =
                notifications.iter().filter(ours).filter_map(NotificationContent::recorded).collect();
            if issued.is_empty() && !plan.candidate.wants(&envelope) {
                return Seen::PassedOver;
            }
            Ok(issued)
        }
    };
    Seen::Compared(Compared {
        event_id: entry.event_id,
        position: entry.position,
        recorded_ms: entry.created_at_ms,
        baseline,
        candidate,
    })
}
