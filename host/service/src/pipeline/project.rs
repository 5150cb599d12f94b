//! Runs the rules. Events are handed to the guests' threads in small lots: handing them over one at a time would cost more
//! than running the rule.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use belfry_model::{Cause, Message, MessageSettings, Notification, Outcome, Refusal};
use belfry_sandbox::{Answer, Failure, Overloaded, Projection, Timings};
use belfry_store::{StoreError, crash_point};
use futures_util::future::try_join_all;

use super::projected::{NotProjected, Projected};
use super::{IngestError, Pipeline, rows};
use crate::incoming::Incoming;
use crate::releases::trial::Candidate;
use crate::releases::{Halt, LoadedRelease, ReleaseError};

/// Number of events that a thread takes at once for one release.
pub(super) const LOT: usize = 16;

/// Limit on how often the events of one call are projected again because the release was suspended.
const MAX_REPLACEMENTS: usize = 8;

/// Projected events, with their indexes among the events of the call.
type Places = Vec<(usize, Projected)>;

/// Projects each event with every projector that subscribes to it, in the order of the projectors' names.
pub(super) async fn all(pipeline: &Pipeline, events: &[Incoming]) -> Result<Vec<Vec<Projected>>, IngestError> {
    let mut projected: Vec<Vec<Projected>> = events.iter().map(|_| Vec::new()).collect();
    let serving = pipeline.registry.serving();
    let starving = Arc::new(StarvationGuard::of(&serving.active, events));
    let of_each = serving.active.iter().map(|active| {
        // While a release is halted, its candidate is not tried.
        let candidate = serving.candidate(&active.name).filter(|_| active.halt.is_none());
        with_one(pipeline, active.clone(), candidate, events, &starving)
    });
    for of_one in try_join_all(of_each).await? {
        for (event, made) in of_one {
            projected[event].push(made);
        }
    }
    if projected.iter().any(|of_event| is_starved(of_event)) {
        return Err(IngestError::Starved);
    }
    Ok(projected)
}

/// Returns whether all rules that were called failed, and the host is to blame for each: then it cannot accept events.
fn is_starved(of_event: &[Projected]) -> bool {
    let mut asked = of_event.iter().filter(|made| made.active.halt.is_none()).peekable();
    asked.peek().is_some() && asked.all(|made| made.starved)
}

/// Detects as early as possible that a call's events will be refused because the host is too busy. Each starved event costs
/// several deadlines, so the events after the first are not tried.
struct StarvationGuard {
    /// For each event, the number of rules that subscribe to it and have not starved.
    hopes: Vec<AtomicUsize>,
    refused: AtomicBool,
}

impl StarvationGuard {
    fn of(active: &[Arc<LoadedRelease>], events: &[Incoming]) -> Self {
        let asked =
            |event: &Incoming| active.iter().filter(|one| one.halt.is_none() && one.wants(&event.envelope)).count();
        Self {
            hopes: events.iter().map(|event| AtomicUsize::new(asked(event))).collect(),
            refused: AtomicBool::new(false),
        }
    }

    /// Records that a rule starved on an event.
    fn note(&self, event: usize) {
        if self.hopes[event].fetch_sub(1, Ordering::Relaxed) == 1 {
            self.refused.store(true, Ordering::Relaxed);
        }
    }

    fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }
}

/// Projects the events that a projector subscribes to: a canary's subjects with the canary, all others with the serving
/// release.
async fn with_one(
    pipeline: &Pipeline,
    active: Arc<LoadedRelease>,
    candidate: Option<&Arc<Candidate>>,
    events: &[Incoming],
    starving: &Arc<StarvationGuard>,
) -> Result<Places, IngestError> {
    let Some(candidate) = candidate else {
        let wanted = wanted_by(&active, 0..events.len(), events);
        return with_active(pipeline, active, wanted, events, Some(starving)).await;
    };
    let (tried, others): (Vec<usize>, Vec<usize>) =
        (0..events.len()).partition(|event| candidate.serves(&active, &events[*event].envelope));
    let mut made = with_canary(pipeline, &active, candidate, tried, events).await?;
    let wanted = wanted_by(&active, others.iter().copied(), events);
    let beside = with_active(pipeline, active, wanted, events, Some(starving)).await?;
    if candidate.is_shadow() {
        offer_to_shadow(pipeline, candidate, &others, &beside, events);
    } else {
        candidate.note(|tally| beside.iter().for_each(|(_, made)| made.note(&mut tally.active)));
    }
    made.extend(beside);
    Ok(made)
}

