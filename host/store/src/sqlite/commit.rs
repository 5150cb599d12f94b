//! The one transaction in which a group of events and all that follows from them become durable.

use std::collections::HashSet;
use std::collections::hash_map::{Entry, HashMap};

use belfry_model::ContentHash;
use sqlx::{QueryBuilder, Row, Sqlite as Driver, SqliteConnection};
use uuid::Uuid;

use super::Sqlite;
use crate::{
    NewDeadLetter, NewEvent, NewNotification, Receipt, StoreError, Submission, WITHHELD_EXPIRED, WITHHELD_ISSUED,
};

/// Rows in one INSERT: enough that its fixed cost disappears, few enough that its text stays small.
const ROWS: usize = 64;

impl Sqlite {
    pub(crate) async fn commit(&self, group: &[Submission], now_ms: i64) -> Result<Vec<Receipt>, StoreError> {
        let mut transaction = self.begin().await?;
        let verdicts = judge(&mut transaction, group).await?;
        let mut new = Vec::with_capacity(group.len());
        for (submission, verdict) in group.iter().zip(&verdicts) {
            if *verdict == Verdict::New {
                new.push(submission);
            }
        }
        let issued = already_issued(&mut transaction, &new).await?;
        let plan = Plan::of(&new, issued, next_position(&mut transaction).await?, now_ms);
        take_into_inbox(&mut transaction, &plan.rows, now_ms).await?;
        issue(&mut transaction, &plan.rows, now_ms).await?;
        append(&mut transaction, &plan.rows, now_ms).await?;
        withhold(&mut transaction, &plan.withheld, now_ms).await?;
        let mut dead_letters = bury(&mut transaction, &new, now_ms).await?.into_iter();
        transaction.commit().await?;

        let mut accepted = plan.accepted.into_iter();
        let receipt = |verdict: Verdict| match verdict {
            Verdict::Duplicate => Receipt::Duplicate,
            Verdict::Conflict => Receipt::Conflict,
            Verdict::New => {
                let Accepted { position, notifications, dead_letters: count } =
                    accepted.next().expect("one for each new event");
                let dead_letters = dead_letters.by_ref().take(count).collect();
                Receipt::Accepted { position, notifications, dead_letters }
            }
        };
        Ok(verdicts.into_iter().map(receipt).collect())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    New,
    Duplicate,
    Conflict,
}

impl Verdict {
    fn against(taken: &ContentHash, arrived: &ContentHash) -> Self {
        if taken == arrived { Self::Duplicate } else { Self::Conflict }
    }
}

/// Which events are new. Nobody else can take one meanwhile: the transaction holds the order lock. The group may hold
/// the same id twice; then the first counts.
async fn judge(transaction: &mut SqliteConnection, group: &[Submission]) -> Result<Vec<Verdict>, StoreError> {
    let event_ids: Vec<Uuid> = group.iter().map(|submission| submission.event.event_id).collect();
    let mut taken = known(transaction, &event_ids).await?;
    let verdict = |Submission { event, .. }: &Submission| match taken.entry(event.event_id) {
        Entry::Occupied(taken) => Verdict::against(taken.get(), &event.content_hash),
        Entry::Vacant(free) => {
            free.insert(event.content_hash);
            Verdict::New
        }
    };
    Ok(group.iter().map(verdict).collect())
}

async fn take_into_inbox(
    transaction: &mut SqliteConnection,
    rows: &[(i64, LogRow<'_>)],
    now_ms: i64,
) -> Result<(), StoreError> {
    let mut events = Vec::new();
    for (position, row) in rows {
        if let LogRow::Event(event) = row {
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

/// Of these events, those in the inbox, with the hash of their content.
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
            let hash =
                ContentHash::try_from(hash).map_err(|_| StoreError("a content hash is not 32 bytes long".into()))?;
            known.insert(row.try_get(0)?, hash);
        }
    }
    Ok(known)
}

/// Of the notifications that these events lead to, those whose identity was notified before.
async fn already_issued(transaction: &mut SqliteConnection, new: &[&Submission]) -> Result<HashSet<Uuid>, StoreError> {
    let mut ids = Vec::new();
    for submission in new {
        ids.extend(submission.notifications.iter().map(|notification| notification.notification_id));
    }
    let mut issued = HashSet::new();
    for chunk in ids.chunks(ROWS) {
        let mut query = QueryBuilder::<Driver>::new("SELECT notification_id FROM issued WHERE notification_id IN (");
        let mut list = query.separated(", ");
        for id in chunk {
            list.push_bind(*id);
        }
        query.push(")");
        for row in query.build().fetch_all(&mut *transaction).await? {
            issued.insert(row.try_get::<Uuid, _>(0)?);
        }
    }
    Ok(issued)
}

async fn issue(transaction: &mut SqliteConnection, rows: &[(i64, LogRow<'_>)], now_ms: i64) -> Result<(), StoreError> {
    let mut notifications = Vec::new();
    for (position, row) in rows {
        if let LogRow::Notification(notification, _) = row {
            notifications.push((*position, notification.notification_id));
        }
    }
    for chunk in notifications.chunks(ROWS) {
        let mut query = QueryBuilder::<Driver>::new("INSERT INTO issued (position, notification_id, received_at_ms) ");
        query.push_values(chunk, |mut row, (position, notification_id)| {
            row.push_bind(*position).push_bind(*notification_id).push_bind(now_ms);
        });
        query.build().execute(&mut *transaction).await?;
    }
    Ok(())
}

fn expired(notification: &NewNotification, now_ms: i64) -> bool {
    notification.expires_at_ms.is_some_and(|expires_at_ms| expires_at_ms <= now_ms)
}

/// The position that the next row of the log gets. Nobody else can take it: the transaction holds the order lock.
async fn next_position(transaction: &mut SqliteConnection) -> Result<i64, StoreError> {
    let last: Option<i64> =
        sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").fetch_optional(transaction).await?;
    Ok(last.unwrap_or(0) + 1)
}

enum LogRow<'a> {
    Event(&'a NewEvent),
    Notification(&'a NewNotification, Uuid),
}

struct Accepted {
    position: i64,
    notifications: Vec<Result<i64, &'static str>>,
    dead_letters: usize,
}

/// What goes where, and which positions it gets.
struct Plan<'a> {
    rows: Vec<(i64, LogRow<'a>)>,
    withheld: Vec<(&'a NewNotification, Uuid, &'static str)>,
    accepted: Vec<Accepted>,
}

impl<'a> Plan<'a> {
    fn of(new: &[&'a Submission], mut issued: HashSet<Uuid>, first_position: i64, now_ms: i64) -> Self {
        let mut plan = Self { rows: Vec::new(), withheld: Vec::new(), accepted: Vec::with_capacity(new.len()) };
        let mut next = first_position;
        let mut draw = || {
            next += 1;
            next - 1
        };
        for submission in new {
            let event_id = submission.event.event_id;
            let position = draw();
            plan.rows.push((position, LogRow::Event(&submission.event)));
            let mut notifications = Vec::with_capacity(submission.notifications.len());
            for notification in &submission.notifications {
                // An expired one is not issued: were its time put right, it could still be told.
                let withheld = if expired(notification, now_ms) {
                    Some(WITHHELD_EXPIRED)
                } else if issued.insert(notification.notification_id) {
                    None
                } else {
                    Some(WITHHELD_ISSUED)
                };
                notifications.push(match withheld {
                    Some(reason) => {
                        plan.withheld.push((notification, event_id, reason));
                        Err(reason)
                    }
                    None => {
                        let position = draw();
                        plan.rows.push((position, LogRow::Notification(notification, event_id)));
                        Ok(position)
                    }
                });
            }
            plan.accepted.push(Accepted { position, notifications, dead_letters: submission.dead_letters.len() });
        }
        plan
    }
}

async fn append(transaction: &mut SqliteConnection, rows: &[(i64, LogRow<'_>)], now_ms: i64) -> Result<(), StoreError> {
    for chunk in rows.chunks(ROWS) {
        let mut query = QueryBuilder::<Driver>::new(
            "INSERT INTO outbox (id, event_id, event_type, aggregate_type, aggregate_id, topic, event_key, payload, headers, \
             source_event_id, release_id, projections, expires_at_ms, created_at_ms) ",
        );
        query.push_values(chunk, |mut row, (position, entry)| {
            row.push_bind(*position);
            match entry {
                LogRow::Event(event) => row
                    .push_bind(event.event_id)
                    .push_bind(event.event_type.as_str())
                    .push_bind(event.aggregate_type)
                    .push_bind(event.aggregate_id.as_str())
                    .push_bind(event.topic.as_deref())
                    .push_bind(event.event_key.as_str())
                    .push_bind(&event.payload[..])
                    .push_bind(&event.headers[..])
                    .push_bind(None::<Uuid>)
                    .push_bind(None::<i64>)
                    .push_bind(Some(&event.projections[..]))
                    .push_bind(None::<i64>),
                LogRow::Notification(notification, source_event_id) => row
                    .push_bind(notification.notification_id)
                    .push_bind(notification.topic.as_str())
                    .push_bind("teacher_notification")
                    .push_bind(notification.recipient.as_str())
                    .push_bind(Some(notification.topic.as_str()))
                    .push_bind(notification.recipient.as_str())
                    .push_bind(&notification.payload[..])
                    .push_bind(&notification.headers[..])
                    .push_bind(Some(*source_event_id))
                    .push_bind(Some(notification.release_id))
                    .push_bind(None::<&[u8]>)
                    .push_bind(notification.expires_at_ms),
            };
            row.push_bind(now_ms);
        });
        query.build().execute(&mut *transaction).await?;
    }
    Ok(())
}

async fn withhold(
    transaction: &mut SqliteConnection,
    withheld: &[(&NewNotification, Uuid, &'static str)],
    now_ms: i64,
) -> Result<(), StoreError> {
    for chunk in withheld.chunks(ROWS) {
        let mut query = QueryBuilder::<Driver>::new(
            "INSERT INTO withheld (notification_id, source_event_id, release_id, recipient, reason, created_at_ms) ",
        );
        query.push_values(chunk, |mut row, (notification, source_event_id, reason)| {
            row.push_bind(notification.notification_id)
                .push_bind(*source_event_id)
                .push_bind(notification.release_id)
                .push_bind(notification.recipient.as_str())
                .push_bind(*reason)
                .push_bind(now_ms);
        });
        query.build().execute(&mut *transaction).await?;
    }
    Ok(())
}

/// Keep what projectors could not project; gives the dead letters' ids in order. They are rare, so each is a statement.
async fn bury(transaction: &mut SqliteConnection, new: &[&Submission], now_ms: i64) -> Result<Vec<i64>, StoreError> {
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
