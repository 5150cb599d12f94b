//! The operators' listener: liveness, readiness and metrics.

mod readiness;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::delivery::SinkHealth;
use crate::heartbeat::Heartbeat;
use crate::ingest::kafka::Stopped;
use crate::telemetry::Metrics;

pub(crate) use readiness::ReadinessCache;

#[derive(Clone)]
pub(crate) struct Ops {
    pub(crate) looked: ReadinessCache,
    pub(crate) metrics: Metrics,
    pub(crate) stopping: CancellationToken,
    pub(crate) heartbeat: Heartbeat,
    /// The position up to which the writer has committed. The sender is dropped when the writer ends.
    pub(crate) committed: watch::Receiver<i64>,
    /// Why the writer cannot commit; `None` if it can.
    pub(crate) write_failure: watch::Receiver<Option<String>>,
    /// The health of each sink.
    pub(crate) health: Vec<(&'static str, watch::Receiver<SinkHealth>)>,
    /// Whether Redis is connected; `None` if it is not used.
    pub(crate) redis: Option<watch::Receiver<bool>>,
    /// The Kafka partitions and topics that are not read until an operator intervenes.
    pub(crate) stopped: Stopped,
}

/// Returns all routes of this listener.
pub(super) fn routes() -> [(&'static str, MethodRouter<Ops>); 3] {
    [("/livez", get(|| async { "ok\n" })), ("/readyz", get(readiness::ready)), ("/metrics", get(metrics))]
}

pub(crate) fn router(ops: Ops) -> Router {
    routes().into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods)).with_state(ops)
}

async fn metrics(State(ops): State<Ops>) -> impl IntoResponse {
    ([("content-type", "text/plain; version=0.0.4")], ops.metrics.render())
}
