//! `/readyz`: whether this replica can accept events, and the state of its parts.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use belfry_store::Store;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::timeout;
use uuid::Uuid;

use super::Ops;

/// Time limit for the database to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a result is cached. The database is queried no more often than this, regardless of the number of requests.
const COUNTS: Duration = Duration::from_secs(1);

/// The cached state of the database. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ReadinessCache {
    store: Store,
    last: Arc<Mutex<Option<(Instant, &'static str)>>>,
}

impl ReadinessCache {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, last: Arc::default() }
    }

    /// Returns `ok` or what is wrong. The result is at most one second old.
    async fn store(&self) -> &'static str {
        let Self { store, last } = self.clone();
        // A separate task completes even if the client disconnects. Otherwise each request would query the database again.
        let looked = tokio::spawn(async move {
            let mut last = last.lock().await;
            match *last {
                Some((at, state)) if at.elapsed() < COUNTS => state,
                _ => {
                    let state = match timeout(ANSWER, store.log_bounds()).await {
                        Ok(Ok(_)) => "ok",
                        Ok(Err(_)) => "the database cannot be read",
                        Err(_) => "the database does not answer",
                    };
                    *last = Some((Instant::now(), state));
                    state
                }
            }
        });
        looked.await.unwrap_or("the database cannot be read")
    }
}

/// The state of a replica. Only parts without which it cannot accept events make it unready: the service, the store and the
/// writer. Sinks are retried, and Redis is optional.
#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    /// The id under which it takes leases.
    replica: Uuid,
    /// `ok` or `stopping`.
    service: &'static str,
    /// `ok`, or what is wrong.
    store: &'static str,
    /// `ok`, `stopped`, or why nothing can be committed.
    writer: Cow<'static, str>,
    sinks: Vec<SinkState>,
    /// `connected`, `disconnected` or `unused`.
    redis: &'static str,
    heartbeat: Heartbeat,
    /// Conditions that an operator has to resolve. This replica accepts events nevertheless.
    degraded: Vec<String>,
}

#[derive(Debug, Serialize)]
struct SinkState {
    sink: &'static str,
    /// `closed`, `open` or `half-open`, as this replica sees it.
    breaker: &'static str,
    /// The last error of this replica at the sink; cleared once it succeeds.
    error: Option<String>,
    /// Topics of which the sink accepts nothing, with the reason. Their entries are parked until it does. Only the replica
    /// that serves the sink has this information.
    held_topics: BTreeMap<String, String>,
    /// Which replica serves it: `this-replica`, `another-replica` or `nobody`.
    served_by: &'static str,
    /// The replica that holds the lease.
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
        let service = if ops.stopping.is_cancelled() { "stopping" } else { "ok" };
        let store = ops.looked.store().await;
        // The channel is closed once the writer has ended.
        let writer: Cow<'static, str> = match &*ops.write_failure.borrow() {
            _ if ops.committed.has_changed().is_err() => "stopped".into(),
            Some(failure) => failure.clone().into(),
            None => "ok".into(),
        };
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
                held_topics: health.held,
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
        let sinks: Vec<SinkState> = sinks.collect();
        let held = sinks.iter().flat_map(|sink| sink.held_topics.values().map(|reason| (sink.sink, reason)));
        let held = held.map(|(sink, reason)| format!("sink {sink} holds back {reason}"));
        let degraded = ops.stopped.reasons().into_iter().chain(held).collect();
        Self {
            ready: [service, store, &writer] == ["ok"; 3],
            replica: ours,
            service,
            store,
            writer,
            sinks,
            redis: match &ops.redis {
                Some(connected) if *connected.borrow() => "connected",
                Some(_) => "disconnected",
                None => "unused",
            },
            heartbeat: Heartbeat { age_seconds: seen.age().as_secs_f64(), log_end: *ops.heartbeat.log_end().borrow() },
            degraded,
        }
    }

    /// Returns `ok` or the first problem, in one line.
    fn in_a_word(&self) -> String {
        match (self.service, self.store, &*self.writer) {
            ("ok", "ok", "ok") => match self.degraded.first() {
                Some(first) => format!("degraded: {first}\n"),
                None => "ok\n".into(),
            },
            ("ok", "ok", writer) => format!("writer: {writer}\n"),
            ("ok", store, _) => format!("store: {store}\n"),
            (service, ..) => format!("{service}\n"),
        }
    }

    /// Returns one line per part.
    fn as_text(&self) -> String {
        let mut text = format!("{}\n", if self.ready { "ready" } else { "not ready" });
        let mut line = |part: &str, state: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{part}: {state}");
        };
        line("replica", self.replica.to_string());
        line("service", self.service.into());
        line("store", self.store.into());
        line("writer", self.writer.to_string());
        for sink in &self.sinks {
            let holder = match sink.replica {
                Some(replica) if replica != self.replica => format!("another replica, {replica}"),
                Some(_) => "this replica".into(),
                None => "no replica".into(),
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
