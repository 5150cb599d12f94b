//! Which relay serves which sink, and how far the sink has been served. There is only one process, so its own clock is
//! used. Leases still distinguish a relay from the one that began after it.

use std::time::Duration;

use belfry_model::sabotaged;
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::Sqlite;
use crate::clock::now_ms;
use crate::submission::WITHHELD_OFF;
use crate::{Backlog, Beat, LEASE, Lease, LeaseState, MAX_BACKLOG, NewParked, ParkedScope, StoreError};

impl Sqlite {
    /// No other process takes leases here, so the owner's leases never expire, and a heartbeat writes nothing.
    pub(crate) async fn beat(&self, owner: Uuid) -> Result<Beat, StoreError> {
        let (end, rollout, pauses, parked_requests, access): (i64, i64, i64, i64, i64) = sqlx::query_as(
            "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'outbox'), 0), \
                    coalesce((SELECT max(id) FROM rollout), 0), coalesce((SELECT max(id) FROM pause), 0), (SELECT asked FROM parked_request), \
                    (SELECT count(*) + count(revoked_at_ms) FROM access_token)",
        )
        .fetch_one(&self.readers)
        .await?;
        let rows = sqlx::query(
            "SELECT sink, owner, epoch, position, lease_until_ms, \
                    coalesce((SELECT p.reason IS NOT NULL FROM pause p WHERE p.kind = 'sink' AND p.name = sink \
                               ORDER BY p.id DESC LIMIT 1), 0) FROM relay",
        )
        .fetch_all(&self.readers)
        .await?;
        let now_ms = now_ms();
        let lease = |row: &sqlx::sqlite::SqliteRow| {
            let (held_by, until_ms): (Option<Uuid>, i64) = (row.try_get(1)?, row.try_get(4)?);
            // Zero: the lease was released.
            let renewed = held_by == Some(owner) && until_ms != 0;
            let remaining_ms = if renewed { LEASE.as_millis() as i64 } else { until_ms.saturating_sub(now_ms).max(0) };
            Ok(LeaseState {
                name: row.try_get(0)?,
                owner: held_by,
                epoch: row.try_get(2)?,
                position: row.try_get(3)?,
                paused: row.try_get(5)?,
                remaining: Duration::from_millis(remaining_ms as u64),
            })
        };
        let leases = rows.iter().map(lease).collect::<Result<_, sqlx::Error>>()?;
        Ok(Beat { end, rollout, pauses, access, parked_requests, leases, incarnation: String::new() })
    }

    pub(crate) async fn register_sink(&self, sink: &str, position: i64) -> Result<bool, StoreError> {
        let done =
            sqlx::query("INSERT INTO relay (sink, position, began_after) VALUES ($1, $2, $2) ON CONFLICT DO NOTHING")
                .bind(sink)
                .bind(position)
                .execute(&self.writer)
                .await?;
        Ok(done.rows_affected() == 1)
    }

    /// The file lock ensures that the previous holder of the lease is gone, or is this process.
    pub(crate) async fn acquire_lease(&self, sink: &str, owner: Uuid) -> Result<Option<Lease>, StoreError> {
        let row = sqlx::query(
            "UPDATE relay SET owner = $2, epoch = epoch + 1, lease_until_ms = $3, off_since_ms = NULL WHERE sink = $1 \
             RETURNING epoch, position",
        )
        .bind(sink)
        .bind(owner)
        .bind(lease_until_ms())
        .fetch_optional(&self.writer)
        .await?;
        row.map(|row| Ok(Lease { epoch: row.try_get(0)?, position: row.try_get(1)?, incarnation: String::new() }))
            .transpose()
    }

    pub(crate) async fn checkpoint(
        &self,
        sink: &str,
        epoch: i64,
        position: i64,
        parked: &[NewParked],
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let held = sqlx::query(
            "UPDATE relay SET position = $3, lease_until_ms = $4 \
             WHERE sink = $1 AND ($5 OR (epoch = $2 AND position <= $3))",
        )
        .bind(sink)
        .bind(epoch)
        .bind(position)
        .bind(lease_until_ms())
        .bind(sabotaged("epoch"))
        .execute(&mut *transaction)
        .await?
        .rows_affected()
            == 1;
        if held {
            note_checkpoint(&mut transaction, sink, position).await?;
            for parked in parked {
                park(&mut transaction, sink, parked).await?;
            }
            transaction.commit().await?;
        }
        Ok(held)
    }

