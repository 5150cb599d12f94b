//! Which replica serves which sink, and how far the sink has been served. All times are by the database's clock, and a
//! lease is valid only on the database that it was taken from: a standby that takes over has an older position, and may
//! have other entries after it.

use std::time::Duration;

use belfry_model::sabotaged;
use sqlx::Row;
use uuid::Uuid;

use super::{Postgres, without_nul};
use crate::submission::WITHHELD_OFF;
use crate::{Backlog, Beat, LEASE, Lease, LeaseState, MAX_BACKLOG, NewParked, StoreError};

impl Postgres {
    /// Uses a single statement for everything that it returns: an idle replica should cost its database next to
    /// nothing. It writes at most once a second, so that it can run at every wake-up.
    pub(crate) async fn beat(&self, owner: Uuid) -> Result<Beat, StoreError> {
        let rows = sqlx::query(
            "WITH renewed AS ( \
               UPDATE belfry.relay SET lease_until = clock_timestamp() + make_interval(secs => $2) \
                WHERE owner = $1 AND lease_until > clock_timestamp() AND incarnation = belfry.incarnation() \
                  AND lease_until < clock_timestamp() + make_interval(secs => $2 - 1) RETURNING sink) \
             SELECT coalesce((SELECT id FROM belfry.outbox ORDER BY id DESC LIMIT 1), (SELECT up_to FROM belfry.retired)), \
                    coalesce((SELECT max(id) FROM belfry.rollout), 0), coalesce((SELECT max(id) FROM belfry.pause), 0), \
                    (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM belfry.parked_request), \
                    (SELECT count(*) + count(revoked_at) FROM belfry.access_token), belfry.incarnation(), \
                    r.sink, r.owner, r.epoch, r.position, \
                    coalesce((SELECT p.reason IS NOT NULL FROM belfry.pause p WHERE p.kind = 'sink' AND p.name = r.sink \
                               ORDER BY p.id DESC LIMIT 1), false), \
                    CASE WHEN renewed.sink IS NOT NULL THEN $2::float8 \
                         WHEN r.lease_until = '-infinity' OR r.incarnation <> belfry.incarnation() THEN 0::float8 \
                         ELSE extract(epoch FROM r.lease_until - clock_timestamp())::float8 END \
               FROM (SELECT) one LEFT JOIN belfry.relay r ON true LEFT JOIN renewed ON renewed.sink = r.sink",
        )
        .bind(owner)
        .bind(LEASE.as_secs_f64())
        .fetch_all(&self.heart)
        .await?;
        let Some(first) = rows.first() else { return Err(StoreError::Failed("a heartbeat returned no row".into())) };
        let mut leases = Vec::with_capacity(rows.len());
        for row in &rows {
            let Some(name) = row.try_get::<Option<String>, _>(6)? else { continue };
            leases.push(LeaseState {
                name,
                owner: row.try_get(7)?,
                epoch: row.try_get(8)?,
                position: row.try_get(9)?,
                paused: row.try_get(10)?,
                remaining: Duration::from_secs_f64(row.try_get::<f64, _>(11)?.max(0.0)),
            });
        }
        Ok(Beat {
            end: first.try_get(0)?,
            rollout: first.try_get(1)?,
            pauses: first.try_get(2)?,
            parked_requests: first.try_get(3)?,
            access: first.try_get(4)?,
            incarnation: first.try_get(5)?,
            leases,
        })
    }

