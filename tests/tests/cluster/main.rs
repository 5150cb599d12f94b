//! Several replicas, and Redis between them.

mod redis;
mod replicas;
