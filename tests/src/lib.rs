//! Shared support for the end-to-end tests: services on free ports, clients of their API, events, and real servers.

mod activations;
mod client;
mod command;
mod events;
mod neighbour;
mod process;
mod replica;
pub mod servers;
mod service;
mod service_database;
pub mod soak;

pub use activations::{Alternation, Turns, alternate};
pub use client::{Client, FeedItem, Posted};
pub use command::{Ended, belfry, eventually};
pub use events::{Batch, assessment, minted_anew, results_ready};
pub use neighbour::Neighbour;
pub use process::{BelfryProcess, belfry_binary};
pub use replica::Replica;
pub use service::TestService;
pub use service_database::{LoggedEvent, ServiceDatabase, logged_events};
