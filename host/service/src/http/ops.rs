//! What operators' machines ask: is it alive, is it ready, what did it count?

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get};
use tokio::sync::watch;

use super::readiness::{self, Looked};
use crate::delivery::SinkHealth;
use crate::heartbeat::Heartbeat;
use crate::ingest::kafka::Stopped;
use crate::telemetry::Metrics;

#[derive(Clone)]
pub(crate) struct Ops {
    pub(crate) looked: Looked,
    pub(crate) metrics: Metrics,
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) heartbeat: Heartbeat,
    /// How far the writer has committed; it ends with the writer.
    pub(crate) committed: watch::Receiver<i64>,
    /// Why the writer cannot commit, if so.
    pub(crate) write_failure: watch::Receiver<Option<String>>,
    /// How the sinks are.
    pub(crate) health: Vec<(&'static str, watch::Receiver<SinkHealth>)>,
    /// Whether Redis is connected, if it is used.
    pub(crate) redis: Option<watch::Receiver<bool>>,
    /// What is not read from Kafka until an operator does something.
    pub(crate) stopped: Stopped,
}

/// Everything that is served here.
pub(super) fn routes() -> [(&'static str, MethodRouter<Ops>); 3] {
    [("/livez", get(|| async { "ok\n" })), ("/readyz", get(readiness::ready)), ("/metrics", get(metrics))]
}

pub(crate) fn router(ops: Ops) -> Router {
    routes().into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods)).with_state(ops)
}

async fn metrics(State(ops): State<Ops>) -> impl IntoResponse {
    ([("content-type", "text/plain; version=0.0.4")], ops.metrics.render())
}
