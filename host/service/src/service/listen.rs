//! The two listeners: the API's, and the operators'.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::StartError;
use super::parts::{Parts, State};
use super::phase::{Phase, Phases};
use crate::config::{Config, Http};
use crate::delivery::feed::Feeds;
use crate::file_descriptors;
use crate::http::listener::{Budget, ListenerLimits, Times, serve};
use crate::http::{self, Api, ApiParts, Ops, ReadinessCache};
use crate::pipeline::Pipeline;
use crate::redrive::DeadLetters;
use crate::replay::Replays;

/// Memory for request bodies on the operators' listener, where no route takes a body.
const OPS_BODY_BYTES: usize = 1 << 20;

/// The addresses on which a service listens.
pub(super) struct Addresses {
    pub(super) http: SocketAddr,
    pub(super) ops: SocketAddr,
}

/// Starts to serve the API and the operators' routes.
pub(super) async fn listen(
    parts: &Parts,
    pipeline: Pipeline,
    in_flight: Arc<Semaphore>,
    state: State,
    phases: &Phases,
) -> Result<Addresses, StartError> {
    let Parts { config, metrics, store, heartbeat, others, registry, access, .. } = parts;
    let [http_limits, ops_limits] = limits(config);
    let log_end = heartbeat.log_end().subscribe();
    let api = Api::new(ApiParts {
        replays: Replays::new(pipeline.clone(), config.replay_threads()),
        dead_letters: DeadLetters { pipeline: pipeline.clone(), heartbeat: heartbeat.clone() },
        pipeline,
        store: store.clone(),
        registry: registry.clone(),
        feeds: Feeds::new(store.clone(), registry.clone(), log_end, phases.intake.stopping()),
        feed_places: Arc::new(Semaphore::new(most_feeds(config, http_limits.connections))),
        heartbeat: heartbeat.clone(),
        others: others.clone(),
        in_flight,
        max_in_flight: config.ingest.max_in_flight,
        max_event_bytes: config.ingest.max_event_bytes,
        access: access.clone(),
    });
    let ops = Ops {
        looked: ReadinessCache::new(store.clone()),
        metrics: metrics.clone(),
        stopping: phases.intake.stopping(),
        heartbeat: heartbeat.clone(),
        committed: state.committed,
        write_failure: state.write_failure,
        health: state.sinks,
        redis: state.redis,
        stopped: state.stopped,
    };
    let budget = Budget::new(config.http.body_memory_mib << 20);
    let http = start("http.listen", config.http.listen, http_limits, http::api(api), budget, &phases.intake).await?;
    // A separate budget: clients of the API must not affect monitoring.
    let budget = Budget::new(OPS_BODY_BYTES);
    let ops = start("ops.listen", config.ops.listen, ops_limits, http::ops(ops), budget, &phases.background).await?;
    Ok(Addresses { http, ops })
}

async fn start(
    setting: &'static str,
    address: SocketAddr,
    limits: ListenerLimits,
    router: Router,
    budget: Arc<Budget>,
    phase: &Phase,
) -> Result<SocketAddr, StartError> {
    let failed = |error| StartError::Listen { name: setting, address, error };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    phase.spawn(serve(listener, router, limits, budget, phase.stopping()));
    Ok(address)
}

/// The limits of the two listeners. Connections are limited by the available file descriptors too.
fn limits(config: &Config) -> [ListenerLimits; 2] {
    let ms = Duration::from_millis;
    let Http { head_timeout_ms, body_timeout_ms, read_timeout_ms, idle_timeout_ms, .. } = config.http;
    let times = Times {
        head: ms(head_timeout_ms),
        body: ms(body_timeout_ms),
        read: ms(read_timeout_ms),
        idle: ms(idle_timeout_ms),
    };
    let connections = file_descriptors::allow(config.http.max_connections, config.ops.max_connections);
    [
        ListenerLimits { listener: "http", connections, times },
        ListenerLimits { listener: "ops", connections: config.ops.max_connections, times },
    ]
}

/// Feeds may stay open indefinitely, so a quarter of the connections is reserved for other requests.
fn most_feeds(config: &Config, connections: usize) -> usize {
    config.http.max_feeds.min(connections * 3 / 4).max(1)
}
