//! The history of one event or one notification.

use std::collections::HashMap;

use sqlx::{QueryBuilder, Row, Sqlite as Driver};
use uuid::Uuid;

use super::Sqlite;
use super::dead_letters::select_dead_letters;
use super::read_log::select_entries;
use crate::delivery::DeliveryRow;
use crate::{Activation, DeadLetter, EventHistory, LogEntry, NotificationHistory, StoreError, Withheld};

/// Number of events that one statement looks up.
const ROWS: usize = 64;

/// A query for withheld notifications; [`withheld_row`] reads the columns.
macro_rules! select_withheld {
    ($condition:literal) => {
        concat!(
            "SELECT notification_id, source_event_id, release_id, recipient, reason, created_at_ms FROM withheld ",
            $condition
        )
    };
}

impl Sqlite {
    pub(crate) async fn event(&self, event_id: Uuid) -> Result<Option<EventHistory>, StoreError> {
        let event: Option<LogEntry> =
            sqlx::query_as(select_entries!("WHERE id = (SELECT position FROM inbox WHERE event_id = $1)"))
                .bind(event_id)
                .fetch_optional(&self.readers)
                .await?;
        let Some(event) = event else { return Ok(None) };
        let mut notifications: Vec<LogEntry> = sqlx::query_as(select_entries!(
            "WHERE id > $2 AND id < coalesce( \
               (SELECT id FROM outbox WHERE id > $2 AND source_event_id IS NOT $1 ORDER BY id LIMIT 1), \
               9223372036854775807) ORDER BY id"
        ))
        .bind(event_id)
        .bind(event.position)
        .fetch_all(&self.readers)
        .await?;
        let withheld = sqlx::query_as(select_withheld!("WHERE source_event_id = $1 ORDER BY id"))
            .bind(event_id)
            .fetch_all(&self.readers)
            .await?;
        let dead_letters: Vec<DeadLetter> =
            sqlx::query_as(select_dead_letters!("NULL", "WHERE event_id = $1 ORDER BY id"))
                .bind(event_id)
                .fetch_all(&self.readers)
                .await?;
        // The notifications of redrives are elsewhere in the log.
        for (first, count) in dead_letters.iter().filter_map(|letter| letter.settled.as_ref()?.notifications) {
            notifications.extend(self.read_log(first - 1, first - 1 + i64::from(count), count).await?);
        }
        let source = sqlx::query_scalar("SELECT source FROM outbox WHERE id = $1")
            .bind(event.position)
            .fetch_optional(&self.readers)
            .await?;
        Ok(Some(EventHistory { event, source: source.flatten(), notifications, withheld, dead_letters }))
    }

    pub(crate) async fn position_of(&self, event_id: Uuid) -> Result<Option<i64>, StoreError> {
        Ok(sqlx::query_scalar("SELECT position FROM inbox WHERE event_id = $1")
            .bind(event_id)
            .fetch_optional(&self.readers)
            .await?)
    }

    pub(crate) async fn positions_of(&self, event_ids: &[Uuid]) -> Result<HashMap<Uuid, i64>, StoreError> {
        let mut positions = HashMap::with_capacity(event_ids.len());
        for chunk in event_ids.chunks(ROWS) {
            let mut query = QueryBuilder::<Driver>::new("SELECT event_id, position FROM inbox WHERE event_id IN (");
            let mut ids = query.separated(", ");
            for event_id in chunk {
                ids.push_bind(*event_id);
            }
            query.push(")");
            let found: Vec<(Uuid, i64)> = query.build_query_as().fetch_all(&self.readers).await?;
            positions.extend(found);
        }
        Ok(positions)
    }

    pub(crate) async fn notification(&self, notification_id: Uuid) -> Result<Option<NotificationHistory>, StoreError> {
        let issued =
            sqlx::query_as(select_entries!("WHERE id = (SELECT position FROM issued WHERE notification_id = $1)"))
                .bind(notification_id)
                .fetch_optional(&self.readers)
                .await?;
        if let Some(entry) = issued {
            return Ok(Some(NotificationHistory::Issued(entry)));
        }
        let withheld: Option<Withheld> =
            sqlx::query_as(select_withheld!("WHERE notification_id = $1 ORDER BY id LIMIT 1"))
                .bind(notification_id)
                .fetch_optional(&self.readers)
                .await?;
        Ok(withheld.map(NotificationHistory::Withheld))
    }

    pub(crate) async fn deliveries(&self, position: i64) -> Result<Vec<DeliveryRow>, StoreError> {
        // Sources hold leases in the same table. Their names contain a colon.
        let rows = sqlx::query(
            "SELECT r.sink, r.position >= $1, $1 <= r.began_after, \
                    coalesce(u.sent_at_ms, (SELECT c.acked_at_ms FROM relay_checkpoint c \
                       WHERE c.sink = r.sink AND c.upto_id >= $1 ORDER BY c.upto_id LIMIT 1)), \
                    u.withheld, p.error, d.discarded_at_ms, d.discarded_by, d.reason FROM relay r \
               LEFT JOIN parked p ON p.sink = r.sink AND p.id = $1 \
               LEFT JOIN unparked u ON u.sink = r.sink AND u.id = $1 \
               LEFT JOIN discarded d ON d.sink = r.sink AND d.id = $1 \
              WHERE instr(r.sink, ':') = 0 ORDER BY r.sink",
        )
        .bind(position)
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(DeliveryRow {
                    sink: row.try_get(0)?,
                    reached: row.try_get(1)?,
                    before_the_sink: row.try_get(2)?,
                    settled_ms: row.try_get(3)?,
                    withheld: row.try_get(4)?,
                    parked: row.try_get(5)?,
                    discarded_ms: row.try_get(6)?,
                    discarded_by: row.try_get(7)?,
                    reason: row.try_get(8)?,
                })
            })
            .collect()
    }

    pub(crate) async fn has_served(&self, release_id: i64) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM rollout WHERE release_id = $1)")
            .bind(release_id)
            .fetch_one(&self.readers)
            .await?)
    }

    pub(crate) async fn activation(&self, release_id: i64, at_ms: i64) -> Result<Option<Activation>, StoreError> {
        let row = sqlx::query(
            "SELECT created_by, created_at_ms, \
                    NOT EXISTS (SELECT 1 FROM rollout AS after \
                                 WHERE after.release_id = $1 AND after.id >= now.id AND after.created_at_ms <= $2) \
               FROM rollout AS now \
              WHERE created_at_ms <= $2 AND NOT retired \
                AND (release_id = $1 OR candidate_id = $1 AND candidate_plan IS NOT NULL) \
                AND NOT EXISTS (SELECT 1 FROM rollout AS before \
                                 WHERE before.id = (SELECT max(id) FROM rollout WHERE projector = now.projector AND id < now.id) \
                                   AND NOT before.retired AND (before.release_id = $1 OR before.candidate_id = $1 AND before.candidate_plan IS NOT NULL)) \
              ORDER BY id DESC LIMIT 1",
        )
        .bind(release_id)
        .bind(at_ms)
        .fetch_optional(&self.readers)
        .await?;
        row.map(|row| Ok(Activation { by: row.try_get(0)?, at_ms: row.try_get(1)?, canary: row.try_get(2)? }))
            .transpose()
    }
}
