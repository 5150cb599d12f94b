//! The HTTP API and the command: events, access, and what people are shown.

mod access;
mod api;
mod audit_log;
mod bodies;
mod command;
mod durability;
mod envelopes;
mod explain;
mod metrics;
mod openapi;
mod privacy;
mod roles;
mod tokens;
