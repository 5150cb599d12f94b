//! Running the rules. Events are handed to the guests' threads in small lots: one at a time would cost more in handing
//! over than in running.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use belfry_model::{Cause, Message, MessageSettings, Notification, Outcome, Refusal};
use belfry_sandbox::{Answer, Failure, Overloaded, Projection, Timings};
use belfry_store::{StoreError, crash_point};
use futures_util::future::try_join_all;

use super::{NotTaken, Pipeline, record};
use crate::comparison::{Made, Told};
use crate::ingest::Incoming;
use crate::releases::trial::{Candidate, Side};
use crate::releases::{Active, Halt, ReleaseError};

/// Events that one thread takes at once from one release.
pub(super) const LOT: usize = 16;

/// What one projector made of one event.
pub(super) struct Projected {
    pub(super) active: Arc<Active>,
    pub(super) answer: Result<Vec<(Notification, Message)>, NotProjected>,
    /// How long that took.
    took: Duration,
    /// Whether the host is to blame that it failed.
    pub(super) starved: bool,
}

impl Projected {
    /// Whether it failed; what the rule rejects it did not fail on.
    fn is_failure(&self) -> bool {
        !matches!(self.outcome(), Outcome::Notifications | Outcome::Rejected)
    }

    /// What the host is to blame for says nothing of the release.
    fn note(&self, side: &mut Side) {
        if self.starved {
            return;
        }
        side.note(self.outcome(), self.answer.as_ref().map_or(0, Vec::len), self.took);
    }

    /// The same as a shadow's answer is compared with.
    fn told(&self) -> Made {
        match &self.answer {
            Ok(made) => Ok(made.iter().map(|(notification, _)| Told::from(notification.clone())).collect()),
            Err(failed) => Err(failed.outcome),
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        match &self.answer {
            Ok(_) => Outcome::Notifications,
            Err(failed) => failed.outcome,
        }
    }
}

/// Why a projector made nothing of an event, as its dead letter tells it.
pub(super) struct NotProjected {
    pub(super) outcome: Outcome,
    pub(super) detail: String,
}

/// How often the events of one call are projected again because the release that they met was taken out.
const MAX_REPLACEMENTS: usize = 8;

/// Projected events, by their places among those of the call.
type Places = Vec<(usize, Projected)>;

/// Project each event with every projector that wants it, in the order of the projectors' names.
pub(super) async fn all(pipeline: &Pipeline, events: &[Incoming]) -> Result<Vec<Vec<Projected>>, NotTaken> {
    let mut projected: Vec<Vec<Projected>> = events.iter().map(|_| Vec::new()).collect();
    let serving = pipeline.registry.serving();
    let starving = Arc::new(Starving::of(&serving.active, events));
    let of_each = serving.active.iter().map(|active| {
        // What is at a halt has nothing that could be tried beside it.
        let candidate = serving.candidate(&active.name).filter(|_| active.halt.is_none());
        with_one(pipeline, active.clone(), candidate, events, &starving)
    });
    for of_one in try_join_all(of_each).await? {
        for (event, made) in of_one {
            projected[event].push(made);
        }
    }
    if projected.iter().any(|of_event| is_starved(of_event)) {
        return Err(NotTaken::Starved);
    }
    Ok(projected)
}

/// Whether all rules that were asked failed, and the host is to blame for each: it is in no state to take events.
fn is_starved(of_event: &[Projected]) -> bool {
    let mut asked = of_event.iter().filter(|made| made.active.halt.is_none()).peekable();
    asked.peek().is_some() && asked.all(|made| made.starved)
}

/// Finds out as early as can be that a call's events will be refused because the host is too busy: each that starves costs
/// several deadlines, so the events behind the first are not tried.
struct Starving {
    /// For each event, how many of the rules that want it have not starved.
    hopes: Vec<AtomicUsize>,
    refused: AtomicBool,
}

impl Starving {
    fn of(active: &[Arc<Active>], events: &[Incoming]) -> Self {
        let asked =
            |event: &Incoming| active.iter().filter(|one| one.halt.is_none() && one.wants(&event.envelope)).count();
        Self {
            hopes: events.iter().map(|event| AtomicUsize::new(asked(event))).collect(),
            refused: AtomicBool::new(false),
        }
    }

    /// A rule starved on an event.
    fn note(&self, event: usize) {
        if self.hopes[event].fetch_sub(1, Ordering::Relaxed) == 1 {
            self.refused.store(true, Ordering::Relaxed);
        }
    }

    fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }
}

/// Project the events that a projector wants: a canary's subjects with the canary, all others with the release that serves.
async fn with_one(
    pipeline: &Pipeline,
    active: Arc<Active>,
    candidate: Option<&Arc<Candidate>>,
    events: &[Incoming],
    starving: &Arc<Starving>,
) -> Result<Places, NotTaken> {
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

/// What the canary fails on, the release beside it projects: nobody misses a notification because something is tried.
async fn with_canary(
    pipeline: &Pipeline,
    active: &Arc<Active>,
    candidate: &Candidate,
    tried: Vec<usize>,
    events: &[Incoming],
) -> Result<Places, NotTaken> {
    let wanted_by_it = wanted_by(&candidate.release, tried, events);
    if wanted_by_it.is_empty() {
        return Ok(Places::new());
    }
    let tried = run_lots(pipeline, &candidate.release, &wanted_by_it, events, None).await?;
    candidate.note(|tally| tried.iter().for_each(|(_, made)| made.note(&mut tally.candidate)));
    if let Some(finding) = candidate.release.health.finding() {
        // Later events go to the release beside it at once, on this replica; those of this call below.
        pipeline.registry.take_back(candidate, &finding).await.map_err(not_replaced)?;
    }
    let (failed, mut made): (Places, Places) = tried.into_iter().partition(|(_, projected)| projected.is_failure());
    let again = wanted_by(active, failed.into_iter().map(|(event, _)| event), events);
    made.extend(with_active(pipeline, active.clone(), again, events, None).await?);
    Ok(made)
}

/// Let a shadow project what the release beside it was asked for, and what only the shadow wants.
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
        let (told, took) = made.map_or((Ok(Vec::new()), Duration::ZERO), |made| (made.told(), made.took));
        pipeline.aside.offer_to_shadow(candidate, &events[*event], told, took);
    }
}

