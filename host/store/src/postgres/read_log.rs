//! Reading the log from a position.

use std::collections::HashMap;

use belfry_model::{ContentHash, sabotaged};
use sqlx::{FromRow, Row};
use uuid::Uuid;

use super::Postgres;
use crate::log_page::PAGE_BYTES;
use crate::{LogEntry, LogPage, NOTIFICATION_PAGE_BYTES, RelayEntry, StoreError};

/// A query for rows of the log.
macro_rules! select_entries {
    ($condition:literal) => {
        concat!(
            "SELECT id, event_id, event_type, topic, event_key, payload, source_event_id, release_id, projections, \
             (extract(epoch FROM expires_at) * 1000)::bigint AS expires_at_ms, \
             (extract(epoch FROM created_at) * 1000)::bigint AS created_at_ms \
             FROM belfry.outbox ",
            $condition
        )
    };
}
pub(super) use select_entries;

/// A read of the log, limited by the bytes of its rows: rows after the one at which they reach `$3` bytes are left out,
/// and their large values are not even fetched.
macro_rules! bounded {
    ($columns:literal, $bytes:literal, $condition:literal) => {
        concat!(
            "SELECT * FROM (SELECT ",
            $columns,
            ", sum(",
            $bytes,
            ") \
                OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before FROM belfry.outbox ",
            $condition,
            ") bounded WHERE coalesce(bytes_before, 0) < $3 ORDER BY id"
        )
    };
}

impl Postgres {
    pub(crate) async fn known(&self, event_ids: &[Uuid]) -> Result<HashMap<Uuid, ContentHash>, StoreError> {
        super::commit::known(&mut self.readers.lend().await?, event_ids).await
    }

    pub(crate) async fn log_bounds(&self) -> Result<(i64, i64), StoreError> {
        let (lowest, highest, retired): (Option<i64>, Option<i64>, i64) = sqlx::query_as(
            "SELECT (SELECT id FROM belfry.outbox ORDER BY id LIMIT 1), \
                    (SELECT id FROM belfry.outbox ORDER BY id DESC LIMIT 1), up_to FROM belfry.retired",
        )
        .fetch_one(&self.readers)
        .await?;
        let highest = highest.unwrap_or(retired);
        let lowest = lowest.unwrap_or(if highest == 0 { 0 } else { highest + 1 });
        Ok((lowest, highest))
    }

    pub(crate) async fn read_relay(&self, after: i64, limit: u32) -> Result<LogPage, StoreError> {
        // Entries, end and incarnation come from one snapshot: after a standby takes over, a reader must not mistake
        // what it remembers of the log for what this one holds. A subquery is evaluated once, a function for each row.
        let rows = sqlx::query(concat!(
            "SELECT entry.*, (SELECT belfry.incarnation()) AS incarnation, \
               coalesce((SELECT id FROM belfry.outbox ORDER BY id DESC LIMIT 1), (SELECT up_to FROM belfry.retired)) \
               AS log_end \
             FROM (SELECT) one LEFT JOIN LATERAL (",
            bounded!(
                "id, event_id, topic, event_key, payload, headers, source_event_id IS NOT NULL AS is_notification, \
                 (extract(epoch FROM expires_at) * 1000)::bigint AS expires_at_ms, \
                 (extract(epoch FROM created_at) * 1000)::bigint AS created_at_ms",
                "octet_length(payload) + octet_length(headers)",
                "WHERE id > $1 AND topic IS NOT NULL ORDER BY id LIMIT $2"
            ),
            ") entry ON true ORDER BY entry.id"
        ))
        .bind(after)
        .bind(i64::from(limit))
        .bind(if sabotaged("page-bytes") { i64::MAX } else { PAGE_BYTES as i64 })
        .fetch_all(&self.readers)
        .await?;
        let Some(first) = rows.first() else { return Err(StoreError::Failed("a read returned no row".into())) };
        let (incarnation, end): (String, i64) = (first.try_get("incarnation")?, first.try_get("log_end")?);
        let is_empty = first.try_get::<Option<i64>, _>("id")?.is_none();
        let entries =
            if is_empty { Vec::new() } else { rows.iter().map(RelayEntry::from_row).collect::<Result<_, _>>()? };
        Ok(LogPage::new(entries, (after, limit), end, incarnation))
    }

    pub(crate) async fn read_notifications(
        &self,
        after: i64,
        up_to: i64,
        limit: u32,
        recipient: Option<&str>,
    ) -> Result<Vec<LogEntry>, StoreError> {
        Ok(sqlx::query_as(bounded!(
            "id, event_id, event_type, topic, event_key, payload, source_event_id, release_id, projections, \
             (extract(epoch FROM expires_at) * 1000)::bigint AS expires_at_ms, \
             (extract(epoch FROM created_at) * 1000)::bigint AS created_at_ms",
            "octet_length(payload)",
            "WHERE id > $1 AND id <= $4 AND source_event_id IS NOT NULL AND ($5::text IS NULL OR event_key = $5) \
             ORDER BY id LIMIT $2"
        ))
        .bind(after)
        .bind(i64::from(limit))
        .bind(NOTIFICATION_PAGE_BYTES as i64)
        .bind(up_to)
        .bind(recipient)
        .fetch_all(&self.viewers)
        .await?)
    }

    pub(crate) async fn first_after(&self, position: i64) -> Result<Option<(i64, i64)>, StoreError> {
        let found = sqlx::query_as(
            "SELECT id, (extract(epoch FROM created_at) * 1000)::bigint FROM belfry.outbox WHERE id > $1 ORDER BY id LIMIT 1",
        );
        Ok(found.bind(position).fetch_optional(&self.viewers).await?)
    }

    pub(crate) async fn read_log(&self, after: i64, up_to: i64, limit: u32) -> Result<Vec<LogEntry>, StoreError> {
        Ok(sqlx::query_as(select_entries!("WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3"))
            .bind(after)
            .bind(up_to)
            .bind(i64::from(limit))
            .fetch_all(&self.viewers)
            .await?)
    }

    pub(crate) async fn count_events(&self, after: i64, up_to: i64) -> Result<i64, StoreError> {
        let counted = sqlx::query_scalar(
            "SELECT count(*) FROM belfry.outbox WHERE id > $1 AND id <= $2 AND source_event_id IS NULL",
        );
        Ok(counted.bind(after).bind(up_to).fetch_one(&self.viewers).await?)
    }
}
