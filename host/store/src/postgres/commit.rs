//! The one transaction in which a group of events and all that follows from them become durable.
//!
//! Locks are taken in one order everywhere: positions → inbox → issued → order lock → log. Rows are inserted sorted by
//! their ids, so that two replicas that bring the same ids wait for each other instead of deadlocking.

use std::collections::{HashMap, HashSet};

use belfry_model::{ContentHash, sabotaged};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::Postgres;
use super::entries;
use crate::plan::{Plan, Verdicts, advances, fenced};
use crate::{Batch, BatchReceipt, StoreError, Submission, crash_point, failure_point};

/// A group is tried again after a deadlock or a lost race; more often would hide a fault.
const ATTEMPTS: u32 = 5;

impl Postgres {
    pub(crate) async fn commit(&self, group: &[Batch], now_ms: i64) -> Result<Vec<BatchReceipt>, StoreError> {
        let mut attempt = 1;
        loop {
            match self.try_commit(group, now_ms).await {
                Ok((receipts, end)) => {
                    self.extend_log_when_near(end);
                    return Ok(receipts);
                }
                Err(Failed::Transient(error)) if attempt < ATTEMPTS => {
                    tracing::debug!(error, attempt, "a group is tried again");
                    attempt += 1;
                }
                Err(Failed::NoRange) if attempt < ATTEMPTS => {
                    self.extend_log().await?;
                    attempt += 1;
                }
                Err(failed) => return Err(failed.into()),
            }
        }
    }

    async fn try_commit(&self, group: &[Batch], now_ms: i64) -> Result<(Vec<BatchReceipt>, i64), Failed> {
        let mut transaction = self.writer.begin().await?;
        let moved = move_positions(&mut transaction, group).await?;
        let fenced = fenced(group, &moved);
        let submissions: Vec<&Submission> = group
            .iter()
            .zip(&fenced)
            .filter(|(_, fenced)| !**fenced)
            .flat_map(|(batch, _)| batch.submissions.iter())
            .collect();
        let verdicts = take_into_inbox(&mut transaction, &submissions).await?;
        let new = verdicts.new_ones(&submissions);
        let issued = issue(&mut transaction, &new, now_ms).await?;
        let plan = Plan::of(&new, issued, now_ms);
        entries::withhold(&mut transaction, &plan.withheld).await?;
        let dead_letters = entries::bury(&mut transaction, &new).await?;
        let unreadable = verdicts.unreadable(group, &fenced, &submissions);
        entries::bury_unreadable(&mut transaction, &unreadable).await?;
        crash_point!("commit.before-lock");
        let transaction_id = lock_order(&mut transaction).await?;
        crash_point!("commit.after-lock");
        let positions = entries::append(&mut transaction, &plan.rows).await?;
        crash_point!("commit.after-insert");
        failure_point!("commit.rolled-back", Failed::Other(StoreError("a test rolls it back".into())));
        if let Err(error) = transaction.commit().await {
            self.resolve(&transaction_id, error).await?;
        }
        let end = positions.last().copied().unwrap_or(0);
        Ok((plan.receipts(group, &fenced, &verdicts, &positions, dead_letters), end))
    }

    /// The answer to COMMIT was lost: ask the server what became of the transaction. Repeating the group instead would
    /// be harmless, but its senders would be told of duplicates where they brought something new.
    async fn resolve(&self, transaction_id: &str, error: sqlx::Error) -> Result<(), Failed> {
        tracing::warn!(%error, "the answer to a commit was lost; asking what became of it");
        for _ in 0..ATTEMPTS {
            // NULL where the server does not know it, which is so after a standby took over: then the senders ask again.
            let status: Result<Option<String>, sqlx::Error> =
                sqlx::query_scalar("SELECT pg_xact_status($1::text::xid8)")
                    .bind(transaction_id)
                    .fetch_one(&self.heart)
                    .await;
            match status {
                Ok(Some(status)) if status == "committed" => return Ok(()),
                Ok(Some(status)) if status == "aborted" => {
                    return Err(Failed::Transient("the commit was aborted".into()));
                }
                Ok(None) => break,
                Ok(Some(_)) | Err(_) => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
            }
        }
        Err(Failed::Other(StoreError(format!("what became of a commit is not known: {error}"))))
    }
}

/// Why a group was not committed.
enum Failed {
    /// It may succeed at once.
    Transient(String),
    /// The log's next range is missing.
    NoRange,
    Other(StoreError),
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned());
        match code.as_deref() {
            // Deadlock; serialization failure.
            Some("40P01" | "40001") => Self::Transient(error.to_string()),
            // Check violation: no partition for the row. The log has no other check.
            Some("23514") => Self::NoRange,
            _ => Self::Other(error.into()),
        }
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Other(error)
    }
}

impl From<Failed> for StoreError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Transient(error) => Self(error),
            Failed::NoRange => Self("the log has no range for the next position, and none could be made".into()),
            Failed::Other(error) => error,
        }
    }
}

