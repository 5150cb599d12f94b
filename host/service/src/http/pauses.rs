//! Pauses of a rule, a sink or all notifications. Each has a reason, which is also logged.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use belfry_store::{Pause, Paused};
use serde::{Deserialize, Serialize};

use super::Api;
use super::auth::Caller;
use super::change::to_its_end;
use super::extract::{Document, Path};
use super::problem::Problem;
use super::reason::{MAX_REASON_BYTES, is_reason};
use crate::clock::rfc3339;

/// The path parameters that identify what to pause: its kind and its name.
#[derive(Deserialize)]
pub(crate) struct PauseTarget {
    kind: String,
    name: String,
}

/// The reason for a change.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PauseReason {
    pub(super) reason: String,
}

#[derive(Serialize)]
pub(crate) struct Pauses {
    pauses: Vec<PauseView>,
}

#[derive(Serialize)]
struct PauseView {
    kind: &'static str,
    name: String,
    reason: String,
    paused_by: String,
    paused_at: String,
}

impl PauseView {
    fn of(pause: Pause) -> Self {
        let (kind, name) = match pause.what {
            Paused::Projector(name) => ("projector", name),
            Paused::Sink(name) => ("sink", name),
            Paused::Notifications => ("notifications", "all".into()),
        };
        let paused_at = rfc3339(pause.created_at_ms);
        Self { kind, name, reason: pause.reason, paused_by: pause.created_by, paused_at }
    }
}

pub(crate) async fn list(State(api): State<Api>) -> Result<Json<Pauses>, Problem> {
    let pauses = api.store.pauses().await?;
    Ok(Json(Pauses { pauses: pauses.into_iter().map(PauseView::of).collect() }))
}

pub(crate) async fn pause(
    State(api): State<Api>,
    Path(what): Path<PauseTarget>,
    Extension(Caller { name: by, .. }): Extension<Caller>,
    why: Document<PauseReason>,
) -> Result<StatusCode, Problem> {
    let Document(PauseReason { reason }) = why;
    if !is_reason(&reason) {
        let detail = format!("reason: required, one line of at most {MAX_REASON_BYTES} bytes; it is also logged");
        return Err(Problem::bad_request(detail));
    }
    change(api, what, Some(reason), by).await
}

pub(crate) async fn resume(
    State(api): State<Api>,
    Path(what): Path<PauseTarget>,
    Extension(Caller { name: by, .. }): Extension<Caller>,
) -> Result<StatusCode, Problem> {
    change(api, what, None, by).await
}

async fn change(api: Api, what: PauseTarget, reason: Option<String>, by: String) -> Result<StatusCode, Problem> {
    let what = known(&api, what).await?;
    let registry = api.registry.clone();
    to_its_end(async move { registry.pause(&what, reason.as_deref(), &by).await }).await?;
    api.heartbeat.look();
    Ok(StatusCode::NO_CONTENT)
}

/// Checks that the target of a pause exists. Pausing an unknown name would have no effect.
async fn known(api: &Api, PauseTarget { kind, name }: PauseTarget) -> Result<Paused, Problem> {
    match kind.as_str() {
        "projector" if api.store.rollouts().await?.iter().any(|rollout| rollout.projector == name) => {
            Ok(Paused::Projector(name))
        }
        "sink" if api.heartbeat.seen().borrow().lease(&name).is_some() => Ok(Paused::Sink(name)),
        "notifications" if name == "all" => Ok(Paused::Notifications),
        "projector" | "sink" | "notifications" => Err(Problem::not_found(format!("{kind} {name} does not exist"))),
        _ => Err(Problem::not_found("only a projector, a sink or notifications/all can be paused")),
    }
}
