//! The known sinks and their backlog, which retention keeps.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use belfry_store::{ForgetSink, Sink, SkipGap, now_ms};
use serde::Serialize;

use super::Api;
use super::auth::Caller;
use super::extract::{Document, Path};
use super::pauses::PauseReason;
use super::problem::Problem;
use super::reason::{MAX_REASON_BYTES, is_reason};

#[derive(Serialize)]
pub(crate) struct Sinks {
    sinks: Vec<SinkView>,
}

#[derive(Serialize)]
struct SinkView {
    name: String,
    position: i64,
    /// Whether a replica serves it now.
    served: bool,
    /// Age of the oldest entry that it has not read, in seconds; null if it has read all.
    unread_seconds: Option<f64>,
    /// Number of entries that it has not read and that are no longer in the log.
    missing: i64,
    parked: i64,
}

impl SinkView {
    fn of(sink: Sink, served: bool) -> Self {
        let Sink { name, position, unread_for, missing, parked } = sink;
        let unread_seconds = unread_for.map(|unread| unread.as_secs_f64());
        Self { name, position, served, unread_seconds, missing, parked }
    }
}

/// Where a sink continues.
#[derive(Serialize)]
pub(crate) struct Resumed {
    position: i64,
    missing: i64,
}

pub(crate) async fn list(State(api): State<Api>) -> Result<Json<Sinks>, Problem> {
    let sinks = api.store.sinks().await?.into_iter().map(|sink| {
        let served = is_served(&api, &sink.name);
        SinkView::of(sink, served)
    });
    Ok(Json(Sinks { sinks: sinks.collect() }))
}

fn is_served(api: &Api, name: &str) -> bool {
    let seen = api.heartbeat.seen();
    let seen = seen.borrow();
    seen.lease(name).is_some_and(|(lease, _)| !lease.remaining.is_zero())
}

/// Forgets a sink: retention no longer keeps entries for it.
pub(crate) async fn forget(
    State(api): State<Api>,
    Path(name): Path<String>,
    Extension(Caller { name: by, .. }): Extension<Caller>,
    Document(PauseReason { reason }): Document<PauseReason>,
) -> Result<StatusCode, Problem> {
    check(&reason)?;
    let forgotten = match is_served(&api, &name) {
        true => ForgetSink::Served,
        false => api.store.forget_sink(&name, &by, &reason, now_ms()).await?,
    };
    match forgotten {
        ForgetSink::Forgotten => {
            tracing::warn!(sink = name, by, reason, "sink forgotten; no entries are kept for it");
            Ok(StatusCode::NO_CONTENT)
        }
        ForgetSink::Unknown => Err(unknown(&name)),
        ForgetSink::Served => {
            let detail = format!("a replica serves {name}; disable it in the configuration of every replica first");
            Err(Problem::new("refused", "Refused", StatusCode::CONFLICT, detail))
        }
    }
}

/// Continues after entries that are no longer in the log.
pub(crate) async fn resume(
    State(api): State<Api>,
    Path(name): Path<String>,
    Extension(Caller { name: by, .. }): Extension<Caller>,
    Document(PauseReason { reason }): Document<PauseReason>,
) -> Result<Json<Resumed>, Problem> {
    check(&reason)?;
    match api.store.skip_gap(&name, &by, &reason, now_ms()).await? {
        SkipGap::Skipped { position, missing } => {
            tracing::warn!(sink = name, by, reason, position, missing, "sink resumed after missing entries");
            api.heartbeat.look();
            Ok(Json(Resumed { position, missing }))
        }
        SkipGap::Unknown => Err(unknown(&name)),
        SkipGap::NoGap => {
            let detail = format!("{name} has no missing entries; it continues automatically");
            Err(Problem::new("refused", "Refused", StatusCode::CONFLICT, detail))
        }
    }
}

fn check(reason: &str) -> Result<(), Problem> {
    if is_reason(reason) {
        return Ok(());
    }
    Err(Problem::bad_request(format!(
        "reason: required, one line of at most {MAX_REASON_BYTES} bytes; it is stored in the audit log"
    )))
}

fn unknown(name: &str) -> Problem {
    Problem::not_found(format!("sink {name} does not exist; `belfry sink list` shows the known sinks"))
}
