use uuid::Uuid;

use crate::{Beat, Store, StoreError};

impl Store {
    /// Performs a heartbeat: reads what has changed and who holds which lease, and renews the leases of `owner`.
    pub async fn beat(&self, owner: Uuid) -> Result<Beat, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.beat(owner).await,
            Self::Postgres(postgres) => postgres.beat(owner).await,
        }
    }
}
