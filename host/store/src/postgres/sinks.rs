//! Registered sinks. Sources hold leases in the same table. Their names contain a colon.

use std::time::Duration;

use sqlx::Row;

use super::Postgres;
use super::audit_log::note;
use crate::{NewChange, Sink, StoreError};

impl Postgres {
    pub(crate) async fn sinks(&self) -> Result<Vec<Sink>, StoreError> {
        let rows = sqlx::query(
            "SELECT r.sink, r.position, \
                    (SELECT extract(epoch FROM clock_timestamp() - o.created_at)::float8 FROM belfry.outbox o \
                      WHERE o.id > r.position ORDER BY o.id LIMIT 1), \
                    greatest((SELECT up_to FROM belfry.retired) - r.position, 0), \
                    (SELECT count(*) FROM belfry.parked p WHERE p.sink = r.sink) \
               FROM belfry.relay r WHERE strpos(r.sink, ':') = 0 ORDER BY r.sink",
        )
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                let unread_seconds: Option<f64> = row.try_get(2)?;
                Ok(Sink {
                    name: row.try_get(0)?,
                    position: row.try_get(1)?,
                    unread_for: unread_seconds.map(|seconds| Duration::from_secs_f64(seconds.max(0.0))),
                    missing: row.try_get(3)?,
                    parked: row.try_get(4)?,
                })
            })
            .collect()
    }

    /// Returns false and removes nothing if a replica has taken the lease in the meantime.
    pub(crate) async fn forget_sink(&self, name: &str, change: &NewChange, now_ms: i64) -> Result<bool, StoreError> {
        let mut transaction = self.readers.begin().await?;
        let free = sqlx::query(
            "DELETE FROM belfry.relay WHERE sink = $1 \
               AND (lease_until <= clock_timestamp() OR incarnation IS DISTINCT FROM belfry.incarnation())",
        )
        .bind(name)
        .execute(&mut *transaction)
        .await?;
        if free.rows_affected() == 0 {
            transaction.roll_back().await?;
            return Ok(false);
        }
        for statement in [
            "DELETE FROM belfry.relay_checkpoint WHERE sink = $1",
            "DELETE FROM belfry.parked WHERE sink = $1",
            "DELETE FROM belfry.held_topic WHERE sink = $1",
            "DELETE FROM belfry.unparked WHERE sink = $1",
        ] {
            sqlx::query(statement).bind(name).execute(&mut *transaction).await?;
        }
        note(&mut transaction, change, now_ms).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// A replica that serves the sink loses the lease, and the next holder begins at the new position.
    pub(crate) async fn skip_gap(
        &self,
        name: &str,
        position: i64,
        change: &NewChange,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut transaction = self.readers.begin().await?;
        sqlx::query(
            "UPDATE belfry.relay SET position = greatest(position, $2), epoch = epoch + 1, lease_until = '-infinity' \
              WHERE sink = $1",
        )
        .bind(name)
        .bind(position)
        .execute(&mut *transaction)
        .await?;
        note(&mut transaction, change, now_ms).await?;
        Ok(transaction.commit().await?)
    }
}
