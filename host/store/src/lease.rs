use std::time::Duration;

use uuid::Uuid;

use crate::{NewParked, Store, StoreError};

/// Duration of a lease from its last renewal, by the database's clock.
pub const LEASE: Duration = Duration::from_secs(15);

/// The right to send a sink its entries, until the lease expires or another replica takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Increases with each holder. Requests of earlier holders are rejected.
    pub epoch: i64,
    /// The position up to which the sink has been served.
    pub position: i64,
    /// The incarnation of the database that the lease was taken from, as in [`Beat`]. In another one, a position has
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

impl Store {
    /// Takes a registered sink's lease if it has expired or belongs to `owner`. Returns `None` while another owner
    /// holds it.
    pub async fn acquire_lease(&self, sink: &str, owner: Uuid) -> Result<Option<Lease>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.acquire_lease(sink, owner).await,
            Self::Postgres(postgres) => postgres.acquire_lease(sink, owner).await,
        }
    }

    /// Records how far a sink has been served and which entries it refused, and renews the lease. Returns false if the
    /// lease has expired or has another holder: then nothing was recorded, and nothing more may be sent.
    pub async fn checkpoint(
        &self,
        sink: &str,
        epoch: i64,
        position: i64,
        parked: &[NewParked],
    ) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.checkpoint(sink, epoch, position, parked).await,
            Self::Postgres(postgres) => postgres.checkpoint(sink, epoch, position, parked).await,
        }
    }

    /// Makes the lease available to other replicas at once, because this one cannot serve the sink now.
    pub async fn lend_lease(&self, sink: &str, epoch: i64) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.lend_lease(sink, epoch).await,
            Self::Postgres(postgres) => postgres.lend_lease(sink, epoch).await,
        }
    }

    /// Makes the lease available to other replicas at once, because this one stops. Until another replica takes it, the
    /// sink counts as off.
    pub async fn release_lease(&self, sink: &str, epoch: i64) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.release_lease(sink, epoch).await,
            Self::Postgres(postgres) => postgres.release_lease(sink, epoch).await,
        }
    }
}
