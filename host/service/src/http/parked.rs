//! Parked entries: list them, and request to unpark or discard them. The holder of the sink's lease carries out a request
//! between two reads of the log.

use axum::extract::State;
use axum::{Extension, Json};
use belfry_store::{NewParkedRequest, ParkedFilter, ParkedRequest, now_ms};
use serde::{Deserialize, Serialize};

use super::Api;
use super::auth::Caller;
use super::extract::{Document, Query};
use super::problem::Problem;
use super::reason::{MAX_REASON_BYTES, is_reason};
use super::wire::ParkedView;

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    sink: Option<String>,
    topic: Option<String>,
    key: Option<String>,
    position: Option<i64>,
    limit: Option<u32>,
}

#[derive(Serialize)]
pub(crate) struct ParkedEntries {
    parked: Vec<ParkedView>,
}

/// A request to unpark or discard entries.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    sink: Option<String>,
    topic: Option<String>,
    key: Option<String>,
    position: Option<i64>,
    #[serde(default)]
    all: bool,
    reason: Option<String>,
}

/// The number of parked entries that match a request.
#[derive(Serialize)]
pub(crate) struct Requested {
    entries: u64,
}

pub(crate) async fn list(
    State(api): State<Api>,
    parameters: Query<Parameters>,
) -> Result<Json<ParkedEntries>, Problem> {
    let Query(Parameters { sink, topic, key, position, limit }) = parameters;
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::bad_request(format!("limit: must be 1 to {MAX_LIMIT}; narrow the filter instead")));
    }
    let filter = ParkedFilter { sink, topic, event_key: key, position };
    let parked = api.store.parked(&filter, limit).await?;
    Ok(Json(ParkedEntries { parked: parked.into_iter().map(ParkedView::of).collect() }))
}

/// Requests that entries and all other parked entries of their keys are sent again.
pub(crate) async fn unpark(
    State(api): State<Api>,
    Extension(Caller { name: by, .. }): Extension<Caller>,
    request: Document<Request>,
) -> Result<Json<Requested>, Problem> {
    let Document(request) = request;
    if request.reason.is_some() {
        return Err(Problem::bad_request("reason: applies to a discard only; leave it out"));
    }
    ask(&api, request, ParkedRequest::Unpark, &by).await
}

/// Requests that entries are never sent. Entries parked behind them in their keys are sent.
pub(crate) async fn discard(
    State(api): State<Api>,
    Extension(Caller { name: by, .. }): Extension<Caller>,
    request: Document<Request>,
) -> Result<Json<Requested>, Problem> {
    let Document(request) = request;
    let reason = request.reason.as_deref().unwrap_or_default();
    if !is_reason(reason) {
        return Err(Problem::bad_request(format!(
            "reason: required, one line of at most {MAX_REASON_BYTES} bytes; it is stored with the entry"
        )));
    }
    ask(&api, request, ParkedRequest::Discard, &by).await
}

async fn ask(api: &Api, request: Request, wanted: ParkedRequest, by: &str) -> Result<Json<Requested>, Problem> {
    let Request { sink, topic, key, position, all, reason } = request;
    let filter = ParkedFilter { sink, topic, event_key: key, position };
    let ParkedFilter { sink, topic, event_key, position } = &filter;
    let chosen = sink.is_some() || topic.is_some() || event_key.is_some() || position.is_some();
    if chosen == all {
        let detail = "select entries: at least one of sink, topic, key and position, or \"all\": true";
        return Err(Problem::bad_request(detail));
    }
    let asked = NewParkedRequest { request: wanted, by, reason: reason.as_deref() };
    let entries = api.store.request_parked(&filter, &asked, now_ms()).await?;
    // The key of a notification is its recipient, so it is not logged.
    tracing::info!(
        request = wanted.as_str(),
        by,
        reason = reason.as_deref(),
        sink = sink.as_deref(),
        topic = topic.as_deref(),
        position,
        by_key = event_key.is_some(),
        entries,
        "request for parked entries"
    );
    api.heartbeat.look();
    api.others.parked_are_asked_for();
    Ok(Json(Requested { entries }))
}
