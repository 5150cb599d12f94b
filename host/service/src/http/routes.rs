//! The routes of the API with the role that each requires. The router is built from this list alone.

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use tokio::time::timeout;

use super::extract::{MAX_DOCUMENT_BYTES, check_length, check_request};
use super::problem::Problem;
use super::{
    Api, OPENAPI, audit_log, auth, dead_letters, event_history, events, feed, ops, panics, parked, pauses, problem,
    releases, replays, sinks, tokens, trials,
};
use crate::access::Role;
use crate::access::Role::{Admin, Operator, Publisher, Viewer};

/// Maximum upload, in bytes: a component of 64 MiB and the rest of the form.
const MAX_UPLOAD_BYTES: usize = 65 << 20;

/// A route of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The method. Routes for GET also accept HEAD.
    pub method: Method,
    /// The path, with its parameters in braces.
    pub path: &'static str,
    /// The lowest role that may use it; `None` if no token is needed.
    pub role: Option<Role>,
}

/// Time limits of requests that read and of requests that change something. Uploads and activations compile components, and
/// compilation has its own limit.
const READ: Duration = Duration::from_secs(30);
const CHANGE: Duration = Duration::from_secs(1200);

struct Endpoint {
    route: Route,
    handler: MethodRouter<Api>,
    max_bytes: usize,
    time: Duration,
}

impl Endpoint {
    fn reads<H: Handler<T, Api>, T: 'static>(path: &'static str, role: Role, handler: H) -> Self {
        let route = Route { method: Method::GET, path, role: Some(role) };
        Self { route, handler: get(handler), max_bytes: MAX_DOCUMENT_BYTES, time: READ }
    }

    fn changes<H: Handler<T, Api>, T: 'static>(path: &'static str, role: Role, handler: H) -> Self {
        let route = Route { method: Method::POST, path, role: Some(role) };
        Self { route, handler: post(handler), max_bytes: MAX_DOCUMENT_BYTES, time: CHANGE }
    }

    fn up_to(self, bytes: usize) -> Self {
        Self { max_bytes: bytes, ..self }
    }
}

fn endpoints() -> Vec<Endpoint> {
    let openapi = || async { ([("content-type", "application/json")], OPENAPI) };
    let described = Route { method: Method::GET, path: "/openapi.json", role: None };
    vec![
        Endpoint::changes("/v1/events", Publisher, events::post).up_to(events::MAX_BODY_BYTES),
        Endpoint::reads("/v1/events/{event_id}", Viewer, event_history::event),
        Endpoint::changes("/v1/events/{event_id}/rerun", Operator, event_history::run_again),
        Endpoint::reads("/v1/notifications/{event_id}", Viewer, event_history::notification),
        Endpoint::reads("/v1/feed", Viewer, feed::get),
        Endpoint::reads("/v1/dead-letters", Viewer, dead_letters::list),
        Endpoint::reads("/v1/dead-letters/groups", Viewer, dead_letters::groups),
        Endpoint::reads("/v1/dead-letters/{id}", Viewer, dead_letters::one),
        Endpoint::changes("/v1/dead-letters/redrive", Operator, dead_letters::redrive),
        Endpoint::changes("/v1/dead-letters/discard", Operator, dead_letters::discard),
        Endpoint::reads("/v1/parked", Viewer, parked::list),
        Endpoint::changes("/v1/parked/unpark", Operator, parked::unpark),
        Endpoint::changes("/v1/parked/discard", Operator, parked::discard),
        Endpoint::reads("/v1/sinks", Viewer, sinks::list),
        Endpoint::changes("/v1/sinks/{name}/forget", Operator, sinks::forget),
        Endpoint::changes("/v1/sinks/{name}/resume", Operator, sinks::resume),
        Endpoint::reads("/v1/releases", Viewer, releases::list),
        Endpoint::changes("/v1/releases", Operator, releases::upload).up_to(MAX_UPLOAD_BYTES),
        Endpoint::reads("/v1/releases/{release_id}", Viewer, releases::one),
        Endpoint::reads("/v1/projectors", Viewer, releases::projectors),
        Endpoint::changes("/v1/projectors/{name}/rollout", Operator, releases::activate),
        Endpoint::changes("/v1/projectors/{name}/rollback", Operator, releases::roll_back),
        Endpoint::changes("/v1/projectors/{name}/retire", Operator, releases::retire),
        Endpoint::changes("/v1/projectors/{name}/replays", Operator, replays::run),
        Endpoint::reads("/v1/projectors/{name}/trial", Viewer, trials::show),
        Endpoint::changes("/v1/projectors/{name}/trial", Operator, trials::begin),
        Endpoint::changes("/v1/projectors/{name}/trial/end", Operator, trials::end),
        Endpoint::changes("/v1/rollout", Operator, releases::activate_all),
        Endpoint::reads("/v1/pauses", Viewer, pauses::list),
        Endpoint::changes("/v1/pauses/{kind}/{name}", Operator, pauses::pause),
        Endpoint::changes("/v1/pauses/{kind}/{name}/resume", Operator, pauses::resume),
        Endpoint::reads("/v1/audit-log", Operator, audit_log::list),
        Endpoint::reads("/v1/tokens", Admin, tokens::list),
        Endpoint::changes("/v1/tokens", Admin, tokens::create),
        Endpoint::changes("/v1/tokens/{name}/revoke", Admin, tokens::revoke),
        Endpoint { route: described, handler: get(openapi), max_bytes: MAX_DOCUMENT_BYTES, time: READ },
    ]
}

/// Returns all routes of the API.
pub fn routes() -> Vec<Route> {
    endpoints().into_iter().map(|endpoint| endpoint.route).collect()
}

/// Returns the paths of the API's listener and those of the operators' listener.
pub fn paths() -> (Vec<&'static str>, Vec<&'static str>) {
    let mut api: Vec<&'static str> = routes().iter().map(|route| route.path).collect();
    api.sort_unstable();
    api.dedup();
    (api, ops::routes().map(|(path, _)| path).into())
}

pub(crate) fn api(api: Api) -> Router {
    let mut router = Router::new();
    for Endpoint { route, handler, max_bytes, time } in endpoints() {
        let handler = handler.layer(DefaultBodyLimit::max(max_bytes)).layer(from_fn_with_state(time, in_time));
        let handler = handler.layer(from_fn_with_state(max_bytes, short_enough));
        let handler = match route.role {
            Some(role) => handler.route_layer(from_fn_with_state((api.clone(), role), auth::authorize)),
            None => handler,
        };
        router = router.route(route.path, handler);
    }
    let router = router.method_not_allowed_fallback(problem::no_such_method).fallback(problem::no_such_page);
    router.layer(from_fn(readable)).layer(from_fn(panics::caught)).with_state(api)
}

/// Rejects requests that no route accepts.
async fn readable(request: Request, next: Next) -> Response {
    match check_request(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Rejects a body whose announced length exceeds the limit, before it is read.
async fn short_enough(State(max_bytes): State<usize>, request: Request, next: Next) -> Response {
    match check_length(&request, max_bytes) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Answers 503 if the handler exceeds the time limit.
async fn in_time(State(time): State<Duration>, request: Request, next: Next) -> Response {
    let late = || Problem::overloaded("the request timed out; try again").into_response();
    timeout(time, next.run(request)).await.unwrap_or_else(|_| late())
}