/// Move the positions of sources by compare-and-set; gives the partitions that moved.
async fn move_positions(
    transaction: &mut PgConnection,
    group: &[Batch],
) -> Result<HashSet<crate::SourcePartition>, sqlx::Error> {
    let advances = advances(group);
    if advances.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = sqlx::query(if sabotaged("position-compare-and-set") {
        "UPDATE belfry.consumer_position c SET next_offset = t.next \
           FROM unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::bigint[]) t (g, topic, partition, expected, next) \
          WHERE c.consumer_group = t.g AND c.topic = t.topic AND c.partition = t.partition \
          RETURNING c.consumer_group, c.topic, c.partition"
    } else {
        "UPDATE belfry.consumer_position c SET next_offset = t.next \
           FROM unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::bigint[]) t (g, topic, partition, expected, next) \
          WHERE c.consumer_group = t.g AND c.topic = t.topic AND c.partition = t.partition AND c.next_offset = t.expected \
          RETURNING c.consumer_group, c.topic, c.partition"
    })
    .bind(advances.iter().map(|advance| advance.partition.group.as_str()).collect::<Vec<_>>())
    .bind(advances.iter().map(|advance| advance.partition.topic.as_str()).collect::<Vec<_>>())
    .bind(advances.iter().map(|advance| advance.partition.partition).collect::<Vec<_>>())
    .bind(advances.iter().map(|advance| advance.expected).collect::<Vec<_>>())
    .bind(advances.iter().map(|advance| advance.next).collect::<Vec<_>>())
    .fetch_all(transaction)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(crate::SourcePartition { group: row.try_get(0)?, topic: row.try_get(1)?, partition: row.try_get(2)? })
        })
        .collect()
}

/// Take the events' ids. Who brings one that another transaction is just taking waits for that one's end.
async fn take_into_inbox(transaction: &mut PgConnection, submissions: &[&Submission]) -> Result<Verdicts, StoreError> {
    let mut first: HashMap<Uuid, ContentHash> = HashMap::new();
    for submission in submissions {
        first.entry(submission.event.event_id).or_insert(submission.event.content_hash);
    }
    let mut offered: Vec<(Uuid, ContentHash)> = first.into_iter().collect();
    if !sabotaged("sorted-inserts") {
        offered.sort_unstable();
    }
    if offered.is_empty() {
        return Ok(Verdicts::default());
    }
    let ids: Vec<Uuid> = offered.iter().map(|(id, _)| *id).collect();
    let hashes: Vec<&[u8]> = offered.iter().map(|(_, hash)| &hash[..]).collect();
    let taken: Vec<Uuid> = sqlx::query_scalar(
        "INSERT INTO belfry.inbox (event_id, content_hash) SELECT i, h FROM unnest($1::uuid[], $2::bytea[]) t (i, h) \
         ON CONFLICT DO NOTHING RETURNING event_id",
    )
    .bind(&ids)
    .bind(&hashes)
    .fetch_all(&mut *transaction)
    .await?;
    let won: HashSet<Uuid> = taken.into_iter().collect();
    let lost: Vec<Uuid> = ids.into_iter().filter(|id| !won.contains(id)).collect();
    let before = if lost.is_empty() || sabotaged("inbox") { HashMap::new() } else { known(transaction, &lost).await? };
    Ok(Verdicts::of(submissions, before))
}

/// Of these events, those in the inbox, with the hash of their content.
pub(super) async fn known(
    connection: &mut PgConnection,
    event_ids: &[Uuid],
) -> Result<HashMap<Uuid, ContentHash>, StoreError> {
    let rows = sqlx::query("SELECT event_id, content_hash FROM belfry.inbox WHERE event_id = ANY($1)")
        .bind(event_ids)
        .fetch_all(connection)
        .await?;
    let mut known = HashMap::with_capacity(rows.len());
    for row in rows {
        let hash: Vec<u8> = row.try_get(1)?;
        let hash = ContentHash::try_from(hash).map_err(|_| StoreError("a content hash is not 32 bytes long".into()))?;
        known.insert(row.try_get(0)?, hash);
    }
    Ok(known)
}

/// Issue the notifications' identities; gives those that were issued before.
async fn issue(transaction: &mut PgConnection, new: &[&Submission], now_ms: i64) -> Result<HashSet<Uuid>, sqlx::Error> {
    let mut ids: Vec<Uuid> = Vec::new();
    for submission in new.iter().filter(|submission| !submission.muted) {
        let live = submission.notifications.iter().filter(|notification| !notification.expired(now_ms));
        ids.extend(live.map(|notification| notification.notification_id));
    }
    issue_ids(transaction, ids).await
}

/// The same of these.
pub(super) async fn issue_ids(
    transaction: &mut PgConnection,
    mut ids: Vec<Uuid>,
) -> Result<HashSet<Uuid>, sqlx::Error> {
    if !sabotaged("sorted-inserts") {
        ids.sort_unstable();
    }
    ids.dedup();
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let won: Vec<Uuid> = sqlx::query_scalar(
        "INSERT INTO belfry.issued (notification_id) SELECT i FROM unnest($1::uuid[]) t (i) \
         ON CONFLICT DO NOTHING RETURNING notification_id",
    )
    .bind(&ids)
    .fetch_all(transaction)
    .await?;
    let mut before: HashSet<Uuid> = ids.into_iter().collect();
    won.iter().for_each(|id| {
        before.remove(id);
    });
    Ok(if sabotaged("issued") { HashSet::new() } else { before })
}

/// Wait for the order lock: a statement of its own, so that the next one sees what its last holder committed. Gives the
/// transaction's id as well; should the answer to COMMIT be lost, it tells what became of it.
pub(super) async fn lock_order(transaction: &mut PgConnection) -> Result<String, sqlx::Error> {
    let row = sqlx::query(if sabotaged("order-lock") {
        "SELECT pg_current_xact_id()::text"
    } else {
        "SELECT pg_current_xact_id()::text, pg_advisory_xact_lock(7341, 'belfry.outbox'::regclass::oid::int)"
    })
    .fetch_one(transaction)
    .await?;
    row.try_get(0)
}
