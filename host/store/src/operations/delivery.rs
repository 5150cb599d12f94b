use crate::{Activation, Delivery, Store, StoreError};

impl Store {
    /// Returns the state of the entry at a position for each sink.
    pub async fn deliveries(&self, position: i64) -> Result<Vec<Delivery>, StoreError> {
        let rows = match self {
            Self::Sqlite(sqlite) => sqlite.deliveries(position).await?,
            Self::Postgres(postgres) => postgres.deliveries(position).await?,
        };
        Ok(rows.into_iter().map(Delivery::from).collect())
    }

    /// Returns whether a release has ever served all of its projector's events.
    pub async fn has_served(&self, release_id: i64) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.has_served(release_id).await,
            Self::Postgres(postgres) => postgres.has_served(release_id).await,
        }
    }

    /// Returns the last activation of a release up to `at_ms`, for all subjects or for a share of them.
    pub async fn activation(&self, release_id: i64, at_ms: i64) -> Result<Option<Activation>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.activation(release_id, at_ms).await,
            Self::Postgres(postgres) => postgres.activation(release_id, at_ms).await,
        }
    }
}
