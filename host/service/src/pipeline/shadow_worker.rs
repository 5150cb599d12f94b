//! Projects events aside from live traffic: for a shadow, and a sample of all events a second time, to check whether a
//! release returns the same answer twice. This runs on a dedicated thread, with a bounded queue and a bounded share of
//! processor time: events that do not fit are skipped and counted, and no sender waits.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use belfry_model::MessageSettings;
use belfry_store::{NewChange, Store, now_ms};
use tokio::runtime::Handle;

use crate::diff::{FieldChange, Pair, ProjectionResult, is_its_own, outcome, pairs};
use crate::dry_run::project;
use crate::incoming::Incoming;
use crate::releases::LoadedRelease;
use crate::releases::trial::Candidate;
use crate::sampling::lot;

/// Limit on queued events.
const QUEUE: usize = 512;
/// After each event the thread sleeps for this multiple of the time it worked, so it uses at most a quarter of a processor.
const REST: u32 = 3;
/// The longest sleep.
const LONGEST_REST: Duration = Duration::from_secs(2);
/// Minimum interval at which one replica reports that a release answers differently. The metric counts each time.
const NOTED_EVERY: Duration = Duration::from_secs(600);

/// Hands events to the thread. Cheap to clone; the thread ends with the last clone.
#[derive(Clone)]
pub(crate) struct ShadowWorker {
    queue: SyncSender<Task>,
    /// Events with a lot up to this value are projected a second time.
    rechecked_below: u64,
}

enum Task {
    Shadow {
        candidate: Arc<Candidate>,
        event: Incoming,
        /// The result of the serving release.
        made: ProjectionResult,
        took: Duration,
    },
    Recheck {
        active: Arc<LoadedRelease>,
        event: Incoming,
        made: ProjectionResult,
    },
}

impl ShadowWorker {
    /// Starts the thread. `recheck_percent` of the events are projected a second time.
    pub(crate) fn start(messages: Arc<MessageSettings>, store: Store, recheck_percent: f64) -> Self {
        let (queue, tasks) = sync_channel(QUEUE);
        let worker = Worker { messages, store, runtime: Handle::current(), noted: HashMap::new() };
        let thread = thread::Builder::new().name("aside".into());
        thread.spawn(move || worker.work(&tasks)).expect("the system can start a thread");
        Self { queue, rechecked_below: (recheck_percent / 100.0 * u64::MAX as f64) as u64 }
    }

    /// Queues the event to be projected by a shadow as well, unless the queue is full.
    pub(super) fn offer_to_shadow(
        &self,
        candidate: &Arc<Candidate>,
        event: &Incoming,
        made: ProjectionResult,
        took: Duration,
    ) {
        let task = Task::Shadow { candidate: candidate.clone(), event: event.clone(), made, took };
        if self.queue.try_send(task).is_err() {
            candidate.note(|tally| tally.compared.passed_over += 1);
        }
    }

    /// Returns whether this event belongs to the sample.
    pub(super) fn rechecks(&self, event: &Incoming) -> bool {
        self.rechecked_below > 0 && lot(&event.envelope.event_id) <= self.rechecked_below
    }

    /// Queues the event to be projected a second time by a release, unless the queue is full.
    pub(super) fn recheck(&self, active: &Arc<LoadedRelease>, event: &Incoming, made: ProjectionResult) {
        let task = Task::Recheck { active: active.clone(), event: event.clone(), made };
        if self.queue.try_send(task).is_err() {
            count_recheck(active, "passed-over");
        }
    }
}

struct Worker {
    messages: Arc<MessageSettings>,
    store: Store,
    runtime: Handle,
    /// When a release was last reported to answer differently.
    noted: HashMap<i64, Instant>,
}

impl Worker {
    fn work(mut self, tasks: &Receiver<Task>) {
        while let Ok(task) = tasks.recv() {
            let began = Instant::now();
            // A fault of the host costs this event's comparison, not the thread.
            let _ = catch_unwind(AssertUnwindSafe(|| match task {
                Task::Shadow { candidate, event, made, took } => self.shadow(&candidate, &event, &made, took),
                Task::Recheck { active, event, made } => self.recheck(&active, &event, &made),
            }));
            thread::sleep((began.elapsed() * REST).min(LONGEST_REST));
        }
    }

    fn shadow(&self, candidate: &Candidate, event: &Incoming, made: &ProjectionResult, took: Duration) {
        let release = &candidate.release;
        let began = Instant::now();
        let shadowed = match release.wants(&event.envelope) {
            true => project(release, &event.envelope, &event.event, &self.messages),
            false => Ok(Vec::new()),
        };
        let shadow_took = began.elapsed();
        candidate.note(|tally| {
            tally.active.note(outcome(made), count(made), took);
            tally.candidate.note(outcome(&shadowed), count(&shadowed), shadow_took);
            tally.compared.note(event.envelope.event_id, made, &shadowed, now_ms());
        });
    }

    fn recheck(&mut self, active: &LoadedRelease, event: &Incoming, made: &ProjectionResult) {
        let again = project(active, &event.envelope, &event.event, &self.messages);
        if !is_its_own(outcome(made)) || !is_its_own(outcome(&again)) {
            return;
        }
        let fields = differences(made, &again);
        if outcome(made) == outcome(&again) && fields.is_empty() {
            return count_recheck(active, "same");
        }
        count_recheck(active, "differs");
        let noted = self.noted.get(&active.release_id);
        if noted.is_some_and(|noted| noted.elapsed() < NOTED_EVERY) {
            return;
        }
        self.noted.insert(active.release_id, Instant::now());
        let event_id = event.envelope.event_id;
        tracing::error!(
            release = active.label,
            %event_id,
            then = %outcome(made),
            now = %outcome(&again),
            "a release answered the same event differently"
        );
        let change = NewChange::answered_differently(
            &active.label,
            event_id,
            [outcome(made).as_str(), outcome(&again).as_str()],
            &fields,
        );
        let store = self.store.clone();
        self.runtime.spawn(async move {
            if let Err(error) = store.note_change(&change, now_ms()).await {
                tracing::warn!(%error, "cannot record in the audit log that a release answered differently");
            }
        });
    }
}

/// Returns the names of the fields that differ, without their values.
fn differences(made: &ProjectionResult, again: &ProjectionResult) -> Vec<String> {
    let (Ok(made), Ok(again)) = (made, again) else { return Vec::new() };
    let mut fields: Vec<String> = pairs(made, again)
        .flat_map(|pair| match pair {
            Pair::Same(_) => Vec::new(),
            // The rule chooses the names within a payload; they may identify people.
            Pair::Changed { fields, .. } => fields.into_iter().map(FieldChange::field_of_notification).collect(),
            Pair::Removed(_) | Pair::Added(_) => vec!["notification".to_owned()],
        })
        .collect();
    fields.sort();
    fields.dedup();
    fields
}

fn count_recheck(active: &LoadedRelease, result: &'static str) {
    metrics::counter!("belfry_rechecks_total", "projector" => active.name.clone(), "result" => result).increment(1);
}

fn count(made: &ProjectionResult) -> usize {
    made.as_ref().map_or(0, Vec::len)
}
