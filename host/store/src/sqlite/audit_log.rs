//! The audit log.

use sqlx::SqliteConnection;

use super::Sqlite;
use crate::{Change, ChangeFilter, NewChange, StoreError};

impl Sqlite {
    pub(crate) async fn note_change(&self, change: &NewChange, now_ms: i64) -> Result<(), StoreError> {
        note(&mut *self.writer.acquire().await?, change, now_ms).await
    }

    pub(crate) async fn changes(
        &self,
        filter: &ChangeFilter,
        before: i64,
        limit: u32,
    ) -> Result<Vec<Change>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT id, changed_at_ms, changed_by, action, subject, detail FROM audit_log \
              WHERE id < $1 AND ($2 IS NULL OR changed_by = $2) AND ($3 IS NULL OR subject = $3) \
                AND ($4 IS NULL OR action = $4 OR instr(action, $4 || '.') = 1) \
                AND ($5 IS NULL OR changed_at_ms >= $5) \
              ORDER BY id DESC LIMIT $6",
        )
        .bind(before)
        .bind(filter.by.as_deref())
        .bind(filter.subject.as_deref())
        .bind(filter.action.as_deref())
        .bind(filter.since_ms)
        .bind(limit)
        .fetch_all(&self.readers)
        .await?)
    }
}

/// Records a change in the transaction that makes it.
pub(super) async fn note(connection: &mut SqliteConnection, change: &NewChange, now_ms: i64) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO audit_log (changed_at_ms, changed_by, action, subject, detail) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(now_ms)
    .bind(&change.by)
    .bind(change.action)
    .bind(&change.subject)
    .bind(change.detail.to_string())
    .execute(connection)
    .await?;
    Ok(())
}
