use uuid::Uuid;

use crate::{Lease, NewParked, Store, StoreError};

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
