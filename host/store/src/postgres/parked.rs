//! Entries that a sink refused.

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::Postgres;
use super::changes::note;
use crate::{NewChange, NewParkedRequest, Parked, ParkedFilter, ParkedRequest, StoreError};

impl Postgres {
    pub(crate) async fn parked(&self, filter: &ParkedFilter, limit: u32) -> Result<Vec<Parked>, StoreError> {
        let rows = sqlx::query(
            "SELECT sink, id, topic, event_key, error, (extract(epoch FROM parked_at) * 1000)::bigint, request \
               FROM belfry.parked \
              WHERE ($1 IS NULL OR sink = $1) AND ($2 IS NULL OR topic = $2) AND ($3 IS NULL OR event_key = $3) \
                AND ($4 IS NULL OR id = $4) ORDER BY id, sink LIMIT $5",
        )
        .bind(filter.sink.as_deref())
        .bind(filter.topic.as_deref())
        .bind(filter.event_key.as_deref())
        .bind(filter.position)
        .bind(i64::from(limit))
        .fetch_all(&self.viewers)
        .await?;
        rows.iter().map(parked_row).collect()
    }

    pub(crate) async fn blocked_keys(&self, sink: &str) -> Result<Vec<(String, String)>, StoreError> {
        Ok(sqlx::query_as("SELECT DISTINCT topic, event_key FROM belfry.parked WHERE sink = $1")
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
        let mut transaction = self.readers.begin().await?;
        let done = sqlx::query(
            "UPDATE belfry.parked AS p SET request = $5, requested_by = $6, reason = $7 \
              WHERE EXISTS (SELECT FROM belfry.parked m WHERE m.sink = p.sink AND m.topic = p.topic \
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
        note(&mut transaction, &NewChange::parked(filter, request, done.rows_affected()), now_ms).await?;
        transaction.commit().await?;
        // A sequence shows at once; it is moved only when what it tells of can be seen.
        sqlx::query("SELECT nextval('belfry.parked_request')").execute(&self.readers).await?;
        Ok(done.rows_affected())
    }

    pub(crate) async fn forget_parked(&self, sink: &str, epoch: i64, positions: &[i64]) -> Result<bool, StoreError> {
        let held = sqlx::query(
            "WITH held AS (SELECT sink FROM belfry.relay \
                            WHERE sink = $1 AND epoch = $2 AND lease_until > clock_timestamp() \
                              AND incarnation = belfry.incarnation() FOR UPDATE), \
                  gone AS (DELETE FROM belfry.parked p USING held WHERE p.sink = held.sink AND p.id = ANY($3) \
                           RETURNING p.sink, p.id), \
                  noted AS (INSERT INTO belfry.unparked (sink, id) SELECT sink, id FROM gone ON CONFLICT DO NOTHING) \
             SELECT FROM held",
        )
        .bind(sink)
        .bind(epoch)
        .bind(positions)
        .fetch_optional(&self.readers)
        .await?;
        Ok(held.is_some())
    }

    /// What is asked for differently by now is left alone.
    pub(crate) async fn discard_parked(&self, sink: &str, epoch: i64, positions: &[i64]) -> Result<bool, StoreError> {
        let held = sqlx::query(
            "WITH held AS (SELECT sink FROM belfry.relay \
                            WHERE sink = $1 AND epoch = $2 AND lease_until > clock_timestamp() \
                              AND incarnation = belfry.incarnation() FOR UPDATE), \
                  gone AS (DELETE FROM belfry.parked p USING held \
                            WHERE p.sink = held.sink AND p.id = ANY($3) AND p.request = 'discard' RETURNING p.*), \
                  noted AS (INSERT INTO belfry.discarded (sink, id, topic, event_key, error, discarded_by, reason) \
                            SELECT sink, id, topic, event_key, error, requested_by, reason FROM gone \
                            ON CONFLICT DO NOTHING) \
             SELECT FROM held",
        )
        .bind(sink)
        .bind(epoch)
        .bind(positions)
        .fetch_optional(&self.readers)
        .await?;
        Ok(held.is_some())
    }

    pub(crate) async fn keep_parked(&self, sink: &str, positions: &[i64], error: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE belfry.parked SET request = NULL, requested_by = NULL, reason = NULL, error = $3 WHERE sink = $1 AND id = ANY($2)")
            .bind(sink)
            .bind(positions)
            .bind(super::without_nul(error))
            .execute(&self.readers)
            .await?;
        Ok(())
    }
}

fn parked_row(row: &PgRow) -> Result<Parked, StoreError> {
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
