//! Events that rules could not project: list, redrive and discard them.

use axum::extract::State;
use axum::{Extension, Json};
use belfry_model::parse_instant_ms;
use belfry_store::{DeadLetter, DeadLetterFilter, DeadLetterGroup, Settled};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Api;
use super::auth::Caller;
use super::extract::{Document, Path, Query};
use super::problem::Problem;
use super::reason::{MAX_REASON_BYTES, is_reason};
use super::wire::{named, raw, source};
use crate::clock::rfc3339;
use crate::redrive::Summary;

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1000;
/// Number of dead letters that one request redrives. The response contains the position to continue from.
const REDRIVEN_AT_ONCE: u64 = 1000;

/// A filter for unsettled dead letters.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadLetterSelection {
    id: Option<i64>,
    projector: Option<String>,
    /// Id of the release that failed.
    release_id: Option<i64>,
    cause: Option<String>,
    /// The code that the rule rejected the event with.
    code: Option<String>,
    /// Time of recording: this or later.
    since: Option<String>,
    /// Selects dead letters with a higher number; for a list or a redrive.
    after: Option<i64>,
    limit: Option<u32>,
}

impl DeadLetterSelection {
    fn filter(&self) -> Result<DeadLetterFilter, Problem> {
        let since_ms = self.since.as_deref().map(parse_instant_ms).transpose();
        Ok(DeadLetterFilter {
            id: self.id,
            projector: self.projector.clone(),
            release_id: self.release_id,
            cause: self.cause.clone(),
            code: self.code.clone(),
            since_ms: since_ms.map_err(|error| Problem::bad_request(format!("since: {error}")))?,
        })
    }

    fn names_some(&self) -> bool {
        self.id.is_some()
            || self.projector.is_some()
            || self.release_id.is_some()
            || self.cause.is_some()
            || self.since.is_some()
    }
}

/// A request to redrive or discard dead letters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    #[serde(default)]
    which: DeadLetterSelection,
    /// Selects the dead letters of every rule.
    #[serde(default)]
    all: bool,
    /// Only counts the dead letters that match.
    #[serde(default)]
    dry_run: bool,
    /// Reason for a discard.
    reason: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct Groups {
    groups: Vec<GroupView>,
}

#[derive(Serialize)]
struct GroupView {
    projector: Option<String>,
    release: Option<String>,
    release_id: Option<i64>,
    cause: String,
    code: Option<String>,
    count: i64,
    first_at: String,
    last_at: String,
    last_id: i64,
}

#[derive(Serialize)]
pub(crate) struct DeadLetters {
    dead_letters: Vec<DeadLetterView>,
}

/// A dead letter.
#[derive(Serialize)]
pub(crate) struct DeadLetterView {
    id: i64,
    event_id: Option<Uuid>,
    projector: Option<String>,
    release: Option<String>,
    /// Where the record was read, as `TOPIC/PARTITION@OFFSET`.
    source: Option<String>,
    cause: String,
    detail: String,
    recorded_at: String,
    settled: Option<SettledView>,
    /// The event, if a rule saw it.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Box<RawValue>>,
    /// The value of a record, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
}

#[derive(Serialize)]
struct SettledView {
    how: String,
    by: String,
    at: String,
    reason: Option<String>,
    notifications: u32,
}

/// The number of dead letters that were discarded, or that match in a dry run.
#[derive(Serialize)]
pub(crate) struct Count {
    dead_letters: u64,
}

pub(crate) async fn groups(State(api): State<Api>, which: Query<DeadLetterSelection>) -> Result<Json<Groups>, Problem> {
    let Query(which) = which;
    let groups = api.store.dead_letter_groups(&which.filter()?).await?;
    api.registry.learn(groups.iter().filter_map(|group| group.release_id).collect::<Vec<_>>()).await?;
    let view = |group: DeadLetterGroup| GroupView {
        release: group.release_id.map(|release_id| label(&api, release_id)),
        projector: group.projector,
        release_id: group.release_id,
        cause: group.cause,
        code: group.code,
        count: group.count,
        first_at: rfc3339(group.first_ms),
        last_at: rfc3339(group.last_ms),
        last_id: group.last_id,
    };
    Ok(Json(Groups { groups: groups.into_iter().map(view).collect() }))
}

pub(crate) async fn list(
    State(api): State<Api>,
    which: Query<DeadLetterSelection>,
) -> Result<Json<DeadLetters>, Problem> {
    let Query(which) = which;
    let limit = which.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::bad_request(format!("limit: must be 1 to {MAX_LIMIT}; use after to read on")));
    }
    let letters = api.store.dead_letters(&which.filter()?, which.after.unwrap_or(0), limit).await?;
    api.registry.learn(letters.iter().filter_map(|letter| letter.release_id).collect::<Vec<_>>()).await?;
    Ok(Json(DeadLetters { dead_letters: letters.into_iter().map(|letter| view(letter, &api)).collect() }))
}

