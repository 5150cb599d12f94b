//! Events that projectors could not project, and records that sources could not read.

use sqlx::{Row, SqliteConnection};

use super::Sqlite;
use super::append::{append, issue, issued_before, next_position, withhold};
use super::audit_log::note;
use crate::commit_plan::Plan;
use crate::{
    DeadLetter, DeadLetterFilter, DeadLetterGroup, NewChange, NewDeadLetter, Redrive, RedriveOutcome, Redriven,
    StoreError, Submission, Unreadable,
};

/// A query for dead letters. The caller supplies the expression for the payload.
macro_rules! select_dead_letters {
    ($payload:literal, $condition:literal) => {
        concat!(
            "SELECT id, event_id, projector, release_id, source_topic, source_partition, source_offset, ",
            $payload,
            " AS payload, cause, detail, created_at_ms, settled, settled_by, settled_at_ms, settled_reason, first_position, \
             notifications FROM dead_letter ",
            $condition
        )
    };
}
pub(super) use select_dead_letters;

/// The code that a rule puts at the beginning of a rejection's detail.
macro_rules! code {
    () => {
        "CASE WHEN cause = 'rejected' AND instr(detail, ':') > 0 THEN substr(detail, 1, instr(detail, ':') - 1) END"
    };
}

/// The condition for pending dead letters that match a filter. The filter's values are parameters 1 to 6.
macro_rules! waiting {
    () => {
        concat!(
            "settled IS NULL AND ($1 IS NULL OR id = $1) AND ($2 IS NULL OR projector = $2) \
             AND ($3 IS NULL OR release_id = $3) AND ($4 IS NULL OR cause = $4) AND ($5 IS NULL OR ",
            code!(),
            " = $5) AND ($6 IS NULL OR created_at_ms >= $6)"
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

/// Records the events that projectors could not project. Returns the ids of the dead letters, in order. They are rare,
/// so each is a separate statement.
pub(super) async fn insert_dead_letters(
    transaction: &mut SqliteConnection,
    new: &[&Submission],
    now_ms: i64,
) -> Result<Vec<i64>, StoreError> {
    let mut ids = Vec::new();
    for submission in new {
        for NewDeadLetter { projector, release_id, cause, detail } in &submission.dead_letters {
            let id: i64 = sqlx::query_scalar(
                "INSERT INTO dead_letter (event_id, projector, release_id, cause, detail, created_at_ms) \
                 VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
            )
            .bind(submission.event.event_id)
            .bind(projector.as_str())
            .bind(release_id)
            .bind(*cause)
            .bind(detail.as_str())
            .bind(now_ms)
            .fetch_one(&mut *transaction)
            .await?;
            ids.push(id);
        }
    }
    Ok(ids)
}

/// Records a source's records that are not events. They are rare too.
pub(super) async fn insert_unreadable(
    transaction: &mut SqliteConnection,
    unreadable: &[Unreadable],
    now_ms: i64,
) -> Result<(), StoreError> {
    for Unreadable { topic, partition, offset, event_id, cause, detail, payload } in unreadable {
        sqlx::query(
            "INSERT INTO dead_letter (event_id, cause, detail, source_topic, source_partition, source_offset, payload, \
             created_at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(event_id)
        .bind(*cause)
        .bind(detail.as_str())
        .bind(topic.as_str())
        .bind(partition)
        .bind(offset)
        .bind(&payload[..])
        .bind(now_ms)
        .execute(&mut *transaction)
        .await?;
    }
    Ok(())
}

impl Sqlite {
    pub(crate) async fn dead_letter_groups(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetterGroup>, StoreError> {
        let query = sqlx::query(concat!(
            "SELECT projector, release_id, cause, ",
            code!(),
            " AS code, count(*), min(created_at_ms), max(created_at_ms), max(id) FROM dead_letter WHERE ",
            waiting!(),
            " GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC, 8 DESC"
        ));
        let rows = bind_filter!(query, filter).fetch_all(&self.readers).await?;
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
            select_dead_letters!("NULL", "WHERE "),
            waiting!(),
            " AND id > $7 ORDER BY id LIMIT $8"
        ));
        let query = bind_filter!(query, filter).bind(after).bind(limit);
        Ok(query.fetch_all(&self.readers).await?)
    }

    pub(crate) async fn dead_letter(&self, id: i64) -> Result<Option<DeadLetter>, StoreError> {
        Ok(sqlx::query_as(select_dead_letters!("payload", "WHERE id = $1"))
            .bind(id)
            .fetch_optional(&self.readers)
            .await?)
    }

    pub(crate) async fn redrive(&self, redrive: &Redrive, now_ms: i64) -> Result<Redriven, StoreError> {
        let mut transaction = self.begin().await?;
        let waits = sqlx::query("SELECT id FROM dead_letter WHERE id = $1 AND settled IS NULL")
            .bind(redrive.id)
            .fetch_optional(&mut *transaction)
            .await?;
        if waits.is_none() {
            return Ok(Redriven::Settled);
        }
        let (notifications, muted) = match &redrive.outcome {
            RedriveOutcome::StillDead { release_id, cause, detail } => {
                sqlx::query("UPDATE dead_letter SET release_id = $2, cause = $3, detail = $4 WHERE id = $1")
                    .bind(redrive.id)
                    .bind(release_id)
                    .bind(*cause)
                    .bind(detail)
                    .execute(&mut *transaction)
                    .await?;
                transaction.commit().await?;
                return Ok(Redriven::StillDead);
            }
            RedriveOutcome::Notifications { notifications, muted } => (notifications, *muted),
        };
        let ids: Vec<_> = notifications.iter().map(|notification| notification.notification_id).collect();
        let issued = issued_before(&mut transaction, &ids).await?;
        let (plan, places) = Plan::of_redrive(redrive.event, notifications, muted, issued, now_ms);
        let first = next_position(&mut transaction).await?;
        let positions: Vec<i64> = (first..).take(plan.rows.len()).collect();
        issue(&mut transaction, &positions, &plan.rows, now_ms).await?;
        append(&mut transaction, &positions, &plan.rows, now_ms).await?;
        withhold(&mut transaction, &plan.withheld, now_ms).await?;
        sqlx::query(
            "UPDATE dead_letter SET settled = 'redriven', settled_by = $2, settled_at_ms = $3, first_position = $4, \
               notifications = $5 WHERE id = $1",
        )
        .bind(redrive.id)
        .bind(&redrive.by)
        .bind(now_ms)
        .bind(positions.first())
        .bind(positions.len() as i64)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
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
            "UPDATE dead_letter SET settled = 'discarded', settled_by = $7, settled_reason = $8, settled_at_ms = $9 WHERE ",
            waiting!()
        ));
        let query = bind_filter!(query, filter).bind(by).bind(reason).bind(now_ms);
        let mut transaction = self.begin().await?;
        let count = query.execute(&mut *transaction).await?.rows_affected();
        note(&mut transaction, &NewChange::discarded(filter, by, reason, count), now_ms).await?;
        transaction.commit().await?;
        Ok(count)
    }
}
