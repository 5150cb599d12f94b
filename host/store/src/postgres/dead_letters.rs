//! Pending dead letters, and how they are settled.

use sqlx::Row;

use super::audit_log::note;
use super::commit::{issue_ids, lock_order};
use super::connections::Session;
use super::{Postgres, append, without_nul};
use crate::commit_plan::Plan;
use crate::{DeadLetter, DeadLetterFilter, DeadLetterGroup, NewChange, Redrive, RedriveOutcome, Redriven, StoreError};

/// A query for dead letters. The caller supplies the expression for the payload.
macro_rules! select_dead_letters {
    ($payload:literal, $condition:literal) => {
        concat!(
            "SELECT id, event_id, projector, release_id, source_topic, source_partition, source_offset, ",
            $payload,
            " AS payload, cause, detail, (extract(epoch FROM created_at) * 1000)::bigint AS created_at_ms, settled, \
             settled_by, (extract(epoch FROM settled_at) * 1000)::bigint AS settled_at_ms, settled_reason, first_position, notifications \
             FROM belfry.dead_letter ",
            $condition
        )
    };
}
pub(super) use select_dead_letters;

/// The code that a rule puts at the beginning of a rejection's detail.
macro_rules! code {
    () => {
        "CASE WHEN cause = 'rejected' THEN split_part(detail, ':', 1) END"
    };
}

/// The condition for pending dead letters that match a filter. The filter's values are parameters 1 to 6.
macro_rules! waiting {
    () => {
        concat!(
            "settled IS NULL AND ($1::bigint IS NULL OR id = $1) AND ($2::text IS NULL OR projector = $2) \
             AND ($3::bigint IS NULL OR release_id = $3) AND ($4::text IS NULL OR cause = $4) \
             AND ($5::text IS NULL OR ",
            code!(),
            " = $5) AND ($6::bigint IS NULL OR created_at >= to_timestamp($6 / 1000.0))"
        )
    };
}

/// Binds a filter's values as parameters 1 to 6.
macro_rules! bind_filter {
    ($query:expr, $filter:expr) => {
        $query
            .bind($filter.id)
            .bind($filter.projector.as_deref())
            .bind($filter.release_id)
            .bind($filter.cause.as_deref())
            .bind($filter.code.as_deref())
            .bind($filter.since_ms)
    };
}

impl Postgres {
    pub(crate) async fn dead_letter_groups(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetterGroup>, StoreError> {
        let query = sqlx::query(concat!(
            "SELECT projector, release_id, cause, ",
            code!(),
            " AS code, count(*), (extract(epoch FROM min(created_at)) * 1000)::bigint, \
               (extract(epoch FROM max(created_at)) * 1000)::bigint, max(id) \
             FROM belfry.dead_letter WHERE ",
            waiting!(),
            " GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC, 8 DESC"
        ));
        let rows = bind_filter!(query, filter).fetch_all(&self.viewers).await?;
        rows.iter()
            .map(|row| {
                Ok(DeadLetterGroup {
                    projector: row.try_get(0)?,
                    release_id: row.try_get(1)?,
                    cause: row.try_get(2)?,
                    code: row.try_get(3)?,
                    count: row.try_get(4)?,
                    first_ms: row.try_get(5)?,
                    last_ms: row.try_get(6)?,
                    last_id: row.try_get(7)?,
                })
            })
            .collect()
    }

    pub(crate) async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        after: i64,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let query = sqlx::query_as(concat!(
            select_dead_letters!("NULL::bytea", "WHERE "),
            waiting!(),
            " AND id > $7 ORDER BY id LIMIT $8"
        ));
        let query = bind_filter!(query, filter).bind(after).bind(i64::from(limit));
        Ok(query.fetch_all(&self.viewers).await?)
    }

    pub(crate) async fn dead_letter(&self, id: i64) -> Result<Option<DeadLetter>, StoreError> {
        Ok(sqlx::query_as(select_dead_letters!("payload", "WHERE id = $1"))
            .bind(id)
            .fetch_optional(&self.viewers)
            .await?)
    }

    pub(crate) async fn redrive(&self, redrive: &Redrive, now_ms: i64) -> Result<Redriven, StoreError> {
        let mut transaction = self.readers.begin().await?;
        // A concurrent redrive waits here, and then finds the dead letter settled.
        let waits = sqlx::query("SELECT id FROM belfry.dead_letter WHERE id = $1 AND settled IS NULL FOR UPDATE")
            .bind(redrive.id)
            .fetch_optional(&mut *transaction)
            .await?;
        if waits.is_none() {
            return Ok(Redriven::Settled);
        }
        let (notifications, muted) = match &redrive.outcome {
            RedriveOutcome::StillDead { release_id, cause, detail } => {
                keep_waiting(&mut transaction, redrive.id, *release_id, cause, detail).await?;
                transaction.commit().await?;
                return Ok(Redriven::StillDead);
            }
            RedriveOutcome::Notifications { notifications, muted } => (notifications, *muted),
        };
        let live = notifications.iter().filter(|notification| !muted && !notification.expired(now_ms));
        let issued = issue_ids(&mut transaction, live.map(|one| one.notification_id).collect()).await?;
        let (plan, places) = Plan::of_redrive(redrive.event, notifications, muted, issued, now_ms);
        append::withhold(&mut transaction, &plan.withheld).await?;
        lock_order(&mut transaction).await?;
        let positions = append::append(&mut transaction, &plan.rows).await?;
        sqlx::query(
            "UPDATE belfry.dead_letter SET settled = 'redriven', settled_by = $2, settled_at = clock_timestamp(), \
               first_position = $3, notifications = $4 WHERE id = $1",
        )
        .bind(redrive.id)
        .bind(&redrive.by)
        .bind(positions.first())
        .bind(positions.len() as i32)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        if let Some(last) = positions.last() {
            self.extend_log_when_near(*last);
        }
        Ok(Redriven::Notified(places.into_iter().map(|place| place.map(|place| positions[place])).collect()))
    }

    pub(crate) async fn discard_dead_letters(
        &self,
        filter: &DeadLetterFilter,
        by: &str,
        reason: &str,
        now_ms: i64,
    ) -> Result<u64, StoreError> {
        let query = sqlx::query(concat!(
            "UPDATE belfry.dead_letter SET settled = 'discarded', settled_by = $7, settled_reason = $8, \
               settled_at = to_timestamp($9 / 1000.0) WHERE ",
            waiting!()
        ));
        let query = bind_filter!(query, filter).bind(by).bind(reason).bind(now_ms);
        let mut transaction = self.readers.begin().await?;
        let count = query.execute(&mut *transaction).await?.rows_affected();
        note(&mut transaction, &NewChange::discarded(filter, by, reason, count), now_ms).await?;
        transaction.commit().await?;
        Ok(count)
    }
}

async fn keep_waiting(
    transaction: &mut Session,
    id: i64,
    release_id: i64,
    cause: &str,
    detail: &str,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE belfry.dead_letter SET release_id = $2, cause = $3, detail = $4 WHERE id = $1")
        .bind(id)
        .bind(release_id)
        .bind(cause)
        .bind(without_nul(detail))
        .execute(transaction)
        .await?;
    Ok(())
}