/// Projects events with the canary. The serving release projects those that the canary fails on, so that no recipient
/// misses a notification because of a trial.
async fn with_canary(
    pipeline: &Pipeline,
    active: &Arc<LoadedRelease>,
    candidate: &Candidate,
    tried: Vec<usize>,
    events: &[Incoming],
) -> Result<Places, IngestError> {
    let wanted_by_it = wanted_by(&candidate.release, tried, events);
    if wanted_by_it.is_empty() {
        return Ok(Places::new());
    }
    let tried = run_lots(pipeline, &candidate.release, &wanted_by_it, events, None).await?;
    candidate.note(|tally| tried.iter().for_each(|(_, made)| made.note(&mut tally.candidate)));
    if let Some(finding) = candidate.release.health.finding() {
        // From now on this replica projects later events with the serving release; those of this call follow below.
        pipeline.registry.roll_back_canary(candidate, &finding).await.map_err(not_replaced)?;
    }
    let (failed, mut made): (Places, Places) = tried.into_iter().partition(|(_, projected)| projected.is_failure());
    let again = wanted_by(active, failed.into_iter().map(|(event, _)| event), events);
    made.extend(with_active(pipeline, active.clone(), again, events, None).await?);
    Ok(made)
}

/// Offers a shadow the events that the serving release projected, and those that only the shadow subscribes to.
fn offer_to_shadow(
    pipeline: &Pipeline,
    candidate: &Arc<Candidate>,
    others: &[usize],
    beside: &[(usize, Projected)],
    events: &[Incoming],
) {
    let beside: HashMap<usize, &Projected> = beside.iter().map(|(place, made)| (*place, made)).collect();
    for event in others {
        let made = beside.get(event);
        if made.is_none() && !candidate.release.wants(&events[*event].envelope) {
            continue;
        }
        let (content, took) = made.map_or((Ok(Vec::new()), Duration::ZERO), |made| (made.content(), made.took));
        pipeline.aside.offer_to_shadow(candidate, &events[*event], content, took);
    }
}

/// Projects events with the serving release. If it fails repeatedly it is suspended, and the events that it failed on are
/// projected with the release that serves then: failures that are not recorded yet never become dead letters.
async fn with_active(
    pipeline: &Pipeline,
    active: Arc<LoadedRelease>,
    wanted: Vec<usize>,
    events: &[Incoming],
    starving: Option<&Arc<StarvationGuard>>,
) -> Result<Places, IngestError> {
    let mut made = run_lots(pipeline, &active, &wanted, events, starving).await?;
    let mut failing = active;
    for _ in 0..MAX_REPLACEMENTS {
        if !failing.health.is_failing() {
            break;
        }
        let Some(serving) = pipeline.registry.suspend(&failing).await.map_err(not_replaced)? else { break };
        let failed: Vec<usize> =
            made.iter().filter(|(_, projected)| projected.is_failure()).map(|(event, _)| *event).collect();
        made.retain(|(_, projected)| !projected.is_failure());
        // Events that the other release does not subscribe to are left out.
        let again = wanted_by(&serving, failed, events);
        made.extend(run_lots(pipeline, &serving, &again, events, None).await?);
        failing = serving;
    }
    Ok(made)
}

/// Returns those of the events at these indexes that a release subscribes to.
fn wanted_by(active: &LoadedRelease, places: impl IntoIterator<Item = usize>, events: &[Incoming]) -> Vec<usize> {
    places.into_iter().filter(|event| active.wants(&events[*event].envelope)).collect()
}

/// Projects an event that is already in the log. It counts towards the release's health like any other.
pub(super) async fn one(
    pipeline: &Pipeline,
    active: Arc<LoadedRelease>,
    event: &Incoming,
) -> Result<Projected, Overloaded> {
    let made = run_lot(pipeline, active, vec![0], std::slice::from_ref(event), None).await?;
    Ok(made.into_iter().next().expect("one result for one event").1)
}

fn not_replaced(error: ReleaseError) -> IngestError {
    match error {
        ReleaseError::Store(error) => IngestError::Store(error),
        error => IngestError::Store(StoreError::Failed(format!("cannot suspend a failing release: {error}"))),
    }
}

async fn run_lots(
    pipeline: &Pipeline,
    active: &Arc<LoadedRelease>,
    wanted: &[usize],
    events: &[Incoming],
    starving: Option<&Arc<StarvationGuard>>,
) -> Result<Places, IngestError> {
    let lots = wanted.chunks(LOT).map(|lot| run_lot(pipeline, active.clone(), lot.to_vec(), events, starving));
    let made: Places = try_join_all(lots).await?.into_iter().flatten().collect();
    if starving.is_some_and(|starving| starving.is_refused()) {
        return Err(IngestError::Starved);
    }
    // A halted release was not called.
    let asked = made.iter().filter(|_| active.halt.is_none());
    for (event, made) in asked.filter(|(event, _)| pipeline.aside.rechecks(&events[*event])) {
        pipeline.aside.recheck(active, &events[*event], made.content());
    }
    Ok(made)
}

