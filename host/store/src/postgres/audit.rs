//! Reads for an audit. They use only indexes and ranges, because an audit runs alongside the service.

use sqlx::Row;
use uuid::Uuid;

use super::Postgres;
use crate::{AuditEntry, SinkReach, StoreError};

impl Postgres {
    pub(crate) async fn sink_reach(&self, sink: &str) -> Result<Option<SinkReach>, StoreError> {
        let row = sqlx::query(
            "SELECT r.position, coalesce((SELECT max(upto_id) FROM belfry.relay_checkpoint c \
                                           WHERE c.sink = r.sink AND c.epoch = 0), 0) \
               FROM belfry.relay r WHERE r.sink = $1",
        )
        .bind(sink)
        .fetch_optional(&self.viewers)
        .await?;
        row.map(|row| Ok(SinkReach { position: row.try_get(0)?, began_at: row.try_get(1)? })).transpose()
    }

    pub(crate) async fn first_position_since(&self, ms: i64) -> Result<Option<i64>, StoreError> {
        Ok(sqlx::query_scalar(
            "SELECT id FROM belfry.outbox WHERE created_at >= to_timestamp($1 / 1000.0) ORDER BY id LIMIT 1",
        )
        .bind(ms)
        .fetch_optional(&self.viewers)
        .await?)
    }

    pub(crate) async fn read_audit(
        &self,
        sink: &str,
        after: i64,
        up_to: i64,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let rows = sqlx::query(
            "SELECT o.id, o.event_id, o.topic, o.event_key, o.source_event_id, \
                    EXISTS (SELECT FROM belfry.parked p WHERE p.sink = $1 AND p.id = o.id), \
                    EXISTS (SELECT FROM belfry.discarded d WHERE d.sink = $1 AND d.id = o.id), \
                    CASE WHEN o.expires_at IS NULL THEN false \
                         ELSE EXISTS (SELECT FROM belfry.unparked u \
                                       WHERE u.sink = $1 AND u.id = o.id AND u.withheld IS NOT NULL) \
                           OR o.expires_at <= coalesce((SELECT c.acked_at FROM belfry.relay_checkpoint c \
                           WHERE c.sink = $1 AND c.upto_id >= o.id ORDER BY c.upto_id LIMIT 1), clock_timestamp()) END, \
                    (extract(epoch FROM o.created_at) * 1000)::bigint \
               FROM belfry.outbox o WHERE o.id > $2 AND o.id <= $3 AND o.topic IS NOT NULL ORDER BY o.id LIMIT $4",
        )
        .bind(sink)
        .bind(after)
        .bind(up_to)
        .bind(i64::from(limit))
        .fetch_all(&self.viewers)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(AuditEntry {
                    position: row.try_get(0)?,
                    event_id: row.try_get(1)?,
                    topic: row.try_get(2)?,
                    event_key: row.try_get(3)?,
                    source_event_id: row.try_get(4)?,
                    parked: row.try_get(5)?,
                    discarded: row.try_get(6)?,
                    expired: row.try_get(7)?,
                    created_at_ms: row.try_get(8)?,
                })
            })
            .collect()
    }

    pub(crate) async fn taken_or_issued(&self, ids: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
        Ok(sqlx::query_scalar(
            "SELECT event_id FROM belfry.outbox WHERE event_id = ANY($1) \
             UNION SELECT event_id FROM belfry.inbox WHERE event_id = ANY($1) \
             UNION SELECT notification_id FROM belfry.issued WHERE notification_id = ANY($1)",
        )
        .bind(ids)
        .fetch_all(&self.viewers)
        .await?)
    }
}
