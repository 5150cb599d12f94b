//! The transaction in which a group of events and everything that results from them become durable.

use std::collections::{HashMap, HashSet};

use belfry_model::{ContentHash, sabotaged};
use sqlx::{QueryBuilder, Row, Sqlite as Driver, SqliteConnection};
use uuid::Uuid;

use super::Sqlite;
use super::append::{ROWS, append, issue, issued_before, next_position, withhold};
use super::dead_letters::{insert_dead_letters, insert_unreadable};
use crate::commit_plan::{LogRow, Plan, Verdicts, advances, fenced};
use crate::{Batch, BatchReceipt, SourcePartition, StoreError, Submission, crash_point};

impl Sqlite {
    pub(crate) async fn commit(&self, group: &[Batch], now_ms: i64) -> Result<Vec<BatchReceipt>, StoreError> {
        crash_point!("commit.before-lock");
        let mut transaction = self.begin().await?;
        crash_point!("commit.after-lock");
        let receipts = stage(&mut transaction, group, now_ms).await?;
        crash_point!("commit.after-insert");
        transaction.commit().await?;
        Ok(receipts)
    }

    pub(crate) async fn try_out(&self, submission: &Submission, now_ms: i64) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let batch = Batch::of(vec![submission.clone()]);
        stage(&mut transaction, &[batch], now_ms).await?;
        transaction.roll_back().await
    }

    pub(crate) async fn try_to_write(&self) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query("UPDATE parked_request SET asked = asked").execute(&mut *transaction).await?;
        transaction.commit().await
    }

    pub(crate) fn check_file(&self) -> Result<(), StoreError> {
        self.file.check()
    }
}

/// Performs all steps of a commit except the COMMIT itself. The receipts are valid once it is committed.
async fn stage(
    transaction: &mut SqliteConnection,
    group: &[Batch],
    now_ms: i64,
) -> Result<Vec<BatchReceipt>, StoreError> {
    let fenced = fenced(group, &move_positions(transaction, group).await?);
    let counting = group.iter().zip(&fenced).filter(|(_, fenced)| !**fenced);
    let submissions: Vec<&Submission> = counting.flat_map(|(batch, _)| batch.submissions.iter()).collect();
    let event_ids: Vec<Uuid> = submissions.iter().map(|submission| submission.event.event_id).collect();
    // No other transaction can record an id in the meantime: this one holds the order lock.
    let before = if sabotaged("inbox") { HashMap::new() } else { known(transaction, &event_ids).await? };
    let verdicts = Verdicts::of(&submissions, before);
    let new = verdicts.new_ones(&submissions);
    let issued = already_issued(transaction, &new).await?;
    let plan = Plan::of(&new, issued, now_ms);
    let first = next_position(transaction).await?;
    let positions: Vec<i64> = (first..).take(plan.rows.len()).collect();
    take_into_inbox(transaction, &positions, &plan.rows, now_ms).await?;
    issue(transaction, &positions, &plan.rows, now_ms).await?;
    append(transaction, &positions, &plan.rows, now_ms).await?;
    withhold(transaction, &plan.withheld, now_ms).await?;
    let dead_letters = insert_dead_letters(transaction, &new, now_ms).await?;
    let unreadable = verdicts.unreadable(group, &fenced, &submissions);
    insert_unreadable(transaction, &unreadable, now_ms).await?;
    Ok(plan.receipts(group, &fenced, &verdicts, &positions, dead_letters))
}

/// Moves the positions of sources by compare-and-set. Returns the partitions that moved.
async fn move_positions(
    transaction: &mut SqliteConnection,
    group: &[Batch],
) -> Result<HashSet<SourcePartition>, StoreError> {
    let mut moved = HashSet::new();
    for advance in advances(group) {
        let done = sqlx::query(
            "UPDATE consumer_position SET next_offset = $5 \
             WHERE consumer_group = $1 AND topic = $2 AND partition = $3 AND next_offset = $4",
        )
        .bind(&advance.partition.group)
        .bind(&advance.partition.topic)
        .bind(advance.partition.partition)
        .bind(advance.expected)
        .bind(advance.next)
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 1 {
            moved.insert(advance.partition);
        }
    }
    Ok(moved)
}

async fn take_into_inbox(
    transaction: &mut SqliteConnection,
    positions: &[i64],
    rows: &[LogRow<'_>],
    now_ms: i64,
) -> Result<(), StoreError> {
    let mut events = Vec::new();
    for (position, row) in positions.iter().zip(rows) {
        if let LogRow::Event(event, _) = row {
            events.push((*position, *event));
        }
    }
    for chunk in events.chunks(ROWS) {
        let mut query =
            QueryBuilder::<Driver>::new("INSERT INTO inbox (position, event_id, content_hash, received_at_ms) ");
        query.push_values(chunk, |mut row, (position, event)| {
            row.push_bind(*position)
                .push_bind(event.event_id)
                .push_bind(event.content_hash.as_slice())
                .push_bind(now_ms);
        });
        query.build().execute(&mut *transaction).await?;
    }
    Ok(())
}

/// Returns those of these events that are in the inbox, with the hashes of their content.
pub(super) async fn known(
    connection: &mut SqliteConnection,
    event_ids: &[Uuid],
) -> Result<HashMap<Uuid, ContentHash>, StoreError> {
    let mut known = HashMap::new();
    for chunk in event_ids.chunks(ROWS) {
        let mut query = QueryBuilder::<Driver>::new("SELECT event_id, content_hash FROM inbox WHERE event_id IN (");
        let mut ids = query.separated(", ");
        for event_id in chunk {
            ids.push_bind(*event_id);
        }
        query.push(")");
        for row in query.build().fetch_all(&mut *connection).await? {
            let hash: Vec<u8> = row.try_get(1)?;
            let hash = ContentHash::try_from(hash)
                .map_err(|_| StoreError::Failed("a content hash is not 32 bytes long".into()))?;
            known.insert(row.try_get(0)?, hash);
        }
    }
    Ok(known)
}

/// Returns the notifications of these events whose identities were issued before.
async fn already_issued(transaction: &mut SqliteConnection, new: &[&Submission]) -> Result<HashSet<Uuid>, StoreError> {
    let notifications = new.iter().flat_map(|submission| &submission.notifications);
    issued_before(transaction, &notifications.map(|notification| notification.notification_id).collect::<Vec<_>>())
        .await
}
