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
use axum::routing::{MethodRouter, get, post};
use belfry_store::Store;
use tokio::sync::Semaphore;

use crate::config::Tokens;
use crate::delivery::feed::Feeds;
use crate::heartbeat::Heartbeat;
use crate::pipeline::Pipeline;
use crate::redis::Others;
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
    pub(crate) others: Others,
    /// One permit for each event between arrival and commit.
    pub(crate) in_flight: Arc<Semaphore>,
    pub(crate) max_in_flight: usize,
    pub(crate) max_event_bytes: usize,
    pub(crate) tokens: Option<Arc<Tokens>>,
}

/// Whether a caller has to show a token.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    ByToken,
    Open,
}

/// Everything that the API serves. A router keeps to itself what it serves, so it is made of this.
fn routes() -> [(&'static str, Access, MethodRouter<Api>); 13] {
    use Access::{ByToken, Open};
    let openapi = || async { ([("content-type", "application/json")], OPENAPI) };
    let events = post(events::post).layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    let releases = get(releases::list).post(releases::upload).layer(DefaultBodyLimit::max(MAX_UPLOAD_BYTES));
    [
        ("/v1/events", ByToken, events),
        ("/v1/events/{event_id}", ByToken, get(histories::event)),
        ("/v1/notifications/{event_id}", ByToken, get(histories::notification)),
        ("/v1/feed", ByToken, get(feed::get)),
        ("/v1/parked", ByToken, get(parked::list)),
        ("/v1/parked/unpark", ByToken, post(parked::unpark)),
        ("/v1/parked/discard", ByToken, post(parked::discard)),
        ("/v1/releases", ByToken, releases),
        ("/v1/releases/{release_id}", ByToken, get(releases::one)),
        ("/v1/projectors", ByToken, get(releases::projectors)),
        ("/v1/projectors/{name}/rollout", ByToken, post(releases::activate)),
        ("/v1/projectors/{name}/rollback", ByToken, post(releases::roll_back)),
        ("/openapi.json", Open, get(openapi)),
    ]
}

/// The paths that the API serves, and those that the operators' listener does.
pub fn paths() -> (Vec<&'static str>, Vec<&'static str>) {
    (routes().map(|(path, ..)| path).into(), ops::routes().map(|(path, _)| path).into())
}

pub(crate) fn api(api: Api) -> Router {
    let add = |router: Router<Api>, (path, _, methods): (&str, Access, MethodRouter<Api>)| router.route(path, methods);
    let (by_token, open): (Vec<_>, Vec<_>) =
        routes().into_iter().partition(|(_, access, _)| *access == Access::ByToken);
    let by_token = by_token.into_iter().fold(Router::new(), add);
    let by_token = by_token.layer(axum::middleware::from_fn_with_state(api.clone(), auth::authorize));
    open.into_iter()
        .fold(by_token, add)
        .method_not_allowed_fallback(problem::no_such_method)
        .fallback(problem::no_such_page)
        .with_state(api)
}
