//! Who serves which sink, and how far it has been served. The process is the only one, so its own clock counts; leases
//! still tell a relay from the one that began after it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use belfry_model::sabotaged;
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::Sqlite;
use crate::{Beat, LEASE, Lease, LeaseState, NewParked, StoreError};

impl Sqlite {
    /// Nobody else takes leases here, so what the owner holds never ends, and nothing is written to renew it.
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
            // Zero: it was given back.
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

    /// The file's lock sees to it that whoever held the lease before is gone, or is this process.
    pub(crate) async fn acquire_lease(&self, sink: &str, owner: Uuid) -> Result<Option<Lease>, StoreError> {
        let row = sqlx::query(
            "UPDATE relay SET owner = $2, epoch = epoch + 1, lease_until_ms = $3 WHERE sink = $1 RETURNING epoch, position",
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
            for parked in parked {
                park(&mut transaction, sink, parked).await?;
            }
            transaction.commit().await?;
        }
        Ok(held)
    }

    pub(crate) async fn release_lease(&self, sink: &str, epoch: i64) -> Result<(), StoreError> {
        sqlx::query("UPDATE relay SET lease_until_ms = 0 WHERE sink = $1 AND epoch = $2")
            .bind(sink)
            .bind(epoch)
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}

async fn park(transaction: &mut SqliteConnection, sink: &str, parked: &NewParked) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO parked (sink, topic, event_key, id, error, parked_at_ms) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT DO NOTHING",
    )
    .bind(sink)
    .bind(parked.topic.as_str())
    .bind(parked.event_key.as_str())
    .bind(parked.position)
    .bind(parked.error.as_str())
    .bind(now_ms())
    .execute(transaction)
    .await?;
    Ok(())
}

fn lease_until_ms() -> i64 {
    now_ms() + LEASE.as_millis() as i64
}

pub(super) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
