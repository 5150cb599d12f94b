//! Running the rules. Events are handed to the guests' threads in small lots: one at a time would cost more in handing
//! over than in running.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use belfry_model::{Cause, Message, MessageSettings, Notification, Outcome, Refusal};
use belfry_sandbox::{Answer, Failure, Overloaded, Projection, Timings};
use futures_util::future::try_join_all;

use super::{Pipeline, record};
use crate::ingest::Incoming;
use crate::releases::Active;

/// Events that one thread takes at once from one release.
const LOT: usize = 16;

/// What one projector made of one event.
pub(super) struct Projected {
    pub(super) active: Arc<Active>,
    pub(super) answer: Result<Vec<(Notification, Message)>, NotProjected>,
}

impl Projected {
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

/// Project each event with every projector that wants it, in the order of the projectors' names.
pub(super) async fn all(pipeline: &Pipeline, events: &[Incoming]) -> Result<Vec<Vec<Projected>>, Overloaded> {
    let mut lots = Vec::new();
    for active in pipeline.registry.active().iter() {
        let wanted: Vec<usize> = (0..events.len()).filter(|event| active.wants(&events[*event].envelope)).collect();
        for lot in wanted.chunks(LOT) {
            lots.push(run_lot(pipeline, active.clone(), lot.to_vec(), events));
        }
    }
    let mut projected: Vec<Vec<Projected>> = events.iter().map(|_| Vec::new()).collect();
    for lot in try_join_all(lots).await? {
        for (event, made) in lot {
            projected[event].push(made);
        }
    }
    Ok(projected)
}

async fn run_lot(
    pipeline: &Pipeline,
    active: Arc<Active>,
    lot: Vec<usize>,
    events: &[Incoming],
) -> Result<Vec<(usize, Projected)>, Overloaded> {
    let events: Vec<Incoming> = lot.iter().map(|event| events[*event].clone()).collect();
    let messages = pipeline.messages.clone();
    // What the broker would never take, no sink has to refuse.
    let limit = pipeline.topics.as_ref().and_then(|topics| topics.largest(&messages.topic));
    let release_id = active.release_id;
    let run = move || events.iter().map(|event| project(&active, event, &messages, limit)).collect::<Vec<_>>();
    let made = pipeline.executor.run(release_id, run).await?;
    Ok(lot.into_iter().zip(made).collect())
}

/// Run the rule on one event and finish its messages. On a guest's thread.
fn project(active: &Arc<Active>, event: &Incoming, messages: &MessageSettings, limit: Option<usize>) -> Projected {
    // A fault of ours around a rule must cost that rule's notifications only, like one of its own.
    let call = || active.projector.project(&active.configuration, &event.envelope, &event.event);
    let projection = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| Projection {
        answer: Answer::Failed(Failure { outcome: Outcome::Trapped, detail: "the host failed around the rule".into() }),
        log: Vec::new(),
        timings: Timings::default(),
    });
    let Projection { answer, log, timings } = projection;
    let answer = match answer {
        Answer::Notifications(notifications) => finish(active, event, notifications, messages, limit),
        Answer::Rejected(rejection) => Err(NotProjected {
            outcome: Outcome::Rejected,
            detail: format!("{}: {}", rejection.code, rejection.reason),
        }),
        Answer::Failed(Failure { outcome, detail }) => Err(NotProjected { outcome, detail }),
    };
    let projected = Projected { active: active.clone(), answer };
    observe(&projected, &timings, log.len());
    projected
}

fn finish(
    active: &Active,
    event: &Incoming,
    notifications: Vec<Notification>,
    messages: &MessageSettings,
    limit: Option<usize>,
) -> Result<Vec<(Notification, Message)>, NotProjected> {
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
fn observe(projected: &Projected, timings: &Timings, log_lines: usize) {
    let outcome = projected.outcome().as_str();
    metrics::histogram!("belfry_project_seconds", "projector" => projected.active.name.clone(), "outcome" => outcome)
        .record(timings.instantiate + timings.call + timings.drop);
    tracing::debug!(release = %projected.active.label, outcome, log_lines, "projected");
}
