//! Entries that a sink refused, and topics that it does not accept.

use super::audit_log::note;
use super::{Postgres, without_nul};
use crate::log_page::PAGE_BYTES;
use crate::{
    HeldTopic, NewChange, NewParkedRequest, PARKED_BEHIND, Parked, ParkedEntry, ParkedFilter, ParkedLine, StoreError,
    WITHHELD_EXPIRED,
};

/// A change of parked entries that only the holder of the sink's lease may make.
macro_rules! held {
    ($($change:tt)*) => {
        concat!(
            "WITH held AS (SELECT sink FROM belfry.relay \
                            WHERE sink = $1 AND epoch = $2 AND lease_until > clock_timestamp() \
                              AND incarnation = belfry.incarnation() FOR UPDATE), ",
            $($change)*
        )
    };
}

/// Requests an unpark of the entries behind those in `gone`, with additional columns to set and additional conditions.
macro_rules! unpark_behind {
    ($set:literal, $condition:literal) => {
        concat!(
            "behind AS (UPDATE belfry.parked p SET request = 'unpark'",
            $set,
            " FROM gone \
                         WHERE p.sink = gone.sink AND md5(p.topic) = md5(gone.topic) AND p.topic = gone.topic \
                           AND md5(p.event_key) = md5(gone.event_key) AND p.event_key = gone.event_key \
                           AND p.event_key <> '' AND p.request IS NULL AND p.scope = 'key'",
            $condition,
            "), "
        )
    };
}

/// Parked entries with the content that their sink needs, limited by bytes like the pages of the log.
macro_rules! select_parked_entries {
    ($condition:literal) => {
        concat!(
            "SELECT * FROM (SELECT p.id, coalesce(p.event_id, o.event_id) AS event_id, p.topic, p.event_key, \
               coalesce(p.payload, o.payload) AS payload, coalesce(p.headers, o.headers) AS headers, \
               coalesce(p.source_event_id, o.source_event_id) IS NOT NULL AS is_notification, \
               (extract(epoch FROM coalesce(p.expires_at, o.expires_at)) * 1000)::bigint AS expires_at_ms, \
               (extract(epoch FROM coalesce(p.recorded_at, o.created_at)) * 1000)::bigint AS created_at_ms, \
               sum(octet_length(coalesce(p.payload, o.payload))) \
                 OVER (ORDER BY p.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before \
               FROM belfry.parked p \
               LEFT JOIN belfry.outbox o ON o.id = CASE WHEN p.payload IS NULL THEN p.id END ",
            $condition,
            " ORDER BY p.id LIMIT $3) bounded WHERE coalesce(bytes_before, 0) < $4 ORDER BY id"
        )
    };
}

