//! The rows that a commit adds, with one statement for each table regardless of the number of rows. Texts are stored as
//! `text`, bytes from outside as `bytea`: as `jsonb`, one U+0000 in one event would fail the whole group.

use sqlx::Row;
use uuid::Uuid;

use super::connections::Session;
use super::without_nul;
use crate::commit_plan::{LogRow, WithheldRow};
use crate::{NewDeadLetter, Submission, Unreadable};

/// Appends rows to the log. Returns their positions, in the order of the rows. The caller holds the order lock.
pub(super) async fn append(transaction: &mut Session, rows: &[LogRow<'_>]) -> Result<Vec<i64>, sqlx::Error> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut columns = Columns::with_capacity(rows.len());
    rows.iter().for_each(|row| columns.push(row));
    let mut positions: Vec<i64> = sqlx::query_scalar(
        "INSERT INTO belfry.outbox (id, event_id, event_type, aggregate_type, aggregate_id, topic, event_key, payload, \
           headers, source_event_id, release_id, projections, expires_at, source) \
         SELECT nextval('belfry.outbox_id'), t.event_id, t.event_type, t.aggregate_type, t.aggregate_id, t.topic, \
           t.event_key, t.payload, t.headers, t.source_event_id, t.release_id, t.projections, \
           to_timestamp(t.expires_at_ms / 1000.0), t.source \
         FROM (SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[], \
             $8::bytea[], $9::uuid[], $10::bigint[], $11::bytea[], $12::bigint[], $13::text[]) WITH ORDINALITY u (event_id, event_type, \
             aggregate_type, aggregate_id, topic, event_key, payload, headers, source_event_id, release_id, projections, \
             expires_at_ms, source, place) ORDER BY place) t \
         RETURNING id",
    )
    .bind(columns.event_id)
    .bind(columns.event_type)
    .bind(columns.aggregate_type)
    .bind(columns.aggregate_id)
    .bind(columns.topic)
    .bind(columns.event_key)
    .bind(columns.payload)
    .bind(columns.headers)
    .bind(columns.source_event_id)
    .bind(columns.release_id)
    .bind(columns.projections)
    .bind(columns.expires_at_ms)
    .bind(columns.source)
    .fetch_all(transaction)
    .await?;
    // They were drawn in the order of the rows, but nothing guarantees that RETURNING keeps that order.
    positions.sort_unstable();
    Ok(positions)
}

#[derive(Default)]
struct Columns<'a> {
    event_id: Vec<Uuid>,
    event_type: Vec<&'a str>,
    aggregate_type: Vec<&'a str>,
    aggregate_id: Vec<&'a str>,
    topic: Vec<Option<&'a str>>,
    event_key: Vec<&'a str>,
    payload: Vec<&'a [u8]>,
    headers: Vec<&'a [u8]>,
    source_event_id: Vec<Option<Uuid>>,
    release_id: Vec<Option<i64>>,
    projections: Vec<Option<&'a [u8]>>,
    expires_at_ms: Vec<Option<i64>>,
    source: Vec<Option<String>>,
}

impl<'a> Columns<'a> {
    fn with_capacity(rows: usize) -> Self {
        Self { event_id: Vec::with_capacity(rows), payload: Vec::with_capacity(rows), ..Self::default() }
    }

    fn push(&mut self, row: &LogRow<'a>) {
        match row {
            LogRow::Event(event, origin) => {
                self.event_id.push(event.event_id);
                self.event_type.push(&event.event_type);
                self.aggregate_type.push(event.aggregate_type);
                self.aggregate_id.push(&event.aggregate_id);
                self.topic.push(event.topic.as_deref());
                self.event_key.push(&event.event_key);
                self.payload.push(&event.payload);
                self.headers.push(&event.headers);
                self.source_event_id.push(None);
                self.release_id.push(None);
                self.projections.push(Some(&event.projections));
                self.expires_at_ms.push(None);
                self.source.push(origin.map(ToString::to_string));
            }
            LogRow::Notification(notification, source_event_id) => {
                self.event_id.push(notification.notification_id);
                self.event_type.push(&notification.event_type);
                self.aggregate_type.push("teacher_notification");
                self.aggregate_id.push(&notification.recipient);
                self.topic.push(notification.topic.as_deref());
                self.event_key.push(&notification.recipient);
                self.payload.push(&notification.payload);
                self.headers.push(&notification.headers);
                self.source_event_id.push(Some(*source_event_id));
                self.release_id.push(Some(notification.release_id));
                self.projections.push(None);
                self.expires_at_ms.push(notification.expires_at_ms);
                self.source.push(None);
            }
        }
    }
}

pub(super) async fn withhold(transaction: &mut Session, withheld: &[WithheldRow<'_>]) -> Result<(), sqlx::Error> {
    if withheld.is_empty() {
        return Ok(());
    }
    let column = |of: fn(&WithheldRow<'_>) -> Uuid| withheld.iter().map(of).collect::<Vec<Uuid>>();
    sqlx::query(
        "INSERT INTO belfry.withheld (notification_id, source_event_id, release_id, recipient, reason) \
         SELECT n, s, l, r, w FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::text[]) \
         WITH ORDINALITY t (n, s, l, r, w, place) ORDER BY place",
    )
    .bind(column(|(notification, ..)| notification.notification_id))
    .bind(column(|(_, source_event_id, _)| *source_event_id))
    .bind(withheld.iter().map(|(notification, ..)| notification.release_id).collect::<Vec<_>>())
    .bind(withheld.iter().map(|(notification, ..)| notification.recipient.as_str()).collect::<Vec<_>>())
    .bind(withheld.iter().map(|(.., reason)| *reason).collect::<Vec<_>>())
    .execute(transaction)
    .await?;
    Ok(())
}

/// Records the events that projectors could not project. Returns the ids of the dead letters, in order. They are rare,
/// so each is a separate statement.
pub(super) async fn insert_dead_letters(
    transaction: &mut Session,
    new: &[&Submission],
) -> Result<Vec<i64>, sqlx::Error> {
    let mut ids = Vec::new();
    for submission in new {
        for NewDeadLetter { projector, release_id, cause, detail } in &submission.dead_letters {
            let row = sqlx::query(
                "INSERT INTO belfry.dead_letter (event_id, projector, release_id, cause, detail) \
                 VALUES ($1, $2, $3, $4, $5) RETURNING id",
            )
            .bind(submission.event.event_id)
            .bind(projector.as_str())
            .bind(release_id)
            .bind(*cause)
            .bind(without_nul(detail))
            .fetch_one(&mut *transaction)
            .await?;
            ids.push(row.try_get(0)?);
        }
    }
    Ok(ids)
}

/// Records a source's records that are not events. They are rare too.
pub(super) async fn insert_unreadable(transaction: &mut Session, unreadable: &[Unreadable]) -> Result<(), sqlx::Error> {
    for Unreadable { topic, partition, offset, event_id, cause, detail, payload } in unreadable {
        sqlx::query(
            "INSERT INTO belfry.dead_letter (event_id, cause, detail, source_topic, source_partition, source_offset, \
             payload) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(event_id)
        .bind(*cause)
        .bind(without_nul(detail))
        .bind(topic.as_str())
        .bind(partition)
        .bind(offset)
        .bind(&payload[..])
        .execute(&mut *transaction)
        .await?;
    }
    Ok(())
}
