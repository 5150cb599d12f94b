//! Retention by the server's clock. `now()` is constant throughout a statement, so that an index can be used.

use super::Postgres;
use crate::{KeepFor, Retired, StoreError};

impl Postgres {
    /// Retires the log range by range, regardless of `limit`, and all other rows in chunks.
    pub(crate) async fn retire(&self, keep: KeepFor, limit: u32) -> Result<Retired, StoreError> {
        let positions: i64 =
            sqlx::query_scalar("SELECT belfry.retire_log(9223372036854775807, now() - make_interval(secs => $1))")
                .bind(keep.log.as_secs_f64())
                .fetch_one(&self.readers)
                .await?;
        let mut log = positions as u64;
        sqlx::query("DELETE FROM belfry.relay_checkpoint WHERE upto_id <= (SELECT up_to FROM belfry.retired)")
            .execute(&self.readers)
            .await?;
        // Rows are ordered by time, so each statement scans from the oldest and stops at the first one to keep.
        for statement in [
            "DELETE FROM belfry.withheld WHERE id IN (SELECT id FROM belfry.withheld ORDER BY id LIMIT $2) \
               AND created_at < now() - make_interval(secs => $1)",
            "DELETE FROM belfry.dead_letter WHERE id IN (SELECT id FROM belfry.dead_letter ORDER BY id LIMIT $2) \
               AND created_at < now() - make_interval(secs => $1)",
        ] {
            log += self.delete_old(statement, keep.log.as_secs_f64(), limit).await?;
        }
        sqlx::query("DELETE FROM belfry.unparked WHERE sent_at < now() - make_interval(secs => $1)")
            .bind(keep.log.as_secs_f64())
            .execute(&self.readers)
            .await?;
        // The observations of candidates quote events, though masked.
        sqlx::query("DELETE FROM belfry.trial_tally WHERE updated_at < now() - interval '7 days'")
            .execute(&self.readers)
            .await?;
        // Replicas that are gone; one that returns registers again.
        sqlx::query(
            "DELETE FROM belfry.relay WHERE starts_with(sink, 'replica:') \
               AND lease_until < now() - interval '1 day' AND lease_until > '-infinity'",
        )
        .execute(&self.readers)
        .await?;
        let mut inbox = 0;
        for statement in [
            "DELETE FROM belfry.inbox WHERE event_id IN (SELECT event_id FROM belfry.inbox \
               WHERE received_at < now() - make_interval(secs => $1) ORDER BY received_at LIMIT $2)",
            "DELETE FROM belfry.issued WHERE notification_id IN (SELECT notification_id FROM belfry.issued \
               WHERE received_at < now() - make_interval(secs => $1) ORDER BY received_at LIMIT $2)",
        ] {
            inbox += self.delete_old(statement, keep.inbox.as_secs_f64(), limit).await?;
        }
        self.extend_log().await?;
        Ok(Retired { log, inbox })
    }

    async fn delete_old(&self, statement: &'static str, seconds: f64, limit: u32) -> Result<u64, StoreError> {
        let done = sqlx::query(statement).bind(seconds).bind(i64::from(limit)).execute(&self.readers).await?;
        Ok(done.rows_affected())
    }
}