impl Postgres {
    pub(crate) async fn parked(&self, filter: &ParkedFilter, limit: u32) -> Result<Vec<Parked>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT sink, id, topic, event_key, error, (extract(epoch FROM parked_at) * 1000)::bigint AS parked_at_ms, \
                    request, scope \
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
        .await?)
    }

    pub(crate) async fn count_parked(&self, sink: &str) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("SELECT count(*) FROM belfry.parked WHERE sink = $1")
            .bind(sink)
            .fetch_one(&self.readers)
            .await?)
    }

    pub(crate) async fn read_parked(
        &self,
        sink: &str,
        line: ParkedLine<'_>,
        limit: u32,
    ) -> Result<Vec<ParkedEntry>, StoreError> {
        let (topic, event_key, query) = match line {
            ParkedLine::Key(topic, event_key) => (
                topic,
                Some(event_key),
                select_parked_entries!(
                    "WHERE p.sink = $1 AND md5(p.topic) = md5($2) AND p.topic = $2 \
                       AND md5(p.event_key) = md5($5) AND p.event_key = $5 AND p.scope = 'key' \
                     AND (p.event_key <> '' OR p.request = 'unpark')"
                ),
            ),
            ParkedLine::Topic(topic) => (
                topic,
                None,
                select_parked_entries!(
                    "WHERE p.sink = $1 AND md5(p.topic) = md5($2) AND p.topic = $2 AND p.scope = 'topic'"
                ),
            ),
        };
        let mut query = sqlx::query_as(query).bind(sink).bind(topic).bind(i64::from(limit)).bind(PAGE_BYTES as i64);
        if let Some(event_key) = event_key {
            query = query.bind(event_key);
        }
        Ok(query.fetch_all(&self.readers).await?)
    }

    pub(crate) async fn blocked_keys(&self, sink: &str) -> Result<Vec<(String, String)>, StoreError> {
        Ok(sqlx::query_as("SELECT DISTINCT topic, event_key FROM belfry.parked WHERE sink = $1 AND scope = 'key'")
            .bind(sink)
            .fetch_all(&self.readers)
            .await?)
    }

    pub(crate) async fn held_topics(&self, sink: &str) -> Result<Vec<HeldTopic>, StoreError> {
        let rows: Vec<(String, String)> =
            sqlx::query_as("SELECT topic, reason FROM belfry.held_topic WHERE sink = $1 ORDER BY topic")
                .bind(sink)
                .fetch_all(&self.readers)
                .await?;
        Ok(rows.into_iter().map(|(topic, reason)| HeldTopic { topic, reason }).collect())
    }

    pub(crate) async fn keep_held(&self, sink: &str, topic: &str, reason: &str) -> Result<(), StoreError> {
        sqlx::query(
            "WITH asked AS (UPDATE belfry.parked SET request = NULL, requested_by = NULL, reason = NULL \
                             WHERE sink = $1 AND topic = $2 AND scope = 'topic' AND request = 'unpark') \
             UPDATE belfry.held_topic SET reason = $3 WHERE sink = $1 AND topic = $2 AND reason <> $3",
        )
        .bind(sink)
        .bind(topic)
        .bind(without_nul(reason))
        .execute(&self.readers)
        .await?;
        Ok(())
    }

    pub(crate) async fn wait_for_topic(
        &self,
        sink: &str,
        topic: &str,
        event_key: &str,
        reason: &str,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "WITH held AS (INSERT INTO belfry.held_topic (sink, topic, reason) VALUES ($1, $2, $4) ON CONFLICT DO NOTHING) \
             UPDATE belfry.parked SET scope = 'topic', error = $4, request = NULL, requested_by = NULL, reason = NULL \
              WHERE sink = $1 AND md5(topic) = md5($2) AND topic = $2 AND md5(event_key) = md5($3) AND event_key = $3 \
                AND request IS DISTINCT FROM 'discard' \
                AND (event_key <> '' OR request = 'unpark')",
        )
        .bind(sink)
        .bind(topic)
        .bind(event_key)
        .bind(without_nul(reason))
        .execute(&self.readers)
        .await?;
        Ok(())
    }

    pub(crate) async fn lift_hold(&self, sink: &str, epoch: i64, topic: &str) -> Result<bool, StoreError> {
        let held = sqlx::query(held!(
            "free AS (SELECT held.sink FROM held WHERE NOT EXISTS \
                       (SELECT FROM belfry.parked p \
                         WHERE p.sink = $1 AND md5(p.topic) = md5($3) AND p.topic = $3 AND p.scope = 'topic')), \
             lifted AS (DELETE FROM belfry.held_topic h USING free WHERE h.sink = free.sink AND h.topic = $3) \
             SELECT FROM free"
        ))
        .bind(sink)
        .bind(epoch)
        .bind(topic)
        .fetch_optional(&self.readers)
        .await?;
        Ok(held.is_some())
    }

    pub(crate) async fn keys_to_unpark(&self, sink: &str, limit: u32) -> Result<Vec<(String, String)>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT DISTINCT topic, event_key FROM belfry.parked \
              WHERE sink = $1 AND request = 'unpark' AND scope = 'key' LIMIT $2",
        )
        .bind(sink)
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await?)
    }

    pub(crate) async fn to_discard(&self, sink: &str, limit: u32) -> Result<Vec<i64>, StoreError> {
        Ok(sqlx::query_scalar("SELECT id FROM belfry.parked WHERE sink = $1 AND request = 'discard' LIMIT $2")
            .bind(sink)
            .bind(i64::from(limit))
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
        // A change of a sequence is visible at once, so the sequence advances only after the request itself is visible.
        sqlx::query("SELECT nextval('belfry.parked_request')").execute(&self.readers).await?;
        Ok(done.rows_affected())
    }

    pub(crate) async fn forget_parked(&self, sink: &str, epoch: i64, positions: &[i64]) -> Result<bool, StoreError> {
        let held = sqlx::query(held!(
            "gone AS (DELETE FROM belfry.parked p USING held WHERE p.sink = held.sink AND p.id = ANY($3) \
                      RETURNING p.sink, p.topic, p.event_key, p.id), ",
            unpark_behind!("", " AND p.id <> ALL($3)"),
            "noted AS (INSERT INTO belfry.unparked (sink, id) SELECT sink, id FROM gone ON CONFLICT DO NOTHING) \
             SELECT FROM held"
        ))
        .bind(sink)
        .bind(epoch)
        .bind(positions)
        .fetch_optional(&self.readers)
        .await?;
        Ok(held.is_some())
    }

    pub(crate) async fn note_expired(&self, sink: &str, epoch: i64, positions: &[i64]) -> Result<bool, StoreError> {
        let held = sqlx::query(held!(
            "gone AS (DELETE FROM belfry.parked p USING held WHERE p.sink = held.sink AND p.id = ANY($3) \
                      RETURNING p.sink, p.topic, p.event_key), ",
            unpark_behind!("", " AND p.id <> ALL($3)"),
            "noted AS (INSERT INTO belfry.unparked (sink, id, withheld) \
                       SELECT held.sink, i, $4 FROM held, unnest($3::bigint[]) i ON CONFLICT DO NOTHING) \
             SELECT FROM held"
        ))
        .bind(sink)
        .bind(epoch)
        .bind(positions)
        .bind(WITHHELD_EXPIRED)
        .fetch_optional(&self.readers)
        .await?;
        Ok(held.is_some())
    }

    /// Leaves entries unchanged whose request has changed in the meantime.
    pub(crate) async fn discard_parked(&self, sink: &str, epoch: i64, positions: &[i64]) -> Result<bool, StoreError> {
        let held = sqlx::query(held!(
            "gone AS (DELETE FROM belfry.parked p USING held \
                       WHERE p.sink = held.sink AND p.id = ANY($3) AND p.request = 'discard' RETURNING p.*), ",
            unpark_behind!(", requested_by = gone.requested_by", ""),
            "noted AS (INSERT INTO belfry.discarded (sink, id, topic, event_key, error, discarded_by, reason) \
                       SELECT sink, id, topic, event_key, error, requested_by, reason FROM gone \
                       ON CONFLICT DO NOTHING) \
             SELECT FROM held"
        ))
        .bind(sink)
        .bind(epoch)
        .bind(positions)
        .fetch_optional(&self.readers)
        .await?;
        Ok(held.is_some())
    }

    /// Entries without a key do not wait for each other.
    pub(crate) async fn keep_parked(&self, sink: &str, position: i64, error: &str) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE belfry.parked p SET scope = 'key', request = NULL, requested_by = NULL, reason = NULL, \
               error = CASE WHEN p.id = $2 THEN $3 WHEN p.scope = 'topic' THEN $4 ELSE p.error END \
               FROM belfry.parked c \
              WHERE c.sink = $1 AND c.id = $2 AND p.sink = c.sink AND md5(p.topic) = md5(c.topic) AND p.topic = c.topic \
                AND md5(p.event_key) = md5(c.event_key) AND p.event_key = c.event_key \
                AND (p.id = c.id OR p.event_key <> '' AND p.request IS DISTINCT FROM 'discard')",
        )
        .bind(sink)
        .bind(position)
        .bind(without_nul(error))
        .bind(PARKED_BEHIND)
        .execute(&self.readers)
        .await?;
        Ok(())
    }
}