    pub(crate) async fn release_lease(&self, sink: &str, epoch: i64) -> Result<(), StoreError> {
        sqlx::query("UPDATE relay SET lease_until_ms = 0, off_since_ms = $3 WHERE sink = $1 AND epoch = $2")
            .bind(sink)
            .bind(epoch)
            .bind(now_ms())
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    pub(crate) async fn lend_lease(&self, sink: &str, epoch: i64) -> Result<(), StoreError> {
        sqlx::query("UPDATE relay SET lease_until_ms = 0 WHERE sink = $1 AND epoch = $2")
            .bind(sink)
            .bind(epoch)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    pub(crate) async fn backlog(&self, sink: &str) -> Result<Option<Backlog>, StoreError> {
        let row: Option<(i64, i64)> = sqlx::query_as(
            "SELECT (SELECT count(*) FROM (SELECT 1 FROM outbox o \
                                            WHERE o.id > r.position AND o.topic IS NOT NULL LIMIT $2)), r.off_since_ms \
               FROM relay r \
              WHERE r.sink = $1 AND r.off_since_ms IS NOT NULL \
                AND EXISTS (SELECT 1 FROM outbox o \
                             WHERE o.id > r.position AND o.topic IS NOT NULL AND o.created_at_ms > r.off_since_ms)",
        )
        .bind(sink)
        .bind(MAX_BACKLOG)
        .fetch_optional(&self.readers)
        .await?;
        Ok(row.map(|(entries, off_since_ms)| Backlog { entries, off_since_ms }))
    }

    pub(crate) async fn skip_backlog(&self, sink: &str) -> Result<u64, StoreError> {
        let mut transaction = self.begin().await?;
        let noted = sqlx::query(
            "INSERT INTO unparked (sink, id, sent_at_ms, withheld) \
             SELECT r.sink, o.id, $2, $3 FROM relay r JOIN outbox o ON o.id > r.position \
              WHERE r.sink = $1 AND r.off_since_ms IS NOT NULL AND o.topic IS NOT NULL ON CONFLICT DO NOTHING",
        )
        .bind(sink)
        .bind(now_ms())
        .bind(WITHHELD_OFF)
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "UPDATE relay SET epoch = epoch + 1, position = max(position, \
               coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'outbox'), 0)) \
              WHERE sink = $1 AND off_since_ms IS NOT NULL",
        )
        .bind(sink)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(noted.rows_affected())
    }
}

/// Records when all entries up to a position were acknowledged, in at most one row per second. Also deletes the rows of
/// entries that have left the log, so that no other code needs to.
async fn note_checkpoint(transaction: &mut SqliteConnection, sink: &str, position: i64) -> Result<(), StoreError> {
    let now_ms = now_ms();
    let moved = sqlx::query(
        "UPDATE relay_checkpoint SET upto_id = $2, acked_at_ms = $3 \
          WHERE sink = $1 AND upto_id = (SELECT max(upto_id) FROM relay_checkpoint WHERE sink = $1) \
            AND acked_at_ms / 1000 = $3 / 1000",
    )
    .bind(sink)
    .bind(position)
    .bind(now_ms)
    .execute(&mut *transaction)
    .await?;
    if moved.rows_affected() == 0 {
        sqlx::query(
            "INSERT INTO relay_checkpoint (sink, upto_id, acked_at_ms) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(sink)
        .bind(position)
        .bind(now_ms)
        .execute(&mut *transaction)
        .await?;
    }
    for statement in [
        "DELETE FROM relay_checkpoint WHERE sink = $1 AND upto_id < (SELECT min(id) FROM outbox)",
        "DELETE FROM unparked WHERE sink = $1 AND id < (SELECT min(id) FROM outbox)",
    ] {
        sqlx::query(statement).bind(sink).execute(&mut *transaction).await?;
    }
    Ok(())
}

async fn park(transaction: &mut SqliteConnection, sink: &str, parked: &NewParked) -> Result<(), StoreError> {
    let now_ms = now_ms();
    sqlx::query(
        "INSERT INTO parked (sink, topic, event_key, id, error, parked_at_ms, scope, event_id, payload, headers, \
           source_event_id, expires_at_ms, recorded_at_ms) \
         SELECT $1, $2, $3, $4, $5, $6, $7, o.event_id, o.payload, o.headers, o.source_event_id, o.expires_at_ms, \
           o.created_at_ms FROM (SELECT 1) LEFT JOIN outbox o ON o.id = $4 WHERE true ON CONFLICT DO NOTHING",
    )
    .bind(sink)
    .bind(parked.topic.as_str())
    .bind(parked.event_key.as_str())
    .bind(parked.position)
    .bind(parked.error.as_str())
    .bind(now_ms)
    .bind(parked.scope.as_str())
    .execute(&mut *transaction)
    .await?;
    if parked.scope == ParkedScope::Topic {
        sqlx::query(
            "INSERT INTO held_topic (sink, topic, reason, since_ms) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        )
        .bind(sink)
        .bind(parked.topic.as_str())
        .bind(parked.error.as_str())
        .bind(now_ms)
        .execute(transaction)
        .await?;
    }
    Ok(())
}

fn lease_until_ms() -> i64 {
    now_ms() + LEASE.as_millis() as i64
}
