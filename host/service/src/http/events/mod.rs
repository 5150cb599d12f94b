//! `POST /v1/events`: one envelope, or NDJSON with one envelope per line.

mod ndjson;

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use ndjson::{Answers, MAX_LINES, lines};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use uuid::Uuid;

use super::auth::Caller;
use super::extract::{media_type, read};
use super::problem::Problem;
use super::{ANSWER, Api};
use crate::access::Role;
use crate::incoming::{Arrival, Incoming, NotAnEvent};
use crate::pipeline::{Accepted, IngestOutcome};

/// Maximum body of a request that posts events, in bytes.
pub(super) const MAX_BODY_BYTES: usize = 16 << 20;
pub(super) const NDJSON: &str = "application/x-ndjson";
/// Media types of bodies with one envelope per line.
const LINES: [&str; 4] = [NDJSON, "application/ndjson", "application/jsonl", "application/x-jsonl"];
/// Responses up to this size are sent in one piece, with their length; larger ones are streamed.
const WHOLE_BYTES: usize = 4 << 20;
/// Time that a request waits for permits before it is rejected as overloaded.
const PATIENCE: Duration = Duration::from_secs(5);
/// An event takes one more permit for this many bytes, since its processing needs many times its size in memory.
const EVENT_BYTES: usize = 8 << 10;

/// The result for one posted event.
#[derive(Serialize)]
pub(crate) struct Posted {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<usize>,
    pub(crate) event_id: Option<Uuid>,
    pub(crate) status: &'static str,
    pub(crate) position: Option<i64>,
    /// Of an accepted event: whether it is published, or recorded and offered to rules only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) published: Option<bool>,
    pub(crate) notifications: Vec<PostedNotification>,
    pub(crate) dead_letters: Vec<PostedDeadLetter>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<Problem>,
}

#[derive(Serialize)]
pub(crate) struct PostedNotification {
    event_id: Uuid,
    projector: String,
    recipient: String,
}

#[derive(Serialize)]
pub(crate) struct PostedDeadLetter {
    id: i64,
    projector: String,
    cause: &'static str,
}

impl Posted {
    pub(crate) fn accepted(event_id: Uuid, accepted: Accepted) -> Self {
        let notifications = accepted.notifications.into_iter().map(|noted| PostedNotification {
            event_id: noted.notification_id,
            projector: noted.projector,
            recipient: noted.recipient,
        });
        let dead_letters = accepted.dead_letters.into_iter().map(|buried| PostedDeadLetter {
            id: buried.id,
            projector: buried.projector,
            cause: buried.cause,
        });
        Self {
            position: Some(accepted.position),
            published: Some(accepted.published),
            notifications: notifications.collect(),
            dead_letters: dead_letters.collect(),
            ..Self::without_effect(Some(event_id), "accepted")
        }
    }

    /// Returns the result without notifications and dead letters.
    pub(crate) fn silent(self) -> Self {
        Self { notifications: Vec::new(), dead_letters: Vec::new(), ..self }
    }

    pub(crate) fn without_effect(event_id: Option<Uuid>, status: &'static str) -> Self {
        Self {
            line: None,
            event_id,
            status,
            position: None,
            published: None,
            notifications: Vec::new(),
            dead_letters: Vec::new(),
            problem: None,
        }
    }
}

pub(crate) async fn post(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    let is_lines = LINES.contains(&media_type(request.headers()).as_str());
    let body = read(request.into_body(), MAX_BODY_BYTES, "send at most 16 MiB at once").await?;
    // Producers do not see the notifications and dead letters of an event.
    let silent = caller.role == Role::Producer;
    if is_lines { many(api, body, silent).await } else { one(&api, body, silent).await }
}

async fn one(api: &Api, body: Bytes, silent: bool) -> Result<Response, Problem> {
    let _permit = turn(api, weight(&body)).await?;
    let incoming = Incoming::read(body, api.max_event_bytes, Arrival::Posted).inspect_err(count_refused)?;
    let event_id = incoming.envelope.event_id;
    let taken = timeout(ANSWER, api.pipeline.take(vec![incoming])).await;
    let mut taken = taken.map_err(|_| Problem::overloaded("the event was not committed in time; send it again"))??;
    let taken = taken.pop().expect("one fate for one event");
    count_taken(&taken);
    match taken {
        IngestOutcome::Accepted(accepted) => {
            let posted = Posted::accepted(event_id, accepted);
            Ok((StatusCode::CREATED, Json(if silent { posted.silent() } else { posted })).into_response())
        }
        IngestOutcome::Duplicate => {
            let position = api.store.position_of(event_id).await?;
            Ok(Json(Posted { position, ..Posted::without_effect(Some(event_id), "duplicate") }).into_response())
        }
        IngestOutcome::Conflict => Err(Problem::conflict(event_id)),
        IngestOutcome::Unstorable(reason) => Err(Problem::unstorable(event_id, &reason)),
        IngestOutcome::Unsendable(unsendable) => Err(Problem::unsendable(event_id, &unsendable)),
        IngestOutcome::Failed => Err(Problem::failed(event_id)),
    }
}

/// Handles a batch. Valid lines are committed even if others are rejected; every line has its own answer, in order.
async fn many(api: Api, body: Bytes, silent: bool) -> Result<Response, Problem> {
    let lines = lines(&body);
    if lines.len() > MAX_LINES {
        return Err(Problem::too_large(format!("too many lines; send at most {MAX_LINES} at once")));
    }
    let mut answers = Answers::new(api, lines, silent);
    // The whole request can be rejected as long as no line has been answered.
    let (mut text, problem) = answers.next().await;
    if let Some(problem) = problem {
        return Err(problem);
    }
    while text.len() < WHOLE_BYTES && !answers.are_complete() {
        text.append(&mut answers.next().await.0);
    }
    let body = if answers.are_complete() { Body::from(text) } else { Body::from_stream(answers.rest(text)) };
    Ok(([(header::CONTENT_TYPE, NDJSON)], body).into_response())
}

/// Waits for the permits of `events` events in flight.
pub(super) async fn turn(api: &Api, events: usize) -> Result<OwnedSemaphorePermit, Problem> {
    match timeout(PATIENCE, api.in_flight.clone().acquire_many_owned(permits(api, events))).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) => Err(Problem::overloaded("the service is stopping; retry in a moment")),
        Err(_) => Err(Problem::overloaded("too many events are in flight; retry in a moment")),
    }
}

/// Returns the number of permits to acquire. It never exceeds the total, which would wait forever.
pub(super) fn permits(api: &Api, events: usize) -> u32 {
    events.clamp(1, api.max_in_flight) as u32
}

/// Returns the number of events that an event counts as, by its size.
pub(super) fn weight(event: &[u8]) -> usize {
    1 + event.len() / EVENT_BYTES
}

fn count(outcome: &'static str) {
    metrics::counter!("belfry_events_total", "source" => "http", "outcome" => outcome).increment(1);
}

pub(super) fn count_taken(taken: &IngestOutcome) {
    count(taken.outcome());
}

pub(super) fn count_refused(refused: &NotAnEvent) {
    count(match refused {
        NotAnEvent::Malformed(malformed) => malformed.outcome.as_str(),
        NotAnEvent::TooLarge { .. } => "too-large",
    });
}
