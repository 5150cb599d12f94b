//! Is this replica able to take events, and how are its parts?

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::time::timeout;
use uuid::Uuid;

use super::ops::Ops;

/// How long the database may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// The parts of a replica. Only what keeps it from taking events makes it unready: a sink that is away is waited for, and
/// without Redis all goes on.
#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    /// Under which name it takes leases.
    replica: Uuid,
    /// `ok` or `stopping`.
    service: &'static str,
    /// `ok`, or what is wrong.
    store: &'static str,
    /// `ok` or `stopped`.
    writer: &'static str,
    sinks: Vec<SinkState>,
    /// `connected`, `disconnected` or `unused`.
    redis: &'static str,
    heartbeat: Heartbeat,
    /// What an operator has to do something about. This replica takes events all the same.
    degraded: Vec<String>,
}

#[derive(Debug, Serialize)]
struct SinkState {
    sink: &'static str,
    /// `closed`, `open` or `half-open`, as this replica sees it.
    breaker: &'static str,
    /// Why this replica could not serve it last, until it can.
    error: Option<String>,
    /// Who serves it: `this-replica`, `another-replica` or `nobody`.
    served_by: &'static str,
    /// The one who holds the lease.
    replica: Option<Uuid>,
    epoch: i64,
    position: i64,
}

#[derive(Debug, Serialize)]
struct Heartbeat {
    age_seconds: f64,
    log_end: i64,
}

pub(super) async fn ready(
    State(ops): State<Ops>,
    Query(parameters): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let readiness = Readiness::of(&ops).await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if !parameters.contains_key("verbose") {
        return (status, readiness.in_a_word()).into_response();
    }
    let accepted = headers.get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok()).unwrap_or_default();
    match parameters.get("format").map(String::as_str) {
        Some("json") => (status, Json(readiness)).into_response(),
        None if accepted.contains("application/json") => (status, Json(readiness)).into_response(),
        _ => (status, readiness.as_text()).into_response(),
    }
}

impl Readiness {
    async fn of(ops: &Ops) -> Self {
        let service = if *ops.stopping.borrow() { "stopping" } else { "ok" };
        let store = match timeout(ANSWER, ops.store.log_bounds()).await {
            Ok(Ok(_)) => "ok",
            Ok(Err(_)) => "the database cannot be read",
            Err(_) => "the database does not answer",
        };
        // The writer's end of it goes with the writer.
        let writer = if ops.committed.has_changed().is_ok() { "ok" } else { "stopped" };
        let seen = ops.heartbeat.seen().borrow().clone();
        let ours = ops.heartbeat.owner();
        let sinks = ops.health.iter().map(|(sink, health)| {
            let health = health.borrow().clone();
            let lease = seen.lease(sink).map(|(lease, _)| lease);
            let holder = lease.filter(|lease| !lease.remaining.is_zero()).and_then(|lease| lease.owner);
            SinkState {
                sink,
                breaker: health.breaker.as_str(),
                error: health.error,
                served_by: match holder {
                    Some(owner) if owner == ours => "this-replica",
                    Some(_) => "another-replica",
                    None => "nobody",
                },
                replica: holder,
                epoch: lease.map_or(0, |lease| lease.epoch),
                position: lease.map_or(0, |lease| lease.position),
            }
        });
        Self {
            ready: [service, store, writer] == ["ok"; 3],
            replica: ours,
            service,
            store,
            writer,
            sinks: sinks.collect(),
            redis: match &ops.redis {
                Some(connected) if *connected.borrow() => "connected",
                Some(_) => "disconnected",
                None => "unused",
            },
            heartbeat: Heartbeat { age_seconds: seen.age().as_secs_f64(), log_end: *ops.heartbeat.log_end().borrow() },
            degraded: ops.stopped.reasons(),
        }
    }

    /// The first thing that is wrong.
    fn in_a_word(&self) -> String {
        match (self.service, self.store, self.writer) {
            ("ok", "ok", "ok") => match &self.degraded[..] {
                [] => "ok\n".into(),
                [first, ..] => format!("degraded: {first}\n"),
            },
            ("ok", "ok", writer) => format!("writer: {writer}\n"),
            ("ok", store, _) => format!("store: {store}\n"),
            (service, ..) => format!("{service}\n"),
        }
    }

    /// A line for each part.
    fn as_text(&self) -> String {
        let mut text = format!("{}\n", if self.ready { "ready" } else { "not ready" });
        let mut line = |part: &str, state: String| {
            // Writing to a text does not fail.
            let _ = writeln!(text, "{part}: {state}");
        };
        line("replica", self.replica.to_string());
        line("service", self.service.into());
        line("store", self.store.into());
        line("writer", self.writer.into());
        for sink in &self.sinks {
            let holder = match sink.replica {
                Some(replica) if replica != self.replica => format!("another replica, {replica}"),
                Some(_) => "this replica".into(),
                None => "nobody".into(),
            };
            let (breaker, epoch, position) = (sink.breaker, sink.epoch, sink.position);
            let error = sink.error.as_deref().map(|error| format!(", {error}")).unwrap_or_default();
            line(
                &format!("sink {}", sink.sink),
                format!("breaker {breaker}, served by {holder}, epoch {epoch}, position {position}{error}"),
            );
        }
        line("redis", self.redis.into());
        for reason in &self.degraded {
            line("degraded", reason.clone());
        }
        let Heartbeat { age_seconds, log_end } = self.heartbeat;
        line("heartbeat", format!("{age_seconds:.1} s ago, log end {log_end}"));
        text
    }
}