pub(crate) async fn one(State(api): State<Api>, id: Path<i64>) -> Result<Json<DeadLetterView>, Problem> {
    let Path(id) = id;
    let letter = api.store.dead_letter(id).await?;
    let letter = letter.ok_or_else(|| Problem::not_found(format!("dead letter {id} does not exist")))?;
    api.registry.learn(letter.release_id.into_iter().collect::<Vec<_>>()).await?;
    let event = match (letter.event_id, &letter.projector) {
        (Some(event_id), Some(_)) => api.store.event(event_id).await?,
        _ => None,
    };
    let bytes = letter.payload.as_deref().map(hex::encode);
    let event = event.and_then(|history| raw(history.event.payload));
    Ok(Json(DeadLetterView { event, bytes, ..view(letter, &api) }))
}

/// Tries events again with the active release.
pub(crate) async fn redrive(
    State(api): State<Api>,
    Extension(Caller { name: by, .. }): Extension<Caller>,
    request: Document<Request>,
) -> Result<Json<Summary>, Problem> {
    let Document(request) = request;
    if request.reason.is_some() {
        return Err(Problem::bad_request("reason: applies to a discard only; leave it out"));
    }
    let filter = chosen(&request)?;
    if request.dry_run {
        let groups = api.store.dead_letter_groups(&filter).await?;
        let (tried, passed_over) = groups.iter().fold((0, 0), |(tried, passed_over), group| {
            let count = group.count.unsigned_abs();
            if group.projector.is_some() { (tried + count, passed_over) } else { (tried, passed_over + count) }
        });
        return Ok(Json(Summary { tried, passed_over, ..Summary::default() }));
    }
    let letters = api.dead_letters.clone();
    let after = request.which.after.unwrap_or(0);
    let summary = tokio::spawn(async move { letters.redrive(&filter, after, REDRIVEN_AT_ONCE, &by).await });
    let summary =
        summary.await.map_err(|_| Problem::overloaded("the redrive was aborted; send the request again"))??;
    tracing::info!(?summary, "dead letters redriven");
    Ok(Json(summary))
}

/// Settles dead letters without trying them again.
pub(crate) async fn discard(
    State(api): State<Api>,
    Extension(Caller { name: by, .. }): Extension<Caller>,
    request: Document<Request>,
) -> Result<Json<Count>, Problem> {
    let Document(request) = request;
    let reason = request.reason.as_deref().unwrap_or_default();
    if !request.dry_run && !is_reason(reason) {
        return Err(Problem::bad_request(format!(
            "reason: required, one line of at most {MAX_REASON_BYTES} bytes; it is stored with the dead letters"
        )));
    }
    let filter = chosen(&request)?;
    if request.dry_run {
        let groups = api.store.dead_letter_groups(&filter).await?;
        return Ok(Json(Count { dead_letters: groups.iter().map(|group| group.count.unsigned_abs()).sum() }));
    }
    let dead_letters = api.store.discard_dead_letters(&filter, &by, reason, belfry_store::now_ms()).await?;
    tracing::info!(dead_letters, by, reason, "dead letters discarded");
    Ok(Json(Count { dead_letters }))
}

fn chosen(request: &Request) -> Result<DeadLetterFilter, Problem> {
    if request.which.names_some() == request.all {
        let detail =
            "select dead letters: at least one of id, projector, release_id, cause and since, or \"all\": true";
        return Err(Problem::bad_request(detail));
    }
    request.which.filter()
}

fn view(letter: DeadLetter, api: &Api) -> DeadLetterView {
    let settled = |Settled { how, by, at_ms, reason, notifications }| SettledView {
        how,
        by,
        at: rfc3339(at_ms),
        reason,
        notifications: notifications.map_or(0, |(_, count)| count),
    };
    DeadLetterView {
        id: letter.id,
        event_id: letter.event_id,
        projector: letter.projector,
        release: letter.release_id.map(|release_id| label(api, release_id)),
        source: letter.origin.map(source),
        cause: letter.cause,
        detail: letter.detail,
        recorded_at: rfc3339(letter.created_at_ms),
        settled: letter.settled.map(settled),
        event: None,
        bytes: None,
    }
}

fn label(api: &Api, release_id: i64) -> String {
    named(&api.registry, release_id).1
}
