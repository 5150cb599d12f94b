//! Several replicas, and Redis between them.

mod readiness;
mod redis;
mod replicas;
