//! The service as a whole: what it starts with, how it starts and how it stops.

mod check;
mod listen;
mod parts;
mod phase;
mod start;
mod stop;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use belfry_sandbox::SandboxError;
use belfry_store::{OpenError, Store, StoreError};
use phase::Phases;
use tokio::sync::Semaphore;

use crate::access::TokensError;
use crate::config::{Config, SecretError};
use crate::ingest::{kafka, postgres};
use crate::kafka::KafkaConfigError;
use crate::redis::RedisConfigError;
use crate::releases::ReleaseError;

/// The settings that a service starts with.
#[derive(Clone, Debug)]
pub struct ServiceSettings {
    /// The configuration.
    pub config: Config,
    /// The bundled component, which is activated in an empty store.
    pub default_projector: &'static [u8],
    /// The program that compiles components when called like `belfry compile-component`.
    pub compiler: PathBuf,
}

/// An error that prevents a service from starting. No port is bound then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] StoreError),
    /// The sandbox cannot start.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The configured trusted keys are invalid.
    #[error("{0}")]
    Keys(String),
    /// A release that is rolled out cannot be loaded.
    #[error("cannot load an active release: {0}")]
    Release(#[from] ReleaseError),
    /// A secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The Kafka clients cannot be created.
    #[error(transparent)]
    Kafka(#[from] KafkaConfigError),
    /// Events cannot be read from Kafka.
    #[error(transparent)]
    Source(#[from] kafka::SourceError),
    /// The Redis client cannot be created.
    #[error(transparent)]
    Redis(#[from] RedisConfigError),
    /// Events cannot be read from the database of another service.
    #[error(transparent)]
    Submitted(#[from] postgres::SourceError),
    /// The tokens file cannot be read.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// The service cannot listen on an address.
    #[error("{name}: cannot listen on {address}: {error}; stop the process that uses it, or choose another address")]
    Listen {
        /// The setting that holds the address.
        name: &'static str,
        /// The address.
        address: SocketAddr,
        /// The operating system's error.
        error: io::Error,
    },
}

/// A running service.
pub struct Service {
    http_address: SocketAddr,
    ops_address: SocketAddr,
    phases: Phases,
    store: Store,
    /// Permits for the events that requests have in flight.
    in_flight: Arc<Semaphore>,
}

impl Service {
    /// Returns the address of the API's listener.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Returns the address of the operators' listener.
    pub fn ops_address(&self) -> SocketAddr {
        self.ops_address
    }
}
