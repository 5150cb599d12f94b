//! The notification host.
//!
//! ```text
//! kafka ────┐
//! http ─────┼─▶ ingest ──▶ pipeline ──▶ writer ──▶ log ──▶ relay ──▶ kafka · redis · stdout
//! postgres ─┘                 │                     └────▶ feed (SSE)
//!                          sandbox
//! ```
//!
//! [`ingest`] turns bytes into events. The [`pipeline`] is the story: is it new? Project it with every projector that
//! wants it, hand event, notifications and dead letters to the writer, and answer once they are durable. [`releases`]
//! knows which release serves which projector. [`delivery`] reads the log and hands its entries to the sinks. [`http`]
//! and [`telemetry`] are how the world sees all this; [`Service::start`] puts it together.

pub mod access;
pub mod audit;
pub mod compare;
pub mod config;
pub mod delivery;
pub mod http;
pub mod ingest;
pub mod kafka;
pub mod pipeline;
pub mod releases;
pub mod telemetry;

mod clock;
mod comparison;
mod dead_letters;
mod descriptors;
mod heartbeat;
mod lease;
mod lot;
mod redis;
mod replay;
mod rerun;
mod retention;
mod service;
mod stopping;
mod task;

pub use service::{Service, ServiceSettings, StartError};
