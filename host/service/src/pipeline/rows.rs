//! Turns an event and its projections into the rows that are committed.

use std::borrow::Cow;
use std::time::Instant;

use belfry_model::{Envelope, Message, Notification, Outcome};
use belfry_store::{NewDeadLetter, NewEvent, NewNotification, RedriveOutcome, Submission};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::projected::Projected;
use super::{IssuedNotification, Summary};
use crate::config::DeliveryMode;
use crate::incoming::{Arrival, Incoming};
use crate::kafka::record_bytes;

/// The result of one projector for an event, as kept in the event's row: it also explains why there are no notifications.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ProjectionRecord {
    pub(crate) projector: String,
    pub(crate) release_id: i64,
    pub(crate) release: String,
    pub(crate) outcome: Outcome,
    pub(crate) count: usize,
}

/// The headers that every message carries. Consumers recognize repetitions by the first two alone.
#[derive(Serialize)]
struct Headers<'a> {
    event_id: Uuid,
    event_type: &'a str,
    trace_id: Uuid,
    source_service: &'a str,
    schema_version: String,
    occurred_at: &'a str,
    content_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<&'a str>,
}

/// Returns the size of an event's record; 0 without a limit. Below the limit it may be an upper bound.
pub(super) fn event_bytes(incoming: &Incoming, limit: Option<usize>) -> usize {
    let Some(limit) = limit else { return 0 };
    let key = event_key(incoming);
    let roughly = at_most(incoming.payload.len(), key.len());
    if roughly <= limit {
        return roughly;
    }
    record_bytes(incoming.payload.len(), event_headers(&incoming.envelope).len(), key.len())
}

/// Returns the size of a notification's record. Below the limit it may be an upper bound.
pub(super) fn notification_bytes(message: &Message, recipient: &str, cause: &Envelope, limit: usize) -> usize {
    let roughly = at_most(message.text.len(), recipient.len());
    if roughly <= limit {
        return roughly;
    }
    let headers = headers(cause, message.id, &message.topic, &message.source_service, 1);
    record_bytes(message.text.len(), headers.len(), recipient.len())
}

/// Returns an upper bound on a record's size: headers repeat values of the payload, and add their names and an id that the
/// payload may lack.
fn at_most(payload: usize, key: usize) -> usize {
    record_bytes(payload, payload + 512, key)
}

/// Builds the rows of an event. While Belfry observes, no entry gets a topic, so no sink will ever send it, whatever the
/// mode is later.
pub(super) fn submission(
    incoming: Incoming,
    projected: Vec<Projected>,
    mode: DeliveryMode,
    published: bool,
    muted: bool,
) -> (Submission, Summary) {
    let projections: Vec<ProjectionRecord> = projected.iter().map(projection).collect();
    let event = event(&incoming, &projections, published);
    let mut notifications = Vec::new();
    let mut dead_letters = Vec::new();
    let mut summary = Summary { published, notifications: Vec::new(), dead_letters: Vec::new() };
    for Projected { active, answer, .. } in projected {
        match answer {
            Ok(made) => {
                for (notification, message) in made {
                    let noted = IssuedNotification {
                        notification_id: message.id,
                        projector: active.name.clone(),
                        recipient: notification.recipient.clone(),
                    };
                    summary.notifications.push((noted, notification.priority.as_str()));
                    notifications.push(new_notification(&incoming, notification, message, active.release_id, mode));
                }
            }
            Err(failed) => {
                let cause = failed.outcome.as_str();
                summary.dead_letters.push((active.name.clone(), cause));
                dead_letters.push(NewDeadLetter {
                    projector: active.name.clone(),
                    release_id: active.release_id,
                    cause,
                    detail: failed.detail,
                });
            }
        }
    }
    let origin = incoming.arrival.origin().cloned();
    (Submission { event, notifications, dead_letters, muted, origin }, summary)
}

fn new_notification(
    incoming: &Incoming,
    notification: Notification,
    message: Message,
    release_id: i64,
    mode: DeliveryMode,
) -> NewNotification {
    let headers = headers(&incoming.envelope, message.id, &message.topic, &message.source_service, 1);
    NewNotification {
        notification_id: message.id,
        topic: (mode == DeliveryMode::Send).then(|| message.topic.clone()),
        event_type: message.topic,
        recipient: notification.recipient,
        payload: message.text.into(),
        headers,
        release_id,
        expires_at_ms: notification.expires_at_ms,
    }
}

/// Builds the outcome of a redrive.
pub(super) fn redriven(incoming: &Incoming, projected: Projected, mode: DeliveryMode, muted: bool) -> RedriveOutcome {
    let Projected { active, answer, .. } = projected;
    let release_id = active.release_id;
    match answer {
        Ok(made) => {
            let new = |(notification, message)| new_notification(incoming, notification, message, release_id, mode);
            RedriveOutcome::Notifications { notifications: made.into_iter().map(new).collect(), muted }
        }
        Err(failed) => {
            let (cause, detail) = (failed.outcome.as_str(), failed.detail);
            RedriveOutcome::StillDead { release_id, cause, detail }
        }
    }
}

fn projection(projected: &Projected) -> ProjectionRecord {
    ProjectionRecord {
        projector: projected.active.name.clone(),
        release_id: projected.active.release_id,
        release: projected.active.label.clone(),
        outcome: projected.outcome(),
        count: projected.answer.as_ref().map_or(0, Vec::len),
    }
}

fn event(incoming: &Incoming, projections: &[ProjectionRecord], published: bool) -> NewEvent {
    let envelope = &incoming.envelope;
    let (aggregate_type, aggregate_id) = match &envelope.batch_id {
        Some(batch_id) => ("batch", batch_id.clone()),
        None => ("event", envelope.subject(None)),
    };
    let resolving = Instant::now();
    let event_key = event_key(incoming).into_owned();
    metrics::histogram!("partition_key_resolution_seconds").record(resolving.elapsed());
    let headers = event_headers(envelope);
    NewEvent {
        event_id: envelope.event_id,
        content_hash: incoming.content_hash,
        event_type: envelope.event_type.clone(),
        aggregate_type,
        aggregate_id: aggregate_id.replace('\0', "\u{fffd}"),
        topic: published.then(|| incoming.topic().to_owned()),
        event_key,
        payload: incoming.payload.clone(),
        headers,
        projections: json(&projections),
    }
}

/// Returns the key that determines the event's partition; empty if there is none.
fn event_key(incoming: &Incoming) -> Cow<'_, str> {
    let chosen = match &incoming.arrival {
        Arrival::Submitted { event_key, .. } => event_key.as_deref(),
        Arrival::Posted | Arrival::Consumed(_) => None,
    };
    let envelope = &incoming.envelope;
    let key = envelope.partition_key.as_deref().or(chosen).or(envelope.batch_id.as_deref()).unwrap_or_default();
    if key.contains('\0') { key.replace('\0', "\u{fffd}").into() } else { key.into() }
}

fn event_headers(envelope: &Envelope) -> Bytes {
    headers(envelope, envelope.event_id, &envelope.event_type, &envelope.source_service, envelope.schema_version)
}

fn headers(envelope: &Envelope, event_id: Uuid, event_type: &str, source_service: &str, schema_version: u32) -> Bytes {
    json(&Headers {
        event_id,
        event_type,
        trace_id: envelope.correlation_id,
        source_service,
        schema_version: schema_version.to_string(),
        occurred_at: &envelope.event_timestamp,
        content_type: "application/json",
        traceparent: envelope.metadata_str("traceparent"),
        tracestate: envelope.metadata_str("tracestate"),
    })
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("strings and numbers are always valid JSON").into()
}
