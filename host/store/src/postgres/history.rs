//! What became of one event or one notification.

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::Postgres;
use super::dead_letters::{dead_letter, select_dead_letters};
use super::log::{entry, select_entries};
use crate::{EventHistory, NotificationHistory, StoreError, Withheld};

/// A query for withheld notifications; [`withheld_row`] reads the columns.
macro_rules! select_withheld {
    ($condition:literal) => {
        concat!(
            "SELECT notification_id, source_event_id, release_id, recipient, reason, \
             (extract(epoch FROM created_at) * 1000)::bigint FROM belfry.withheld ",
            $condition
        )
    };
}

impl Postgres {
    pub(crate) async fn event(&self, event_id: Uuid) -> Result<Option<EventHistory>, StoreError> {
        // Neither sorted nor limited, here and below: the planner would rather read the log in order than look the id up.
        let event = sqlx::query(select_entries!("WHERE event_id = $1 AND source_event_id IS NULL"))
            .bind(event_id)
            .fetch_optional(&self.readers)
            .await?;
        let Some(event) = event.as_ref().map(entry).transpose()? else { return Ok(None) };
        let notifications = sqlx::query(select_entries!("WHERE source_event_id = $1 ORDER BY id"))
            .bind(event_id)
            .fetch_all(&self.readers)
            .await?;
        let withheld = sqlx::query(select_withheld!("WHERE source_event_id = $1 ORDER BY id"))
            .bind(event_id)
            .fetch_all(&self.readers)
            .await?;
        let dead_letters = sqlx::query(select_dead_letters!("NULL::bytea", "WHERE event_id = $1 ORDER BY id"))
            .bind(event_id)
            .fetch_all(&self.readers)
            .await?;
        Ok(Some(EventHistory {
            event,
            notifications: notifications.iter().map(entry).collect::<Result<_, _>>()?,
            withheld: withheld.iter().map(withheld_row).collect::<Result<_, _>>()?,
            dead_letters: dead_letters.iter().map(dead_letter).collect::<Result<_, _>>()?,
        }))
    }

    pub(crate) async fn position_of(&self, event_id: Uuid) -> Result<Option<i64>, StoreError> {
        Ok(sqlx::query_scalar("SELECT id FROM belfry.outbox WHERE event_id = $1 AND source_event_id IS NULL")
            .bind(event_id)
            .fetch_optional(&self.readers)
            .await?)
    }

    pub(crate) async fn notification(&self, notification_id: Uuid) -> Result<Option<NotificationHistory>, StoreError> {
        let issued = sqlx::query(select_entries!("WHERE event_id = $1 AND source_event_id IS NOT NULL"))
            .bind(notification_id)
            .fetch_optional(&self.readers)
            .await?;
        if let Some(row) = issued {
            return Ok(Some(NotificationHistory::Issued(entry(&row)?)));
        }
        let withheld = sqlx::query(select_withheld!("WHERE notification_id = $1 ORDER BY id LIMIT 1"))
            .bind(notification_id)
            .fetch_optional(&self.readers)
            .await?;
        withheld.map(|row| withheld_row(&row).map(NotificationHistory::Withheld)).transpose()
    }
}

fn withheld_row(row: &PgRow) -> Result<Withheld, StoreError> {
    Ok(Withheld {
        notification_id: row.try_get(0)?,
        source_event_id: row.try_get(1)?,
        release_id: row.try_get(2)?,
        recipient: row.try_get(3)?,
        reason: row.try_get(4)?,
        created_at_ms: row.try_get(5)?,
    })
}
