//! `POST /v1/events`: one envelope, or one a line.

use std::collections::VecDeque;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use belfry_store::Run;
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::Api;
use super::problem::Problem;
use super::wire::Posted;
use crate::ingest::{Arrival, Incoming, NotAnEvent};
use crate::pipeline::{InFlight, NotTaken, Taken};

const NDJSON: &str = "application/x-ndjson";
const MAX_LINES: usize = 10_000;
/// Lines that go through the pipeline together.
const CHUNK: usize = 250;
/// Chunks of one request between arrival and commit: one is projected while the one before is committed.
const CHUNKS_AHEAD: usize = 3;
/// How long a sender waits for its turn before it is told to come back.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) async fn post(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new("event-too-large", "Body too large", rejection.status(), "send at most 16 MiB at once")
        }
        _ => Problem::bad_request(rejection.body_text()),
    })?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().unwrap_or_default().trim() == NDJSON {
        many(api, body).await
    } else {
        one(api, body).await
    }
}

async fn one(api: Api, body: Bytes) -> Result<Response, Problem> {
    let incoming = Incoming::read(body, api.max_event_bytes, Arrival::Posted).inspect_err(count_refused)?;
    let _permit = turn(&api, 1).await?;
    let event_id = incoming.envelope.event_id;
    let taken = api.pipeline.take(vec![incoming]).await?.pop().expect("one fate for one event");
    count_taken(&taken);
    match taken {
        Taken::Accepted(accepted) => {
            Ok((StatusCode::CREATED, Json(Posted::accepted(event_id, accepted))).into_response())
        }
        Taken::Duplicate => {
            let position = api.store.position_of(event_id).await?;
            Ok(Json(Posted { position, ..Posted::without_effect(Some(event_id), "duplicate") }).into_response())
        }
        Taken::Conflict => Err(Problem::conflict(event_id)),
        Taken::Unsendable(unsendable) => Err(Problem::unsendable(event_id, &unsendable)),
        Taken::Failed => Err(Problem::failed(event_id)),
    }
}

/// What is good in a batch is kept; every line has an answer of its own, in order.
async fn many(api: Api, body: Bytes) -> Result<Response, Problem> {
    let lines: Vec<(usize, Bytes)> = lines(&body);
    if lines.len() > MAX_LINES {
        let detail = format!("too many lines; send at most {MAX_LINES} at once");
        return Err(Problem::new("event-too-large", "Too many lines", StatusCode::PAYLOAD_TOO_LARGE, detail));
    }
    let mut answers = Answers {
        api: &api,
        text: Vec::with_capacity(lines.len() * 256),
        run: Run::default(),
        under_way: VecDeque::new(),
    };
    for chunk in lines.chunks(CHUNK) {
        answers.begin(chunk).await?;
    }
    while !answers.under_way.is_empty() {
        answers.finish_first().await?;
    }
    Ok(([(header::CONTENT_TYPE, NDJSON)], answers.text).into_response())
}

/// The lines that are not empty, with their numbers from 1.
fn lines(body: &Bytes) -> Vec<(usize, Bytes)> {
    let numbered = body.split(|byte| *byte == b'\n').enumerate();
    let not_empty = numbered.filter(|(_, line)| !line.trim_ascii().is_empty());
    // One more than are taken is enough to refuse them.
    not_empty.take(MAX_LINES + 1).map(|(number, line)| (number + 1, body.slice_ref(line.trim_ascii()))).collect()
}

/// The answers so far, and the chunks that have none yet.
struct Answers<'a> {
    api: &'a Api,
    text: Vec<u8>,
    /// The chunks are taken in order, or those behind a failed one are not.
    run: Run,
    under_way: VecDeque<Chunk>,
}

/// Lines that go through the pipeline together.
struct Chunk {
    lines: Vec<(usize, Result<uuid::Uuid, NotAnEvent>)>,
    in_flight: InFlight,
    _permit: OwnedSemaphorePermit,
}

