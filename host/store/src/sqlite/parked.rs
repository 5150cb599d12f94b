//! Entries that a sink refused.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::Sqlite;
use super::changes::note;
use crate::{NewChange, NewParkedRequest, Parked, ParkedFilter, ParkedRequest, StoreError};

impl Sqlite {
    pub(crate) async fn parked(&self, filter: &ParkedFilter, limit: u32) -> Result<Vec<Parked>, StoreError> {
        let rows = sqlx::query(
            "SELECT sink, id, topic, event_key, error, parked_at_ms, request \
               FROM parked \
              WHERE ($1 IS NULL OR sink = $1) AND ($2 IS NULL OR topic = $2) AND ($3 IS NULL OR event_key = $3) \
                AND ($4 IS NULL OR id = $4) ORDER BY id, sink LIMIT $5",
        )
        .bind(filter.sink.as_deref())
        .bind(filter.topic.as_deref())
        .bind(filter.event_key.as_deref())
        .bind(filter.position)
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(parked_row).collect()
    }

    pub(crate) async fn blocked_keys(&self, sink: &str) -> Result<Vec<(String, String)>, StoreError> {
        Ok(sqlx::query_as("SELECT DISTINCT topic, event_key FROM parked WHERE sink = $1")
            .bind(sink)
            .fetch_all(&self.readers)
            .await?)
    }

    pub(crate) async fn request_parked(
        &self,
        filter: &ParkedFilter,
        request: &NewParkedRequest<'_>,
        now_ms: i64,
    ) -> Result<u64, StoreError> {
        let mut transaction = self.begin().await?;
        let done = sqlx::query(
            "UPDATE parked AS p SET request = $5, requested_by = $6, reason = $7 \
              WHERE EXISTS (SELECT 1 FROM parked m WHERE m.sink = p.sink AND m.topic = p.topic \
                AND m.event_key = p.event_key AND ($5 = 'unpark' OR m.id = p.id) \
                AND ($1 IS NULL OR m.sink = $1) AND ($2 IS NULL OR m.topic = $2) \
                AND ($3 IS NULL OR m.event_key = $3) AND ($4 IS NULL OR m.id = $4))",
        )
        .bind(filter.sink.as_deref())
        .bind(filter.topic.as_deref())
        .bind(filter.event_key.as_deref())
        .bind(filter.position)
        .bind(request.request.as_str())
        .bind(request.by)
        .bind(request.reason)
        .execute(&mut *transaction)
        .await?;
        sqlx::query("UPDATE parked_request SET asked = asked + 1").execute(&mut *transaction).await?;
        note(&mut transaction, &NewChange::parked(filter, request, done.rows_affected()), now_ms).await?;
        transaction.commit().await?;
        Ok(done.rows_affected())
    }

    pub(crate) async fn forget_parked(&self, sink: &str, epoch: i64, positions: &[i64]) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let held: Option<i64> = sqlx::query_scalar("SELECT epoch FROM relay WHERE sink = $1 AND epoch = $2")
            .bind(sink)
            .bind(epoch)
            .fetch_optional(&mut *transaction)
            .await?;
        if held.is_none() {
            return Ok(false);
        }
        for position in positions {
            sqlx::query("DELETE FROM parked WHERE sink = $1 AND id = $2")
                .bind(sink)
                .bind(position)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// What is asked for differently by now is left alone.
    pub(crate) async fn discard_parked(
        &self,
        sink: &str,
        epoch: i64,
        positions: &[i64],
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let held: Option<i64> = sqlx::query_scalar("SELECT epoch FROM relay WHERE sink = $1 AND epoch = $2")
            .bind(sink)
            .bind(epoch)
            .fetch_optional(&mut *transaction)
            .await?;
        if held.is_none() {
            return Ok(false);
        }
        for position in positions {
            sqlx::query(
                "INSERT INTO discarded (sink, id, topic, event_key, error, discarded_by, reason, discarded_at_ms) \
                 SELECT sink, id, topic, event_key, error, requested_by, reason, $3 FROM parked \
                  WHERE sink = $1 AND id = $2 AND request = 'discard' ON CONFLICT DO NOTHING",
            )
            .bind(sink)
            .bind(position)
            .bind(now_ms)
            .execute(&mut *transaction)
            .await?;
            sqlx::query("DELETE FROM parked WHERE sink = $1 AND id = $2 AND request = 'discard'")
                .bind(sink)
                .bind(position)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    pub(crate) async fn keep_parked(&self, sink: &str, positions: &[i64], error: &str) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        for position in positions {
            sqlx::query("UPDATE parked SET request = NULL, requested_by = NULL, reason = NULL, error = $3 WHERE sink = $1 AND id = $2")
                .bind(sink)
                .bind(position)
                .bind(error)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }
}

fn parked_row(row: &SqliteRow) -> Result<Parked, StoreError> {
    let request: Option<String> = row.try_get(6)?;
    Ok(Parked {
        sink: row.try_get(0)?,
        position: row.try_get(1)?,
        topic: row.try_get(2)?,
        event_key: row.try_get(3)?,
        error: row.try_get(4)?,
        parked_at_ms: row.try_get(5)?,
        request: request.as_deref().and_then(ParkedRequest::parse),
    })
}
