//! Redis, which is optional: the announcements that replicas exchange through it, and its client.
//!
//! Correctness does not depend on Redis. An announcement is a hint that there is something to read in the database; one
//! that is lost, late or forged costs only time. The **notifier** announces what this replica did, the **listener** receives
//! the announcements of others, and the heartbeat polls the database.

mod client;
mod listen;
mod names;
mod wake;

pub(crate) use client::{Client, RedisConfigError};
pub(crate) use listen::Listener;
pub(crate) use wake::{PeerNotifier, PeerSignals};
