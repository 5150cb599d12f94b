//! The notification host.
//!
//! ```text
//! kafka ────┐
//! http ─────┼─▶ ingest ──▶ pipeline ──▶ writer ──▶ log ──▶ relay ──▶ kafka · redis · stdout
//! postgres ─┘                 │                     └────▶ feed (SSE)
//!                          sandbox
//! ```
//!
//! [`ingest`] parses bytes into events. The [`pipeline`] drops duplicates, projects each new event with every projector
//! that subscribes to it, passes the event, its notifications and its dead letters to the writer, and answers once they
//! are durable. [`releases`] maps each projector to its active release. [`delivery`] reads the log and sends its entries
//! to the sinks. [`http`] and [`telemetry`] are the interfaces to the outside. [`Service::start`] assembles the parts.

pub mod access;
pub mod config;
pub mod delivery;
pub mod http;
pub mod incoming;
pub mod ingest;
pub mod kafka;
pub mod parity;
pub mod pipeline;
pub mod releases;
pub mod telemetry;
pub mod topic_audit;

mod backoff;
mod clock;
mod diff;
mod dry_run;
mod file_descriptors;
mod heartbeat;
mod lease_keeper;
mod redis;
mod redrive;
mod replay;
mod rerun;
mod retention;
mod sampling;
mod service;
mod task;

pub use service::{Service, ServiceSettings, StartError};
