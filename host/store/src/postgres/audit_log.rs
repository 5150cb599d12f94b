//! The audit log.

use super::connections::Session;
use super::{Postgres, without_nul};
use crate::{Change, ChangeFilter, NewChange, StoreError};

impl Postgres {
    pub(crate) async fn note_change(&self, change: &NewChange, now_ms: i64) -> Result<(), StoreError> {
        note(&mut self.readers.lend().await?, change, now_ms).await
    }

    pub(crate) async fn changes(
        &self,
        filter: &ChangeFilter,
        before: i64,
        limit: u32,
    ) -> Result<Vec<Change>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT id, (extract(epoch FROM changed_at) * 1000)::bigint AS changed_at_ms, changed_by, action, subject, detail \
               FROM belfry.audit_log \
              WHERE id < $1 AND ($2::text IS NULL OR changed_by = $2) AND ($3::text IS NULL OR subject = $3) \
                AND ($4::text IS NULL OR action = $4 OR starts_with(action, $4 || '.')) \
                AND ($5::bigint IS NULL OR changed_at >= to_timestamp($5 / 1000.0)) \
              ORDER BY id DESC LIMIT $6",
        )
        .bind(before)
        .bind(filter.by.as_deref())
        .bind(filter.subject.as_deref())
        .bind(filter.action.as_deref())
        .bind(filter.since_ms)
        .bind(i64::from(limit))
        .fetch_all(&self.viewers)
        .await?)
    }
}

/// Records a change in the transaction that makes it.
pub(super) async fn note(connection: &mut Session, change: &NewChange, now_ms: i64) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO belfry.audit_log (changed_at, changed_by, action, subject, detail) \
         VALUES (to_timestamp($1 / 1000.0), $2, $3, $4, $5)",
    )
    .bind(now_ms)
    .bind(&change.by)
    .bind(change.action)
    .bind(without_nul(&change.subject))
    .bind(change.detail.to_string())
    .execute(connection)
    .await?;
    Ok(())
}
