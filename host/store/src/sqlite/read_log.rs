//! Reading the log from a position.

use std::collections::HashMap;

use belfry_model::ContentHash;
use uuid::Uuid;

use super::Sqlite;
use crate::log_page::PAGE_BYTES;
use crate::{LogEntry, LogPage, NOTIFICATION_PAGE_BYTES, StoreError};

/// A query for rows of the log.
macro_rules! select_entries {
    ($condition:literal) => {
        concat!(
            "SELECT id, event_id, event_type, topic, event_key, payload, source_event_id, release_id, projections, \
             expires_at_ms, created_at_ms FROM outbox ",
            $condition
        )
    };
}
pub(super) use select_entries;

/// A query for the entries that relays send.
macro_rules! select_relay_entries {
    ($condition:literal) => {
        concat!(
            "SELECT id, event_id, topic, event_key, payload, headers, source_event_id IS NOT NULL AS is_notification, \
             expires_at_ms, created_at_ms FROM outbox ",
            $condition
        )
    };
}

impl Sqlite {
    pub(crate) async fn known(&self, event_ids: &[Uuid]) -> Result<HashMap<Uuid, ContentHash>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        super::commit::known(&mut connection, event_ids).await
    }

    pub(crate) async fn log_bounds(&self) -> Result<(i64, i64), StoreError> {
        let (lowest, highest): (Option<i64>, Option<i64>) = sqlx::query_as(
            "SELECT (SELECT min(id) FROM outbox), (SELECT seq FROM sqlite_sequence WHERE name = 'outbox')",
        )
        .fetch_one(&self.readers)
        .await?;
        let highest = highest.unwrap_or(0);
        let lowest = lowest.unwrap_or(if highest == 0 { 0 } else { highest + 1 });
        Ok((lowest, highest))
    }

    pub(crate) async fn read_relay(&self, after: i64, limit: u32) -> Result<LogPage, StoreError> {
        // Entries that are committed after this lookup are part of the next read.
        let (_, end) = self.log_bounds().await?;
        // SQLite determines a length without reading the value.
        let sizes: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT id, length(payload) + length(headers) FROM outbox \
              WHERE id > $1 AND topic IS NOT NULL ORDER BY id LIMIT $2",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        let entries =
            sqlx::query_as(select_relay_entries!("WHERE id > $1 AND id <= $2 AND topic IS NOT NULL ORDER BY id"))
                .bind(after)
                .bind(last_within(&sizes, PAGE_BYTES).unwrap_or(after))
                .fetch_all(&self.readers)
                .await?;
        Ok(LogPage::new(entries, (after, limit), end, String::new()))
    }

    pub(crate) async fn read_notifications(
        &self,
        after: i64,
        up_to: i64,
        limit: u32,
        recipient: Option<&str>,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let sizes: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT id, length(payload) FROM outbox \
              WHERE id > $1 AND id <= $4 AND source_event_id IS NOT NULL AND ($3 IS NULL OR event_key = $3) \
              ORDER BY id LIMIT $2",
        )
        .bind(after)
        .bind(limit)
        .bind(recipient)
        .bind(up_to)
        .fetch_all(&self.readers)
        .await?;
        let Some(last) = last_within(&sizes, NOTIFICATION_PAGE_BYTES) else { return Ok(Vec::new()) };
        Ok(sqlx::query_as(select_entries!(
            "WHERE id > $1 AND id <= $2 AND source_event_id IS NOT NULL AND ($3 IS NULL OR event_key = $3) ORDER BY id"
        ))
        .bind(after)
        .bind(last)
        .bind(recipient)
        .fetch_all(&self.readers)
        .await?)
    }

    pub(crate) async fn first_after(&self, position: i64) -> Result<Option<(i64, i64)>, StoreError> {
        let found = sqlx::query_as("SELECT id, created_at_ms FROM outbox WHERE id > $1 ORDER BY id LIMIT 1");
        Ok(found.bind(position).fetch_optional(&self.readers).await?)
    }

    pub(crate) async fn read_log(&self, after: i64, up_to: i64, limit: u32) -> Result<Vec<LogEntry>, StoreError> {
        Ok(sqlx::query_as(select_entries!("WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3"))
            .bind(after)
            .bind(up_to)
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await?)
    }

    pub(crate) async fn count_events(&self, after: i64, up_to: i64) -> Result<i64, StoreError> {
        let counted =
            sqlx::query_scalar("SELECT count(*) FROM outbox WHERE id > $1 AND id <= $2 AND source_event_id IS NULL");
        Ok(counted.bind(after).bind(up_to).fetch_one(&self.readers).await?)
    }
}

/// Returns the last row of a page: the first one at which the page reaches `bytes`, or else the last row of all.
pub(super) fn last_within(sizes: &[(i64, i64)], bytes: usize) -> Option<i64> {
    let mut left = bytes as i64;
    for (id, bytes) in sizes {
        left -= bytes;
        if left <= 0 {
            return Some(*id);
        }
    }
    sizes.last().map(|(id, _)| *id)
}
