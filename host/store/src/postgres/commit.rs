//! The transaction in which a group of events and everything that results from them become durable.
//!
//! All transactions take locks in the same order: positions → inbox → issued → order lock → log. Rows are inserted
//! sorted by their ids, so that two replicas with the same ids wait for each other instead of deadlocking.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use belfry_model::{ContentHash, sabotaged};
use sqlx::Row;
use uuid::Uuid;

use super::Postgres;
use super::append;
use super::connections::Session;
use crate::commit_plan::{LogRow, Plan, Verdicts, advances, fenced};
use crate::{Batch, BatchReceipt, StoreError, Submission, crash_point, failure_point};

/// Maximum number of attempts to commit a group after deadlocks and lost races; more would hide a bug.
const ATTEMPTS: u32 = 5;
/// How long to look for a group whose commit was not acknowledged, while the server cannot be reached.
const RESOLVE: Duration = Duration::from_secs(10);

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
                    tracing::debug!(error, attempt, "retrying a group");
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
        let staged = stage(&mut transaction, group, now_ms).await?;
        failure_point!("commit.rolled-back", Failed::Other(StoreError::Failed("a test rolls it back".into())));
        if let Err(error) = transaction.commit().await {
            self.resolve(&staged.plan.rows, &staged.positions, error).await?;
        }
        let end = staged.positions.last().copied().unwrap_or(0);
        Ok((staged.receipts(group), end))
    }

    pub(crate) async fn try_out(&self, submission: &Submission, now_ms: i64) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        let batch = Batch::of(vec![submission.clone()]);
        stage(&mut transaction, &[batch], now_ms).await?;
        Ok(transaction.roll_back().await?)
    }

    pub(crate) async fn try_to_write(&self) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        // The server writes a transaction that has an id to its WAL.
        sqlx::query("SELECT pg_current_xact_id()").execute(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    }

    /// Looks for a group in the log after the response to its COMMIT was lost. Retrying the group would be safe, but
    /// its senders would receive duplicates as the answer to new events.
    ///
    /// The status of the transaction proves nothing: a server that crashed before it flushed the commit, or a standby
    /// that took over, assigns the same transaction id to another transaction.
    async fn resolve(&self, rows: &[LogRow<'_>], positions: &[i64], error: sqlx::Error) -> Result<(), Failed> {
        tracing::warn!(%error, "the response to a commit was lost; looking for the group in the log");
        if sabotaged("look-in-the-log") {
            return Ok(());
        }
        let until = Instant::now() + RESOLVE;
        loop {
            match self.is_in_log(rows, positions).await {
                Ok(true) => return Ok(()),
                Ok(false) => return Err(Failed::Transient("the transaction was not committed".into())),
                Err(_) if Instant::now() < until => tokio::time::sleep(Duration::from_millis(200)).await,
                Err(_) => break,
            }
        }
        Err(Failed::Other(StoreError::Failed(format!("the outcome of a commit is unknown: {error}"))))
    }

    /// Returns whether all rows of a group are in the log at these positions. Returns false for a group without rows:
    /// retrying it is safe, because it adds nothing new.
    async fn is_in_log(&self, rows: &[LogRow<'_>], positions: &[i64]) -> Result<bool, StoreError> {
        let (Some(first), Some(last)) = (positions.first(), positions.last()) else { return Ok(false) };
        let mut transaction = self.writer.begin().await?;
        // The group's transaction holds the order lock until its outcome is decided.
        lock_order(&mut transaction).await?;
        let there: Vec<(i64, Uuid)> =
            sqlx::query_as("SELECT id, event_id FROM belfry.outbox WHERE id BETWEEN $1 AND $2 ORDER BY id")
                .bind(first)
                .bind(last)
                .fetch_all(&mut *transaction)
                .await?;
        transaction.roll_back().await?;
        let ours = positions.iter().copied().zip(rows.iter().map(LogRow::id));
        Ok(there.len() == positions.len() && there.into_iter().eq(ours))
    }
}

/// Why a group was not committed.
enum Failed {
    /// It may succeed if retried at once.
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
            Failed::Transient(error) => Self::Failed(error),
            Failed::NoRange => {
                Self::Failed("the log has no range for the next position, and none could be created".into())
            }
            Failed::Other(error) => error,
        }
    }
}

