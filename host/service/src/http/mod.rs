//! The HTTP API, on two listeners: `[http]` for those who post and read, `[ops]` for those who watch.

mod auth;
mod events;
mod feed;
mod histories;
mod ops;
mod parked;
mod problem;
mod readiness;
mod releases;
mod wire;

pub(crate) use ops::{Ops, router as ops};

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use belfry_store::Store;
use tokio::sync::Semaphore;

use crate::config::Tokens;
use crate::delivery::feed::Feeds;
use crate::heartbeat::Heartbeat;
use crate::pipeline::Pipeline;
use crate::releases::Registry;

/// The API's description, as it is served at `/openapi.json`.
pub const OPENAPI: &str = include_str!("openapi.json");

/// The largest body of a request that posts events, in bytes.
const MAX_BODY_BYTES: usize = 16 << 20;
/// The largest upload: a component of 64 MiB and what is around it.
const MAX_UPLOAD_BYTES: usize = 65 << 20;

/// What handlers need. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) pipeline: Pipeline,
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) feeds: Feeds,
    pub(crate) heartbeat: Heartbeat,
    /// One permit for each event between arrival and commit.
    pub(crate) in_flight: Arc<Semaphore>,
    pub(crate) max_in_flight: usize,
    pub(crate) max_event_bytes: usize,
    pub(crate) tokens: Option<Arc<Tokens>>,
}

pub(crate) fn api(api: Api) -> Router {
    let openapi = || async { ([("content-type", "application/json")], OPENAPI) };
    Router::new()
        .route("/v1/events", post(events::post).layer(DefaultBodyLimit::max(MAX_BODY_BYTES)))
        .route("/v1/events/{event_id}", get(histories::event))
        .route("/v1/notifications/{event_id}", get(histories::notification))
        .route("/v1/feed", get(feed::get))
        .route("/v1/parked", get(parked::list))
        .route("/v1/parked/unpark", post(parked::unpark))
        .route("/v1/parked/discard", post(parked::discard))
        .route(
            "/v1/releases",
            get(releases::list).post(releases::upload).layer(DefaultBodyLimit::max(MAX_UPLOAD_BYTES)),
        )
        .route("/v1/releases/{release_id}", get(releases::one))
        .route("/v1/projectors", get(releases::projectors))
        .route("/v1/projectors/{name}/rollout", post(releases::activate))
        .route("/v1/projectors/{name}/rollback", post(releases::roll_back))
        .layer(axum::middleware::from_fn_with_state(api.clone(), auth::authorize))
        .route("/openapi.json", get(openapi))
        .method_not_allowed_fallback(problem::no_such_method)
        .fallback(problem::no_such_page)
        .with_state(api)
}
