use std::collections::HashMap;

use uuid::Uuid;

use crate::{EventHistory, NotificationHistory, Store, StoreError};

impl Store {
    /// Returns an event and everything that resulted from it.
    pub async fn event(&self, event_id: Uuid) -> Result<Option<EventHistory>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.event(event_id).await,
            Self::Postgres(postgres) => postgres.event(event_id).await,
        }
    }

    /// Returns the position of an event in the log.
    pub async fn position_of(&self, event_id: Uuid) -> Result<Option<i64>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.position_of(event_id).await,
            Self::Postgres(postgres) => postgres.position_of(event_id).await,
        }
    }

    /// Returns the positions of those events that are in the log.
    pub async fn positions_of(&self, event_ids: &[Uuid]) -> Result<HashMap<Uuid, i64>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.positions_of(event_ids).await,
            Self::Postgres(postgres) => postgres.positions_of(event_ids).await,
        }
    }

    /// Returns a notification, issued or withheld.
    pub async fn notification(&self, notification_id: Uuid) -> Result<Option<NotificationHistory>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.notification(notification_id).await,
            Self::Postgres(postgres) => postgres.notification(notification_id).await,
        }
    }
}
