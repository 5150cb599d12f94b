//! Entries that a sink refused, and topics that it does not accept.

use sqlx::SqliteConnection;

use super::Sqlite;
use super::audit_log::note;
use super::read_log::last_within;
use crate::clock::now_ms;
use crate::log_page::PAGE_BYTES;
use crate::{
    HeldTopic, NewChange, NewParkedRequest, PARKED_BEHIND, Parked, ParkedEntry, ParkedFilter, ParkedLine, StoreError,
    WITHHELD_EXPIRED,
};

impl Sqlite {
    pub(crate) async fn parked(&self, filter: &ParkedFilter, limit: u32) -> Result<Vec<Parked>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT sink, id, topic, event_key, error, parked_at_ms, request, scope \
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
        .await?)
    }

    pub(crate) async fn count_parked(&self, sink: &str) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("SELECT count(*) FROM parked WHERE sink = $1")
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
        let (topic, event_key) = match line {
            ParkedLine::Key(topic, event_key) => (topic, Some(event_key)),
            ParkedLine::Topic(topic) => (topic, None),
        };
        let sizes = match event_key {
            Some(_) => {
                "SELECT id, coalesce(length(payload), 0) FROM parked \
                  WHERE sink = $1 AND topic = $2 AND event_key = $3 AND scope = 'key' \
                    AND (event_key <> '' OR request = 'unpark') ORDER BY id LIMIT $4"
            }
            None => {
                "SELECT id, coalesce(length(payload), 0) FROM parked \
                  WHERE sink = $1 AND topic = $2 AND scope = 'topic' AND $3 IS NULL ORDER BY id LIMIT $4"
            }
        };
        let sizes: Vec<(i64, i64)> = sqlx::query_as(sizes)
            .bind(sink)
            .bind(topic)
            .bind(event_key)
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await?;
        let last = last_within(&sizes, PAGE_BYTES);
        let mut entries = Vec::with_capacity(sizes.len());
        for (id, _) in sizes.into_iter().take_while(|(id, _)| last.is_some_and(|last| *id <= last)) {
            let entry: Option<ParkedEntry> = sqlx::query_as(
                "SELECT p.id, coalesce(p.event_id, o.event_id) AS event_id, p.topic, p.event_key, \
                        coalesce(p.payload, o.payload) AS payload, coalesce(p.headers, o.headers) AS headers, \
                        coalesce(p.source_event_id, o.source_event_id) IS NOT NULL AS is_notification, \
                        coalesce(p.expires_at_ms, o.expires_at_ms) AS expires_at_ms, \
                        coalesce(p.recorded_at_ms, o.created_at_ms) AS created_at_ms \
                   FROM parked p LEFT JOIN outbox o ON p.payload IS NULL AND o.id = p.id \
                  WHERE p.id = $1 AND p.sink = $2",
            )
            .bind(id)
            .bind(sink)
            .fetch_optional(&self.readers)
            .await?;
            entries.extend(entry);
        }
        Ok(entries)
    }

    pub(crate) async fn blocked_keys(&self, sink: &str) -> Result<Vec<(String, String)>, StoreError> {
        Ok(sqlx::query_as("SELECT DISTINCT topic, event_key FROM parked WHERE sink = $1 AND scope = 'key'")
            .bind(sink)
            .fetch_all(&self.readers)
            .await?)
    }

    pub(crate) async fn held_topics(&self, sink: &str) -> Result<Vec<HeldTopic>, StoreError> {
        let rows: Vec<(String, String)> =
            sqlx::query_as("SELECT topic, reason FROM held_topic WHERE sink = $1 ORDER BY topic")
                .bind(sink)
                .fetch_all(&self.readers)
                .await?;
        Ok(rows.into_iter().map(|(topic, reason)| HeldTopic { topic, reason }).collect())
    }

    pub(crate) async fn keep_held(&self, sink: &str, topic: &str, reason: &str) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query(
            "UPDATE parked SET request = NULL, requested_by = NULL, reason = NULL \
              WHERE sink = $1 AND topic = $2 AND scope = 'topic' AND request = 'unpark'",
        )
        .bind(sink)
        .bind(topic)
        .execute(&mut *transaction)
        .await?;
        sqlx::query("UPDATE held_topic SET reason = $3 WHERE sink = $1 AND topic = $2")
            .bind(sink)
            .bind(topic)
            .bind(reason)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }

    pub(crate) async fn wait_for_topic(
        &self,
        sink: &str,
        topic: &str,
        event_key: &str,
        reason: &str,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query(
            "INSERT INTO held_topic (sink, topic, reason, since_ms) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        )
        .bind(sink)
        .bind(topic)
        .bind(reason)
        .bind(now_ms())
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "UPDATE parked SET scope = 'topic', error = $4, request = NULL, requested_by = NULL, reason = NULL \
              WHERE sink = $1 AND topic = $2 AND event_key = $3 AND request IS NOT 'discard' \
                AND (event_key <> '' OR request = 'unpark')",
        )
        .bind(sink)
        .bind(topic)
        .bind(event_key)
        .bind(reason)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await
    }

    pub(crate) async fn lift_hold(&self, sink: &str, epoch: i64, topic: &str) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        if !is_held(&mut transaction, sink, epoch).await? {
            return Ok(false);
        }
        let waiting: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM parked WHERE sink = $1 AND topic = $2 AND scope = 'topic')",
        )
        .bind(sink)
        .bind(topic)
        .fetch_one(&mut *transaction)
        .await?;
        if waiting {
            return Ok(false);
        }
        sqlx::query("DELETE FROM held_topic WHERE sink = $1 AND topic = $2")
            .bind(sink)
            .bind(topic)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(true)
    }

    pub(crate) async fn keys_to_unpark(&self, sink: &str, limit: u32) -> Result<Vec<(String, String)>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT DISTINCT topic, event_key FROM parked \
              WHERE sink = $1 AND request = 'unpark' AND scope = 'key' LIMIT $2",
        )
        .bind(sink)
        .bind(limit)
        .fetch_all(&self.readers)
        .await?)
    }

    pub(crate) async fn to_discard(&self, sink: &str, limit: u32) -> Result<Vec<i64>, StoreError> {
        Ok(sqlx::query_scalar("SELECT id FROM parked WHERE sink = $1 AND request = 'discard' LIMIT $2")
            .bind(sink)
            .bind(limit)
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
        if !is_held(&mut transaction, sink, epoch).await? {
            return Ok(false);
        }
        for position in positions {
            let gone: Option<(String, String)> =
                sqlx::query_as("DELETE FROM parked WHERE sink = $1 AND id = $2 RETURNING topic, event_key")
                    .bind(sink)
                    .bind(position)
                    .fetch_optional(&mut *transaction)
                    .await?;
            if let Some((topic, event_key)) = gone {
                settle(&mut transaction, sink, *position, None).await?;
                free(&mut transaction, sink, &topic, &event_key, None).await?;
            }
        }
        transaction.commit().await?;
        Ok(true)
    }

    pub(crate) async fn note_expired(&self, sink: &str, epoch: i64, positions: &[i64]) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        if !is_held(&mut transaction, sink, epoch).await? {
            return Ok(false);
        }
        for position in positions {
            let gone: Option<(String, String)> =
                sqlx::query_as("DELETE FROM parked WHERE sink = $1 AND id = $2 RETURNING topic, event_key")
                    .bind(sink)
                    .bind(position)
                    .fetch_optional(&mut *transaction)
                    .await?;
            settle(&mut transaction, sink, *position, Some(WITHHELD_EXPIRED)).await?;
            if let Some((topic, event_key)) = gone {
                free(&mut transaction, sink, &topic, &event_key, None).await?;
            }
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Leaves entries unchanged whose request has changed in the meantime.
    pub(crate) async fn discard_parked(
        &self,
        sink: &str,
        epoch: i64,
        positions: &[i64],
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        if !is_held(&mut transaction, sink, epoch).await? {
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
            let gone: Option<(String, String, Option<String>)> = sqlx::query_as(
                "DELETE FROM parked WHERE sink = $1 AND id = $2 AND request = 'discard' \
                 RETURNING topic, event_key, requested_by",
            )
            .bind(sink)
            .bind(position)
            .fetch_optional(&mut *transaction)
            .await?;
            let Some((topic, event_key, by)) = gone else { continue };
            free(&mut transaction, sink, &topic, &event_key, by.as_deref()).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Entries without a key do not wait for each other.
    pub(crate) async fn keep_parked(&self, sink: &str, position: i64, error: &str) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE parked AS p SET scope = 'key', request = NULL, requested_by = NULL, reason = NULL, \
               error = CASE WHEN p.id = $2 THEN $3 WHEN p.scope = 'topic' THEN $4 ELSE p.error END \
               FROM parked c \
              WHERE c.sink = $1 AND c.id = $2 AND p.sink = c.sink AND p.topic = c.topic AND p.event_key = c.event_key \
                AND (p.id = c.id OR p.event_key <> '' AND p.request IS NOT 'discard')",
        )
        .bind(sink)
        .bind(position)
        .bind(error)
        .bind(PARKED_BEHIND)
        .execute(&self.writer)
        .await?;
        Ok(())
    }
}

/// Returns whether the lease still has this epoch.
async fn is_held(transaction: &mut SqliteConnection, sink: &str, epoch: i64) -> Result<bool, StoreError> {
    let held: Option<i64> = sqlx::query_scalar("SELECT epoch FROM relay WHERE sink = $1 AND epoch = $2")
        .bind(sink)
        .bind(epoch)
        .fetch_optional(transaction)
        .await?;
    Ok(held.is_some())
}

/// Requests an unpark of the entries behind one that is gone. Entries without a key do not wait for each other.
async fn free(
    transaction: &mut SqliteConnection,
    sink: &str,
    topic: &str,
    event_key: &str,
    by: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE parked SET request = 'unpark', requested_by = $4 WHERE sink = $1 AND topic = $2 \
            AND event_key = $3 AND event_key <> '' AND request IS NULL AND scope = 'key'",
    )
    .bind(sink)
    .bind(topic)
    .bind(event_key)
    .bind(by)
    .execute(transaction)
    .await?;
    Ok(())
}

/// Records what happened to an entry for which the checkpoints do not show it.
async fn settle(
    transaction: &mut SqliteConnection,
    sink: &str,
    position: i64,
    withheld: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO unparked (sink, id, sent_at_ms, withheld) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING")
        .bind(sink)
        .bind(position)
        .bind(now_ms())
        .bind(withheld)
        .execute(transaction)
        .await?;
    Ok(())
}
