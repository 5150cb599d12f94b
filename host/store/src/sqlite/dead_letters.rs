//! What projectors could not project, and what sources could not read.

use sqlx::SqliteConnection;

use crate::{NewDeadLetter, StoreError, Submission, Unreadable};

/// Keep what projectors could not project; gives the dead letters' ids in order. They are rare, so each is a statement.
pub(super) async fn bury(
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

/// Keep the records of sources that are no events. They are rare too.
pub(super) async fn bury_unreadable(
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
