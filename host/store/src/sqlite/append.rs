//! Appends events and notifications to the log, inside a transaction.

use std::collections::HashSet;

use sqlx::{QueryBuilder, Row, Sqlite as Driver, SqliteConnection};
use uuid::Uuid;

use crate::StoreError;
use crate::commit_plan::{LogRow, WithheldRow};

/// Rows in one INSERT: enough to make its fixed cost negligible, few enough to keep its text small.
pub(super) const ROWS: usize = 64;

/// Returns those of these identities that were issued before.
pub(super) async fn issued_before(
    transaction: &mut SqliteConnection,
    ids: &[Uuid],
) -> Result<HashSet<Uuid>, StoreError> {
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

pub(super) async fn issue(
    transaction: &mut SqliteConnection,
    positions: &[i64],
    rows: &[LogRow<'_>],
    now_ms: i64,
) -> Result<(), StoreError> {
    let mut notifications = Vec::new();
    for (position, row) in positions.iter().zip(rows) {
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

/// Returns the position of the next row of the log. No other transaction can take it: this one holds the order lock.
pub(super) async fn next_position(transaction: &mut SqliteConnection) -> Result<i64, StoreError> {
    let last: Option<i64> =
        sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").fetch_optional(transaction).await?;
    Ok(last.unwrap_or(0) + 1)
}

pub(super) async fn append(
    transaction: &mut SqliteConnection,
    positions: &[i64],
    rows: &[LogRow<'_>],
    now_ms: i64,
) -> Result<(), StoreError> {
    let placed: Vec<(&i64, &LogRow<'_>)> = positions.iter().zip(rows).collect();
    for chunk in placed.chunks(ROWS) {
        let mut query = QueryBuilder::<Driver>::new(
            "INSERT INTO outbox (id, event_id, event_type, aggregate_type, aggregate_id, topic, event_key, payload, headers, \
             source_event_id, release_id, projections, expires_at_ms, source, created_at_ms) ",
        );
        query.push_values(chunk, |mut row, (position, entry)| {
            row.push_bind(**position);
            match entry {
                LogRow::Event(event, origin) => row
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
                    .push_bind(None::<i64>)
                    .push_bind(origin.map(ToString::to_string)),
                LogRow::Notification(notification, source_event_id) => row
                    .push_bind(notification.notification_id)
                    .push_bind(notification.event_type.as_str())
                    .push_bind("teacher_notification")
                    .push_bind(notification.recipient.as_str())
                    .push_bind(notification.topic.as_deref())
                    .push_bind(notification.recipient.as_str())
                    .push_bind(&notification.payload[..])
                    .push_bind(&notification.headers[..])
                    .push_bind(Some(*source_event_id))
                    .push_bind(Some(notification.release_id))
                    .push_bind(None::<&[u8]>)
                    .push_bind(notification.expires_at_ms)
                    .push_bind(None::<String>),
            };
            row.push_bind(now_ms);
        });
        query.build().execute(&mut *transaction).await?;
    }
    Ok(())
}

pub(super) async fn withhold(
    transaction: &mut SqliteConnection,
    withheld: &[WithheldRow<'_>],
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
