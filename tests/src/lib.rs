//! What the end-to-end tests share: services on free ports, clients of their API, events, and real
//! servers for them to use.

mod client;
mod command;
mod events;
mod neighbour;
mod process;
pub mod servers;
mod service;

pub use client::{Client, FeedItem, Posted};
pub use command::{Ended, belfry, eventually};
pub use events::{Batch, assessment, results_ready};
pub use neighbour::Neighbour;
pub use process::{BelfryProcess, belfry_binary};
pub use service::TestService;
