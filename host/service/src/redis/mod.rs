//! Redis, which may be there or not: what replicas tell each other through it, and how it is reached.
//!
//! Nothing depends on it. What one replica tells another is a hint that there is something to look at in the database;
//! a hint that is lost, late or forged costs time at most. The **teller** tells what this replica did, the **listener**
//! hears what others did, and the heartbeat looks.

mod client;
mod listen;
mod wake;

pub(crate) use client::{Client, RedisConfigError};
pub(crate) use listen::Listener;
pub(crate) use wake::{Others, Teller};