/// Project events with the release that serves. If it turns out to fail again and again it is taken out, and what it failed
/// on is projected with the one that serves then: the failures that nobody has written down yet never become dead letters.
async fn with_active(
    pipeline: &Pipeline,
    active: Arc<Active>,
    wanted: Vec<usize>,
    events: &[Incoming],
    starving: Option<&Arc<Starving>>,
) -> Result<Places, NotTaken> {
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
        // What the other release does not subscribe to is nobody's.
        let again = wanted_by(&serving, failed, events);
        made.extend(run_lots(pipeline, &serving, &again, events, None).await?);
        failing = serving;
    }
    Ok(made)
}

/// Of the events at these places, those that a release subscribes to.
fn wanted_by(active: &Active, places: impl IntoIterator<Item = usize>, events: &[Incoming]) -> Vec<usize> {
    places.into_iter().filter(|event| active.wants(&events[*event].envelope)).collect()
}

/// Project an event that stands in the log already. It counts for or against the release as any other.
pub(super) async fn one(pipeline: &Pipeline, active: Arc<Active>, event: &Incoming) -> Result<Projected, Overloaded> {
    let made = run_lot(pipeline, active, vec![0], std::slice::from_ref(event), None).await?;
    Ok(made.into_iter().next().expect("one for one event").1)
}

fn not_replaced(error: ReleaseError) -> NotTaken {
    match error {
        ReleaseError::Store(error) => NotTaken::Store(error),
        error => NotTaken::Store(StoreError::Failed(format!("a release that fails cannot be taken out: {error}"))),
    }
}

async fn run_lots(
    pipeline: &Pipeline,
    active: &Arc<Active>,
    wanted: &[usize],
    events: &[Incoming],
    starving: Option<&Arc<Starving>>,
) -> Result<Places, NotTaken> {
    let lots = wanted.chunks(LOT).map(|lot| run_lot(pipeline, active.clone(), lot.to_vec(), events, starving));
    let made: Places = try_join_all(lots).await?.into_iter().flatten().collect();
    if starving.is_some_and(|starving| starving.is_refused()) {
        return Err(NotTaken::Starved);
    }
    // What is at a halt was not asked.
    let asked = made.iter().filter(|_| active.halt.is_none());
    for (event, made) in asked.filter(|(event, _)| pipeline.aside.rechecks(&events[*event])) {
        pipeline.aside.recheck(active, &events[*event], made.told());
    }
    Ok(made)
}

async fn run_lot(
    pipeline: &Pipeline,
    active: Arc<Active>,
    lot: Vec<usize>,
    events: &[Incoming],
    starving: Option<&Arc<Starving>>,
) -> Result<Places, Overloaded> {
    let events: Vec<(usize, Incoming)> = lot.into_iter().map(|event| (event, events[event].clone())).collect();
    let starving = starving.cloned();
    let messages = pipeline.messages.clone();
    // What the broker would never take, no sink has to refuse.
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

/// Run the rule on one event and finish its messages. On a guest's thread.
fn project(active: &Arc<Active>, event: &Incoming, messages: &MessageSettings, limit: Option<usize>) -> Projected {
    if let Some(Halt { cause, detail }) = &active.halt {
        let answer = Err(NotProjected { outcome: *cause, detail: detail.clone() });
        return Projected { active: active.clone(), answer, took: Duration::ZERO, starved: false };
    }
    // A fault of ours around a rule must cost that rule's notifications only, like one of its own. One that is not loaded
    // is at a halt.
    let call = || {
        let projector = active.projector.as_ref().expect("a release that is asked is loaded");
        projector.project(&active.configuration, &event.envelope, &event.event)
    };
    let projection = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| Projection {
        answer: Answer::Failed(Failure { outcome: Outcome::Trapped, detail: "the host failed around the rule".into() }),
        log: Vec::new(),
        timings: Timings::default(),
        starved: false,
    });
    let Projection { answer, log, timings, starved } = projection;
    let answer = match answer {
        Answer::Notifications(notifications) => {
            let finish = || finish(active, event, notifications, messages, limit);
            catch_unwind(AssertUnwindSafe(finish)).unwrap_or_else(|_| {
                let detail = "the host failed on what the rule answered".into();
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
    active: &Active,
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
            .map_or(0, |limit| record::notification_bytes(&message, &notification.recipient, &event.envelope, limit));
        match limit.filter(|limit| bytes > *limit) {
            None => Ok((notification, message)),
            Some(limit) => Err(NotProjected {
                outcome: Outcome::OutputLimit,
                detail: format!(
                    "notification {place}: {bytes} bytes as a record, the topic of notifications takes {limit} \
                     (max.message.bytes); make it smaller, or raise the topic's limit"
                ),
            }),
        }
    });
    finished.collect()
}

/// What a rule writes to its log may quote the event, so only its amount is told.
fn observe(projected: &Projected, log_lines: usize) {
    let outcome = projected.outcome().as_str();
    metrics::histogram!("belfry_project_seconds", "projector" => projected.active.name.clone(), "outcome" => outcome)
        .record(projected.took);
    tracing::debug!(release = %projected.active.label, outcome, log_lines, "projected");
}
