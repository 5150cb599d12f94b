//! Retiring what is old.

use super::Postgres;
use crate::{Retired, StoreError};

impl Postgres {
    /// The log leaves range by range, whatever `limit` says; all else in chunks.
    pub(crate) async fn retire(
        &self,
        up_to: i64,
        log_before_ms: i64,
        inbox_before_ms: i64,
        limit: u32,
    ) -> Result<Retired, StoreError> {
        let positions: i64 = sqlx::query_scalar("SELECT belfry.retire_log($1, to_timestamp($2 / 1000.0))")
            .bind(up_to)
            .bind(log_before_ms)
            .fetch_one(&self.readers)
            .await?;
        let mut log = positions as u64;
        // By time of receipt, along the block range index; a row's place is only used within the statement.
        for statement in [
            "DELETE FROM belfry.withheld WHERE ctid = ANY (ARRAY (SELECT ctid FROM belfry.withheld \
             WHERE created_at < to_timestamp($1 / 1000.0) LIMIT $2))",
            "DELETE FROM belfry.dead_letter WHERE ctid = ANY (ARRAY (SELECT ctid FROM belfry.dead_letter \
             WHERE created_at < to_timestamp($1 / 1000.0) LIMIT $2))",
        ] {
            let done = sqlx::query(statement).bind(log_before_ms).bind(i64::from(limit)).execute(&self.readers).await?;
            log += done.rows_affected();
        }
        sqlx::query("DELETE FROM belfry.unparked WHERE sent_at < to_timestamp($1 / 1000.0)")
            .bind(log_before_ms)
            .execute(&self.readers)
            .await?;
        // What was seen of candidates quotes events, if masked.
        sqlx::query("DELETE FROM belfry.trial_tally WHERE updated_at < clock_timestamp() - interval '7 days'")
            .execute(&self.readers)
            .await?;
        let mut inbox = 0;
        for statement in [
            "DELETE FROM belfry.inbox WHERE ctid = ANY (ARRAY (SELECT ctid FROM belfry.inbox \
             WHERE received_at < to_timestamp($1 / 1000.0) LIMIT $2))",
            "DELETE FROM belfry.issued WHERE ctid = ANY (ARRAY (SELECT ctid FROM belfry.issued \
             WHERE received_at < to_timestamp($1 / 1000.0) LIMIT $2))",
        ] {
            let done =
                sqlx::query(statement).bind(inbox_before_ms).bind(i64::from(limit)).execute(&self.readers).await?;
            inbox += done.rows_affected();
        }
        self.extend_log().await?;
        Ok(Retired { log, inbox })
    }
}
