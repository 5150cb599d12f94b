//! Entries that a sink refused: which they are, and what is to become of them. The holder of the sink's lease does it,
//! between two reads of the log.

use axum::extract::State;
use axum::{Extension, Json};
use belfry_store::{NewParkedRequest, ParkedFilter, ParkedRequest};
use serde::{Deserialize, Serialize};

use super::Api;
use super::auth::Caller;
use super::extract::{Document, Query};
use super::problem::Problem;
use super::reason::{MAX_REASON_BYTES, is_reason};
use super::wire::ParkedView;
use crate::clock::now_ms;

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

/// What an operator asks for, and for which entries.
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

/// How many entries are meant.
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

/// Send entries again, and with them all of their keys.
pub(crate) async fn unpark(
    State(api): State<Api>,
    Extension(Caller { name: by, .. }): Extension<Caller>,
    request: Document<Request>,
) -> Result<Json<Requested>, Problem> {
    let Document(request) = request;
    if request.reason.is_some() {
        return Err(Problem::bad_request("reason: only discarding has one; leave it out"));
    }
    ask(&api, request, ParkedRequest::Unpark, &by).await
}

/// Never send entries. What stands behind them in their keys is sent.
pub(crate) async fn discard(
    State(api): State<Api>,
    Extension(Caller { name: by, .. }): Extension<Caller>,
    request: Document<Request>,
) -> Result<Json<Requested>, Problem> {
    let Document(request) = request;
    let reason = request.reason.as_deref().unwrap_or_default();
    if !is_reason(reason) {
        return Err(Problem::bad_request(format!(
            "reason: discarding needs one, a line of at most {MAX_REASON_BYTES} bytes; it is kept with the entry"
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
        let detail = "say which entries: at least one of sink, topic, key and position, or else \"all\": true";
        return Err(Problem::bad_request(detail));
    }
    let asked = NewParkedRequest { request: wanted, by, reason: reason.as_deref() };
    let entries = api.store.request_parked(&filter, &asked, now_ms()).await?;
    // The key of a notification is its recipient, so it is not told here.
    tracing::info!(
        request = wanted.as_str(),
        by,
        reason = reason.as_deref(),
        sink = sink.as_deref(),
        topic = topic.as_deref(),
        position,
        by_key = event_key.is_some(),
        entries,
        "parked entries are asked for"
    );
    api.heartbeat.look();
    api.others.parked_are_asked_for();
    Ok(Json(Requested { entries }))
}
