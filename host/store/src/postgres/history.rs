//! The history of one event or one notification.

use std::collections::HashMap;

use sqlx::Row;
use uuid::Uuid;

use super::Postgres;
use super::dead_letters::select_dead_letters;
use super::read_log::select_entries;
use crate::delivery::DeliveryRow;
use crate::{Activation, EventHistory, LogEntry, NotificationHistory, StoreError, Withheld};

/// A query for withheld notifications; [`withheld_row`] reads the columns.
macro_rules! select_withheld {
    ($condition:literal) => {
        concat!(
            "SELECT notification_id, source_event_id, release_id, recipient, reason, \
             (extract(epoch FROM created_at) * 1000)::bigint AS created_at_ms FROM belfry.withheld ",
            $condition
        )
    };
}

impl Postgres {
    pub(crate) async fn event(&self, event_id: Uuid) -> Result<Option<EventHistory>, StoreError> {
        // Lookups of an id, here and below, neither sort nor limit: otherwise the planner prefers to read the log in
        // order.
        let event: Option<LogEntry> =
            sqlx::query_as(select_entries!("WHERE event_id = $1 AND source_event_id IS NULL"))
                .bind(event_id)
                .fetch_optional(&self.viewers)
                .await?;
        let Some(event) = event else { return Ok(None) };
        let notifications = sqlx::query_as(select_entries!("WHERE source_event_id = $1 ORDER BY id"))
            .bind(event_id)
            .fetch_all(&self.viewers)
            .await?;
        let withheld = sqlx::query_as(select_withheld!("WHERE source_event_id = $1 ORDER BY id"))
            .bind(event_id)
            .fetch_all(&self.viewers)
            .await?;
        let dead_letters = sqlx::query_as(select_dead_letters!("NULL::bytea", "WHERE event_id = $1 ORDER BY id"))
            .bind(event_id)
            .fetch_all(&self.viewers)
            .await?;
        let source = sqlx::query_scalar("SELECT source FROM belfry.outbox WHERE id = $1")
            .bind(event.position)
            .fetch_optional(&self.readers)
            .await?;
        Ok(Some(EventHistory { event, source: source.flatten(), notifications, withheld, dead_letters }))
    }

    pub(crate) async fn position_of(&self, event_id: Uuid) -> Result<Option<i64>, StoreError> {
        Ok(sqlx::query_scalar("SELECT id FROM belfry.outbox WHERE event_id = $1 AND source_event_id IS NULL")
            .bind(event_id)
            .fetch_optional(&self.viewers)
            .await?)
    }

    pub(crate) async fn positions_of(&self, event_ids: &[Uuid]) -> Result<HashMap<Uuid, i64>, StoreError> {
        let found: Vec<(Uuid, i64)> = sqlx::query_as(
            "SELECT event_id, id FROM belfry.outbox WHERE event_id = ANY($1) AND source_event_id IS NULL",
        )
        .bind(event_ids)
        .fetch_all(&self.readers)
        .await?;
        Ok(found.into_iter().collect())
    }

    pub(crate) async fn notification(&self, notification_id: Uuid) -> Result<Option<NotificationHistory>, StoreError> {
        let issued = sqlx::query_as(select_entries!("WHERE event_id = $1 AND source_event_id IS NOT NULL"))
            .bind(notification_id)
            .fetch_optional(&self.viewers)
            .await?;
        if let Some(entry) = issued {
            return Ok(Some(NotificationHistory::Issued(entry)));
        }
        let withheld: Option<Withheld> =
            sqlx::query_as(select_withheld!("WHERE notification_id = $1 ORDER BY id LIMIT 1"))
                .bind(notification_id)
                .fetch_optional(&self.viewers)
                .await?;
        Ok(withheld.map(NotificationHistory::Withheld))
    }

    pub(crate) async fn deliveries(&self, position: i64) -> Result<Vec<DeliveryRow>, StoreError> {
        // Sources hold leases in the same table. Their names contain a colon.
        let rows = sqlx::query(
            "SELECT r.sink, r.position >= $1, \
                    $1 <= coalesce((SELECT max(upto_id) FROM belfry.relay_checkpoint c \
                                     WHERE c.sink = r.sink AND c.epoch = 0), 0), \
                    (extract(epoch FROM coalesce(u.sent_at, (SELECT c.acked_at FROM belfry.relay_checkpoint c \
                       WHERE c.sink = r.sink AND c.upto_id >= $1 ORDER BY c.upto_id LIMIT 1))) * 1000)::bigint, \
                    u.withheld, p.error, (extract(epoch FROM d.discarded_at) * 1000)::bigint, d.discarded_by, d.reason \
               FROM belfry.relay r \
               LEFT JOIN belfry.parked p ON p.sink = r.sink AND p.id = $1 \
               LEFT JOIN belfry.unparked u ON u.sink = r.sink AND u.id = $1 \
               LEFT JOIN belfry.discarded d ON d.sink = r.sink AND d.id = $1 \
              WHERE strpos(r.sink, ':') = 0 ORDER BY r.sink",
        )
        .bind(position)
        .fetch_all(&self.viewers)
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
        Ok(sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM belfry.rollout WHERE release_id = $1)")
            .bind(release_id)
            .fetch_one(&self.viewers)
            .await?)
    }

    pub(crate) async fn activation(&self, release_id: i64, at_ms: i64) -> Result<Option<Activation>, StoreError> {
        let row = sqlx::query(
            "SELECT created_by, (extract(epoch FROM created_at) * 1000)::bigint, \
                    NOT EXISTS (SELECT FROM belfry.rollout AS after \
                                 WHERE after.release_id = $1 AND after.id >= now.id \
                                   AND after.created_at <= to_timestamp($2 / 1000.0)) \
               FROM belfry.rollout AS now \
              WHERE created_at <= to_timestamp($2 / 1000.0) AND NOT retired \
                AND (release_id = $1 OR candidate_id = $1 AND candidate_plan IS NOT NULL) \
                AND NOT EXISTS (SELECT FROM belfry.rollout AS before \
                                 WHERE before.id = (SELECT max(id) FROM belfry.rollout \
                                                     WHERE projector = now.projector AND id < now.id) AND NOT before.retired \
                                   AND (before.release_id = $1 OR before.candidate_id = $1 AND before.candidate_plan IS NOT NULL)) \
              ORDER BY id DESC LIMIT 1",
        )
        .bind(release_id)
        .bind(at_ms)
        .fetch_optional(&self.viewers)
        .await?;
        row.map(|row| Ok(Activation { by: row.try_get(0)?, at_ms: row.try_get(1)?, canary: row.try_get(2)? }))
            .transpose()
    }
}