impl Answers<'_> {
    async fn begin(&mut self, chunk: &[(usize, Bytes)]) -> Result<(), Problem> {
        let permit = self.turn(chunk.len()).await?;
        let mut lines = Vec::with_capacity(chunk.len());
        let mut events = Vec::with_capacity(chunk.len());
        for (number, line) in chunk {
            match Incoming::read(line.clone(), self.api.max_event_bytes, Arrival::Posted) {
                Ok(incoming) => {
                    lines.push((*number, Ok(incoming.envelope.event_id)));
                    events.push(incoming);
                }
                Err(refused) => {
                    count_refused(&refused);
                    lines.push((*number, Err(refused)));
                }
            }
        }
        let in_flight = self.api.pipeline.begin(&self.run, events).await?;
        self.under_way.push_back(Chunk { lines, in_flight, _permit: permit });
        Ok(())
    }

    /// Wait until the next chunk may be under way. The chunks before it may be what it waits for, so they are finished
    /// first.
    async fn turn(&mut self, events: usize) -> Result<OwnedSemaphorePermit, Problem> {
        while !self.under_way.is_empty() {
            if self.under_way.len() < CHUNKS_AHEAD
                && let Ok(permit) = self.api.in_flight.clone().try_acquire_many_owned(permits(self.api, events))
            {
                return Ok(permit);
            }
            self.finish_first().await?;
        }
        turn(self.api, events).await
    }

    async fn finish_first(&mut self) -> Result<(), NotTaken> {
        let Some(Chunk { lines, in_flight, .. }) = self.under_way.pop_front() else { return Ok(()) };
        let mut fates = in_flight.finish().await?.into_iter();
        for (number, line) in lines {
            let posted = match line {
                Ok(event_id) => taken(event_id, fates.next().expect("a fate for every event")),
                Err(refused) => {
                    let status = if matches!(refused, NotAnEvent::TooLarge { .. }) { "too-large" } else { "malformed" };
                    let event_id = refused.event_id();
                    Posted { problem: Some(refused.into()), ..Posted::without_effect(event_id, status) }
                }
            };
            let posted = Posted { line: Some(number), ..posted };
            serde_json::to_writer(&mut self.text, &posted).expect("texts and numbers are always JSON");
            self.text.push(b'\n');
        }
        Ok(())
    }
}

fn taken(event_id: uuid::Uuid, taken: Taken) -> Posted {
    count_taken(&taken);
    match taken {
        Taken::Accepted(accepted) => Posted::accepted(event_id, accepted),
        Taken::Duplicate => Posted::without_effect(Some(event_id), "duplicate"),
        Taken::Conflict => {
            let problem = Some(Problem::conflict(event_id));
            Posted { problem, ..Posted::without_effect(Some(event_id), "conflict") }
        }
        Taken::Unsendable(unsendable) => {
            let problem = Some(Problem::unsendable(event_id, &unsendable));
            Posted { problem, ..Posted::without_effect(Some(event_id), unsendable.outcome()) }
        }
        Taken::Failed => {
            let problem = Some(Problem::failed(event_id));
            Posted { problem, ..Posted::without_effect(Some(event_id), "failed") }
        }
    }
}

/// Wait until so many events may be under way.
async fn turn(api: &Api, events: usize) -> Result<OwnedSemaphorePermit, Problem> {
    match timeout(PATIENCE, api.in_flight.clone().acquire_many_owned(permits(api, events))).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) => Err(Problem::overloaded("the service is stopping; send it again in a moment")),
        Err(_) => Err(Problem::overloaded("too many events are waiting; send it again in a moment")),
    }
}

/// More than there are would never be granted.
fn permits(api: &Api, events: usize) -> u32 {
    events.clamp(1, api.max_in_flight) as u32
}

fn count(outcome: &'static str) {
    metrics::counter!("belfry_events_total", "source" => "http", "outcome" => outcome).increment(1);
}

fn count_taken(taken: &Taken) {
    count(match taken {
        Taken::Accepted(_) => "accepted",
        Taken::Duplicate => "duplicate",
        Taken::Conflict => "conflict",
        Taken::Unsendable(unsendable) => unsendable.outcome(),
        Taken::Failed => "failed",
    });
}

fn count_refused(refused: &NotAnEvent) {
    count(match refused {
        NotAnEvent::Malformed(malformed) => malformed.outcome.as_str(),
        NotAnEvent::TooLarge { .. } => "too-large",
    });
}
