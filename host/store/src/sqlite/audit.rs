//! Reads for an audit, which runs while the service is stopped.

use sqlx::Row;
use uuid::Uuid;

use super::Sqlite;
use crate::{AuditEntry, SinkReach, StoreError};

impl Sqlite {
    pub(crate) async fn sink_reach(&self, sink: &str) -> Result<Option<SinkReach>, StoreError> {
        let position: Option<i64> = sqlx::query_scalar("SELECT position FROM relay WHERE sink = $1")
            .bind(sink)
            .fetch_optional(&self.readers)
            .await?;
        Ok(position.map(|position| SinkReach { began_at: 0, position }))
    }

    pub(crate) async fn first_position_since(&self, ms: i64) -> Result<Option<i64>, StoreError> {
        Ok(sqlx::query_scalar("SELECT id FROM outbox WHERE created_at_ms >= $1 ORDER BY id LIMIT 1")
            .bind(ms)
            .fetch_optional(&self.readers)
            .await?)
    }

    pub(crate) async fn read_audit(
        &self,
        sink: &str,
        after: i64,
        up_to: i64,
        limit: u32,
        now_ms: i64,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let rows = sqlx::query(
            "SELECT o.id, o.event_id, o.topic, o.event_key, o.source_event_id, \
                    EXISTS (SELECT 1 FROM parked p WHERE p.sink = $1 AND p.id = o.id), \
                    EXISTS (SELECT 1 FROM discarded d WHERE d.sink = $1 AND d.id = o.id), \
                    coalesce(o.expires_at_ms <= $5, 0), o.created_at_ms \
               FROM outbox o WHERE o.id > $2 AND o.id <= $3 AND o.topic IS NOT NULL ORDER BY o.id LIMIT $4",
        )
        .bind(sink)
        .bind(after)
        .bind(up_to)
        .bind(i64::from(limit))
        .bind(now_ms)
        .fetch_all(&self.readers)
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
        let mut found = Vec::new();
        for id in ids {
            let known: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM inbox WHERE event_id = $1) \
                     OR EXISTS (SELECT 1 FROM issued WHERE notification_id = $1)",
            )
            .bind(id)
            .fetch_one(&self.readers)
            .await?;
            if known {
                found.push(*id);
            }
        }
        Ok(found)
    }
}
