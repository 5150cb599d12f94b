use belfry_store::Store;
use tokio::sync::watch;

use crate::access::Access;
use crate::config::Config;
use crate::delivery::SinkHealth;
use crate::heartbeat::Heartbeat;
use crate::ingest::kafka::Stopped;
use crate::redis::{self, PeerSignals};
use crate::releases::Registry;
use crate::telemetry::Metrics;

/// What every part of a service needs.
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) metrics: Metrics,
    pub(super) store: Store,
    /// The store's address, without secrets.
    pub(super) store_address: String,
    pub(super) heartbeat: Heartbeat,
    pub(super) others: PeerSignals,
    pub(super) registry: Registry,
    pub(super) access: Access,
    pub(super) redis: Option<redis::Client>,
    /// Whether Redis announces what other replicas do.
    pub(super) subscribed: watch::Sender<bool>,
    /// The state of the rollouts that the registry has loaded.
    pub(super) known_rollout: (i64, i64),
}

/// The state that the operators' listener shows.
pub(super) struct State {
    pub(super) committed: watch::Receiver<i64>,
    pub(super) write_failure: watch::Receiver<Option<String>>,
    pub(super) sinks: Vec<(&'static str, watch::Receiver<SinkHealth>)>,
    pub(super) redis: Option<watch::Receiver<bool>>,
    pub(super) stopped: Stopped,
}
