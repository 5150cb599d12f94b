//! Removal of rows that have exceeded their retention period.

use super::Sqlite;
use crate::{KeepFor, Retired, StoreError};

impl Sqlite {
    /// Rows are ordered by time, so each statement scans from the oldest and stops at the first one to keep.
    pub(crate) async fn retire(&self, keep: KeepFor, now_ms: i64, limit: u32) -> Result<Retired, StoreError> {
        let log_before_ms = now_ms.saturating_sub(keep.log.as_millis() as i64);
        let inbox_before_ms = now_ms.saturating_sub(keep.inbox.as_millis() as i64);
        let mut transaction = self.begin().await?;
        // Entries that a sink has not read are kept, regardless of their age. Sources hold leases in the same table.
        // Their names contain a colon.
        let mut log = sqlx::query(
            "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox ORDER BY id LIMIT $2) AND created_at_ms < $1 \
               AND id <= coalesce((SELECT min(position) FROM relay WHERE instr(sink, ':') = 0), 9223372036854775807)",
        )
        .bind(log_before_ms)
        .bind(limit)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        // Discarded entries leave together with their log entries.
        sqlx::query("DELETE FROM discarded WHERE NOT EXISTS (SELECT 1 FROM outbox o WHERE o.id = discarded.id)")
            .execute(&mut *transaction)
            .await?;
        for statement in [
            "DELETE FROM withheld WHERE id IN (SELECT id FROM withheld ORDER BY id LIMIT $2) AND created_at_ms < $1",
            "DELETE FROM dead_letter WHERE id IN (SELECT id FROM dead_letter ORDER BY id LIMIT $2) AND created_at_ms < $1",
        ] {
            let done = sqlx::query(statement).bind(log_before_ms).bind(limit).execute(&mut *transaction).await?;
            log += done.rows_affected();
        }
        // The observations of candidates quote events, though masked.
        sqlx::query("DELETE FROM trial_tally WHERE updated_at_ms < (unixepoch() - 7 * 86400) * 1000")
            .execute(&mut *transaction)
            .await?;
        let mut inbox = 0;
        for statement in [
            "DELETE FROM inbox WHERE position IN (SELECT position FROM inbox ORDER BY position LIMIT $2) AND received_at_ms < $1",
            "DELETE FROM issued WHERE position IN (SELECT position FROM issued ORDER BY position LIMIT $2) AND received_at_ms < $1",
        ] {
            let done = sqlx::query(statement).bind(inbox_before_ms).bind(limit).execute(&mut *transaction).await?;
            inbox += done.rows_affected();
        }
        transaction.commit().await?;
        Ok(Retired { log, inbox })
    }
}