    pub(crate) async fn register_sink(&self, sink: &str, position: i64) -> Result<bool, StoreError> {
        // The starting position is recorded under an epoch that no lease has: earlier entries were never intended for
        // the sink.
        let done = sqlx::query(
            "WITH new AS (INSERT INTO belfry.relay (sink, position) VALUES ($1, $2) ON CONFLICT DO NOTHING \
                          RETURNING sink, position) \
             INSERT INTO belfry.relay_checkpoint (sink, epoch, upto_id) SELECT sink, 0, position FROM new",
        )
        .bind(sink)
        .bind(position)
        .execute(&self.readers)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    pub(crate) async fn acquire_lease(&self, sink: &str, owner: Uuid) -> Result<Option<Lease>, StoreError> {
        let row = sqlx::query(
            "UPDATE belfry.relay SET owner = $2, epoch = epoch + 1, incarnation = belfry.incarnation(), off_since = NULL, \
               lease_until = clock_timestamp() + make_interval(secs => $3) \
             WHERE sink = $1 AND (lease_until < clock_timestamp() OR owner = $2 OR incarnation <> belfry.incarnation()) \
             RETURNING epoch, position, incarnation",
        )
        .bind(sink)
        .bind(owner)
        .bind(LEASE.as_secs_f64())
        .fetch_optional(&self.readers)
        .await?;
        row.map(|row| Ok(Lease { epoch: row.try_get(0)?, position: row.try_get(1)?, incarnation: row.try_get(2)? }))
            .transpose()
    }

    pub(crate) async fn checkpoint(
        &self,
        sink: &str,
        epoch: i64,
        position: i64,
        parked: &[NewParked],
    ) -> Result<bool, StoreError> {
        let fenced = if sabotaged("epoch") { i64::MIN } else { epoch };
        let moved = sqlx::query(
            "WITH moved AS ( \
               UPDATE belfry.relay SET position = $3, lease_until = clock_timestamp() + make_interval(secs => $4) \
                WHERE sink = $1 AND ($9 < 0 OR (epoch = $2 AND lease_until > clock_timestamp() AND position <= $3 \
                                                AND incarnation = belfry.incarnation())) \
                RETURNING sink, epoch), \
             noted AS ( \
               INSERT INTO belfry.relay_checkpoint (sink, epoch, upto_id) SELECT sink, epoch, $3 FROM moved \
               ON CONFLICT DO NOTHING), \
             new AS ( \
               SELECT moved.sink, t.* FROM moved, \
                 unnest($5::text[], $6::text[], $7::bigint[], $8::text[], $10::text[]) t (topic, event_key, id, error, scope)), \
             held AS ( \
               INSERT INTO belfry.held_topic (sink, topic, reason) \
               SELECT DISTINCT ON (topic) sink, topic, error FROM new WHERE scope = 'topic' ON CONFLICT DO NOTHING), \
             parked AS ( \
               INSERT INTO belfry.parked (sink, topic, event_key, id, error, scope, event_id, payload, headers, \
                 source_event_id, expires_at, recorded_at) \
               SELECT new.sink, new.topic, new.event_key, new.id, new.error, new.scope, o.event_id, o.payload, o.headers, \
                 o.source_event_id, o.expires_at, o.created_at \
                 FROM new LEFT JOIN belfry.outbox o ON o.id = new.id AND NOT $11 \
               ON CONFLICT DO NOTHING) \
             SELECT FROM moved",
        )
        .bind(sink)
        .bind(epoch)
        .bind(position)
        .bind(LEASE.as_secs_f64())
        .bind(parked.iter().map(|parked| parked.topic.as_str()).collect::<Vec<_>>())
        .bind(parked.iter().map(|parked| parked.event_key.as_str()).collect::<Vec<_>>())
        .bind(parked.iter().map(|parked| parked.position).collect::<Vec<_>>())
        .bind(parked.iter().map(|parked| without_nul(&parked.error)).collect::<Vec<_>>())
        .bind(fenced)
        .bind(parked.iter().map(|parked| parked.scope.as_str()).collect::<Vec<_>>())
        .bind(sabotaged("parked-content"))
        .fetch_optional(&self.readers)
        .await?;
        Ok(moved.is_some())
    }

    pub(crate) async fn release_lease(&self, sink: &str, epoch: i64) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE belfry.relay SET lease_until = '-infinity', off_since = clock_timestamp() \
              WHERE sink = $1 AND epoch = $2",
        )
        .bind(sink)
        .bind(epoch)
        .execute(&self.readers)
        .await?;
        Ok(())
    }

    pub(crate) async fn lend_lease(&self, sink: &str, epoch: i64) -> Result<(), StoreError> {
        sqlx::query("UPDATE belfry.relay SET lease_until = '-infinity' WHERE sink = $1 AND epoch = $2")
            .bind(sink)
            .bind(epoch)
            .execute(&self.readers)
            .await?;
        Ok(())
    }

    pub(crate) async fn backlog(&self, sink: &str) -> Result<Option<Backlog>, StoreError> {
        let row: Option<(i64, i64)> = sqlx::query_as(
            "SELECT (SELECT count(*) FROM (SELECT FROM belfry.outbox o \
                                            WHERE o.id > r.position AND o.topic IS NOT NULL LIMIT $2) missed), \
                    (extract(epoch FROM r.off_since) * 1000)::bigint \
               FROM belfry.relay r \
              WHERE r.sink = $1 AND r.off_since IS NOT NULL \
                AND EXISTS (SELECT FROM belfry.outbox o \
                             WHERE o.id > r.position AND o.topic IS NOT NULL AND o.created_at > r.off_since)",
        )
        .bind(sink)
        .bind(MAX_BACKLOG)
        .fetch_optional(&self.readers)
        .await?;
        Ok(row.map(|(entries, off_since_ms)| Backlog { entries, off_since_ms }))
    }

    pub(crate) async fn skip_backlog(&self, sink: &str) -> Result<u64, StoreError> {
        let skipped: i64 = sqlx::query_scalar(
            "WITH off AS (SELECT r.sink, r.position, \
                            greatest(r.position, (SELECT id FROM belfry.outbox ORDER BY id DESC LIMIT 1)) AS log_end \
                            FROM belfry.relay r WHERE r.sink = $1 AND r.off_since IS NOT NULL FOR UPDATE), \
                  moved AS (UPDATE belfry.relay r SET position = off.log_end, epoch = r.epoch + 1 FROM off \
                             WHERE r.sink = off.sink), \
                  noted AS (INSERT INTO belfry.unparked (sink, id, withheld) \
                            SELECT off.sink, o.id, $2 FROM off, belfry.outbox o \
                             WHERE o.id > off.position AND o.id <= off.log_end AND o.topic IS NOT NULL \
                            ON CONFLICT DO NOTHING RETURNING id) \
             SELECT count(*) FROM noted",
        )
        .bind(sink)
        .bind(WITHHELD_OFF)
        .fetch_one(&self.readers)
        .await?;
        Ok(skipped as u64)
    }
}
