use std::time::Duration;

use uuid::Uuid;

/// Duration of a lease from its last renewal, by the database's clock.
pub const LEASE: Duration = Duration::from_secs(15);

/// The right to send a sink its entries, until the lease expires or another replica takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Increases with each holder. Requests of earlier holders are rejected.
    pub epoch: i64,
    /// The position up to which the sink has been served.
    pub position: i64,
    /// The incarnation of the database that the lease was taken from, as in [`Beat`](crate::Beat). In another one, a position has
    /// another meaning.
    pub incarnation: String,
}

/// The current state of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseState {
    /// The name of the sink, or of the source that one replica at a time reads.
    pub name: String,
    /// The current or last holder.
    pub owner: Option<Uuid>,
    /// The holder's epoch.
    pub epoch: i64,
    /// The position up to which the sink has been served.
    pub position: i64,
    /// Whether an operator has paused the sink.
    pub paused: bool,
    /// The remaining time of the lease; zero once it has expired.
    pub remaining: Duration,
}
