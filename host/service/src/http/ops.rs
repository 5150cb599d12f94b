//! What operators' machines ask: is it alive, is it ready, what did it count?

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use belfry_store::Store;
use tokio::sync::watch;

use super::readiness;
use crate::delivery::BreakerState;
use crate::heartbeat::Heartbeat;
use crate::telemetry::Metrics;

#[derive(Clone)]
pub(crate) struct Ops {
    pub(crate) store: Store,
    pub(crate) metrics: Metrics,
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) heartbeat: Heartbeat,
    /// How far the writer has committed; it ends with the writer.
    pub(crate) committed: watch::Receiver<i64>,
    /// How the sinks are.
    pub(crate) health: Vec<(&'static str, watch::Receiver<BreakerState>)>,
    /// Whether Redis is connected, if it is used.
    pub(crate) redis: Option<watch::Receiver<bool>>,
}

pub(crate) fn router(ops: Ops) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness::ready))
        .route("/metrics", get(metrics))
        .with_state(ops)
}

async fn metrics(State(ops): State<Ops>) -> impl IntoResponse {
    ([("content-type", "text/plain; version=0.0.4")], ops.metrics.render())
}