/// Performs all steps of a commit except the COMMIT itself.
async fn stage<'a>(transaction: &mut Session, group: &'a [Batch], now_ms: i64) -> Result<Staged<'a>, Failed> {
    let moved = move_positions(transaction, group).await?;
    let fenced = fenced(group, &moved);
    let counting = group.iter().zip(&fenced).filter(|(_, fenced)| !**fenced);
    let submissions: Vec<&Submission> = counting.flat_map(|(batch, _)| batch.submissions.iter()).collect();
    let verdicts = take_into_inbox(transaction, &submissions).await?;
    let new = verdicts.new_ones(&submissions);
    let issued = issue(transaction, &new, now_ms).await?;
    let plan = Plan::of(&new, issued, now_ms);
    append::withhold(transaction, &plan.withheld).await?;
    let dead_letters = append::insert_dead_letters(transaction, &new).await?;
    let unreadable = verdicts.unreadable(group, &fenced, &submissions);
    append::insert_unreadable(transaction, &unreadable).await?;
    crash_point!("commit.before-lock");
    lock_order(transaction).await?;
    crash_point!("commit.after-lock");
    let positions = append::append(transaction, &plan.rows).await?;
    crash_point!("commit.after-insert");
    Ok(Staged { fenced, verdicts, plan, positions, dead_letters })
}

/// The state of a transaction that is ready to commit.
struct Staged<'a> {
    fenced: Vec<bool>,
    verdicts: Verdicts,
    plan: Plan<'a>,
    positions: Vec<i64>,
    dead_letters: Vec<i64>,
}

impl Staged<'_> {
    fn receipts(self, group: &[Batch]) -> Vec<BatchReceipt> {
        self.plan.receipts(group, &self.fenced, &self.verdicts, &self.positions, self.dead_letters)
    }
}

/// Moves the positions of sources by compare-and-set. Returns the partitions that moved.
async fn move_positions(
    transaction: &mut Session,
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

/// Records the events' ids in the inbox. If another transaction is just recording the same id, waits for its end.
async fn take_into_inbox(transaction: &mut Session, submissions: &[&Submission]) -> Result<Verdicts, StoreError> {
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

/// Returns those of these events that are in the inbox, with the hashes of their content.
pub(super) async fn known(
    connection: &mut Session,
    event_ids: &[Uuid],
) -> Result<HashMap<Uuid, ContentHash>, StoreError> {
    let rows = sqlx::query("SELECT event_id, content_hash FROM belfry.inbox WHERE event_id = ANY($1)")
        .bind(event_ids)
        .fetch_all(connection)
        .await?;
    let mut known = HashMap::with_capacity(rows.len());
    for row in rows {
        let hash: Vec<u8> = row.try_get(1)?;
        let hash = ContentHash::try_from(hash)
            .map_err(|_| StoreError::Failed("a content hash is not 32 bytes long".into()))?;
        known.insert(row.try_get(0)?, hash);
    }
    Ok(known)
}

/// Issues the notifications' identities. Returns those that were issued before.
async fn issue(transaction: &mut Session, new: &[&Submission], now_ms: i64) -> Result<HashSet<Uuid>, sqlx::Error> {
    let mut ids: Vec<Uuid> = Vec::new();
    for submission in new.iter().filter(|submission| !submission.muted) {
        let live = submission.notifications.iter().filter(|notification| !notification.expired(now_ms));
        ids.extend(live.map(|notification| notification.notification_id));
    }
    issue_ids(transaction, ids).await
}

/// Issues these identities. Returns those that were issued before.
pub(super) async fn issue_ids(transaction: &mut Session, mut ids: Vec<Uuid>) -> Result<HashSet<Uuid>, sqlx::Error> {
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

/// Waits for the order lock. This is a separate statement, so that the next one sees what the last holder committed.
pub(super) async fn lock_order(transaction: &mut Session) -> Result<(), sqlx::Error> {
    if !sabotaged("order-lock") {
        sqlx::query("SELECT pg_advisory_xact_lock(7341, 'belfry.outbox'::regclass::oid::int)")
            .execute(transaction)
            .await?;
    }
    Ok(())
}