async fn run_lot(
    pipeline: &Pipeline,
    active: Arc<LoadedRelease>,
    lot: Vec<usize>,
    events: &[Incoming],
    starving: Option<&Arc<StarvationGuard>>,
) -> Result<Places, Overloaded> {
    let events: Vec<(usize, Incoming)> = lot.into_iter().map(|event| (event, events[event].clone())).collect();
    let starving = starving.cloned();
    let messages = pipeline.messages.clone();
    // A message that the broker would never accept is refused here, not at a sink.
    let limit = pipeline.publishing.topics.as_ref().and_then(|topics| topics.largest(&messages.topic));
    let release_id = active.release_id;
    let run = move || {
        let mut made = Places::with_capacity(events.len());
        for (event, incoming) in events {
            if starving.as_ref().is_some_and(|starving| starving.is_refused()) {
                break;
            }
            let projected = project(&active, &incoming, &messages, limit);
            if let Some(starving) = starving.as_ref().filter(|_| projected.starved) {
                starving.note(event);
            }
            made.push((event, projected));
        }
        made
    };
    pipeline.executor.run(release_id, run).await
}

/// Runs the rule on one event and finishes its messages. Called on a guest's thread.
fn project(
    active: &Arc<LoadedRelease>,
    event: &Incoming,
    messages: &MessageSettings,
    limit: Option<usize>,
) -> Projected {
    if let Some(Halt { cause, detail }) = &active.halt {
        let answer = Err(NotProjected { outcome: *cause, detail: detail.clone() });
        return Projected { active: active.clone(), answer, took: Duration::ZERO, starved: false };
    }
    // A fault of the host around a rule must cost only that rule's notifications, like a fault of the rule. A release that
    // is not loaded is halted.
    let call = || {
        let projector = active.projector.as_ref().expect("a release that is called is loaded");
        projector.project(&active.configuration, &event.envelope, &event.event)
    };
    let projection = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| Projection {
        answer: Answer::Failed(Failure {
            outcome: Outcome::Trapped,
            detail: "the host failed while it ran the rule".into(),
        }),
        log: Vec::new(),
        timings: Timings::default(),
        starved: false,
    });
    let Projection { answer, log, timings, starved } = projection;
    let answer = match answer {
        Answer::Notifications(notifications) => {
            let finish = || finish(active, event, notifications, messages, limit);
            catch_unwind(AssertUnwindSafe(finish)).unwrap_or_else(|_| {
                let detail = "the host failed on the rule's answer".into();
                Err(NotProjected { outcome: Outcome::Trapped, detail })
            })
        }
        Answer::Rejected(rejection) => Err(NotProjected {
            outcome: Outcome::Rejected,
            detail: format!("{}: {}", rejection.code, rejection.reason),
        }),
        Answer::Failed(Failure { outcome, detail }) => Err(NotProjected { outcome, detail }),
    };
    let took = timings.instantiate + timings.call + timings.drop;
    let projected = Projected { active: active.clone(), answer, took, starved };
    if starved {
        metrics::counter!("belfry_starved_total", "projector" => active.name.clone()).increment(1);
    } else {
        active.health.note(projected.outcome());
    }
    observe(&projected, log.len());
    projected
}

fn finish(
    active: &LoadedRelease,
    event: &Incoming,
    notifications: Vec<Notification>,
    messages: &MessageSettings,
    limit: Option<usize>,
) -> Result<Vec<(Notification, Message)>, NotProjected> {
    crash_point!("project.finish");
    let cause = Cause { projector: &active.name, release: &active.label };
    let finished = notifications.into_iter().enumerate().map(|(place, notification)| {
        let message =
            Message::finish(&notification, &event.envelope, cause, messages).map_err(|refusal: Refusal| {
                NotProjected { outcome: refusal.outcome, detail: format!("notification {place}: {refusal}") }
            })?;
        let bytes = limit
            .map_or(0, |limit| rows::notification_bytes(&message, &notification.recipient, &event.envelope, limit));
        match limit.filter(|limit| bytes > *limit) {
            None => Ok((notification, message)),
            Some(limit) => Err(NotProjected {
                outcome: Outcome::OutputLimit,
                detail: format!(
                    "notification {place}: {bytes} bytes as a record, but the topic of notifications accepts {limit} \
                     (max.message.bytes); make it smaller, or raise the topic's limit"
                ),
            }),
        }
    });
    finished.collect()
}

/// Records metrics and logs the result. A rule's log lines may quote the event, so only their number is logged.
fn observe(projected: &Projected, log_lines: usize) {
    let outcome = projected.outcome().as_str();
    metrics::histogram!("belfry_project_seconds", "projector" => projected.active.name.clone(), "outcome" => outcome)
        .record(projected.took);
    tracing::debug!(release = %projected.active.label, outcome, log_lines, "projected");
}
