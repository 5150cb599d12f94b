//! `GET /v1/audit-log`: the changes that were made, when and by whom.

use axum::Json;
use axum::extract::State;
use belfry_model::parse_instant_ms;
use belfry_store::{Change, ChangeFilter};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Api;
use super::extract::Query;
use super::problem::Problem;
use super::wire::raw;
use crate::clock::rfc3339;

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    by: Option<String>,
    action: Option<String>,
    subject: Option<String>,
    since: Option<String>,
    /// Lists only changes with a lower number.
    before: Option<i64>,
    limit: Option<u32>,
}

#[derive(Serialize)]
pub(crate) struct Changes {
    /// Latest first.
    changes: Vec<ChangeView>,
    /// `before` of the next request; `None` if there are no more changes.
    next_before: Option<i64>,
}

#[derive(Serialize)]
struct ChangeView {
    id: i64,
    at: String,
    by: String,
    action: String,
    subject: String,
    detail: Option<Box<RawValue>>,
}

impl ChangeView {
    fn of(change: Change) -> Self {
        let Change { id, at_ms, by, action, subject, detail } = change;
        Self { id, at: rfc3339(at_ms), by, action, subject, detail: raw(detail.into()) }
    }
}

pub(crate) async fn list(State(api): State<Api>, parameters: Query<Parameters>) -> Result<Json<Changes>, Problem> {
    let Query(Parameters { by, action, subject, since, before, limit }) = parameters;
    let since_ms = since.as_deref().map(parse_instant_ms).transpose();
    let since_ms = since_ms.map_err(|error| Problem::bad_request(format!("since: {error}")))?;
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::bad_request(format!("limit: must be 1 to {MAX_LIMIT}; use before to read on")));
    }
    let filter = ChangeFilter { by, action, subject, since_ms };
    let changes = api.store.changes(&filter, before.unwrap_or(i64::MAX), limit).await?;
    let next_before = changes.last().filter(|_| changes.len() == limit as usize).map(|change| change.id);
    Ok(Json(Changes { changes: changes.into_iter().map(ChangeView::of).collect(), next_before }))
}
