//! The HTTP API, on two listeners: `[http]` for clients that post and read, `[ops]` for monitoring.

mod audit_log;
mod auth;
mod change;
mod dead_letters;
mod event_history;
mod events;
mod extract;
mod feed;
pub(crate) mod listener;
mod notification;
mod ops;
mod panics;
mod parked;
mod pauses;
mod problem;
mod reason;
mod releases;
mod replays;
mod routes;
mod sinks;
mod tokens;
mod trials;
mod wire;

pub(crate) use ops::ReadinessCache;
pub(crate) use ops::{Ops, router as ops};
pub(crate) use routes::api;
pub use routes::{Route, paths, routes};

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use belfry_store::Store;
use tokio::sync::Semaphore;

use crate::access::Access;
use crate::delivery::feed::Feeds;
use crate::heartbeat::Heartbeat;
use crate::pipeline::Pipeline;
use crate::redis::PeerSignals;
use crate::redrive::DeadLetters;
use crate::releases::Registry;
use crate::replay::Replays;

/// The OpenAPI document of the API, as served at `/openapi.json`.
pub const OPENAPI: &str = include_str!("openapi.json");

/// Time limit to commit posted events.
const ANSWER: Duration = Duration::from_secs(60);

/// The state shared by all handlers. Every request clones it several times, so it is a single pointer.
#[derive(Clone)]
pub(crate) struct Api(Arc<ApiParts>);

impl Api {
    pub(crate) fn new(parts: ApiParts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for Api {
    type Target = ApiParts;

    fn deref(&self) -> &ApiParts {
        &self.0
    }
}

/// The parts of [`Api`].
pub(crate) struct ApiParts {
    pub(crate) pipeline: Pipeline,
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) feeds: Feeds,
    /// One permit for each feed that may be open.
    pub(crate) feed_places: Arc<Semaphore>,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) others: PeerSignals,
    /// Permits for events in flight, that is, between arrival and commit. A large event takes several.
    pub(crate) in_flight: Arc<Semaphore>,
    pub(crate) max_in_flight: usize,
    pub(crate) max_event_bytes: usize,
    pub(crate) access: Access,
    pub(crate) replays: Replays,
    pub(crate) dead_letters: DeadLetters,
}
