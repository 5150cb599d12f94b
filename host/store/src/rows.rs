//! Reads the store's types from rows, by the names of their columns, which are the same on both databases.

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Error, FromRow, Row};
use uuid::Uuid;

use crate::{
    Candidate, Change, ComponentSignature, DeadLetter, LogEntry, Origin, Parked, ParkedEntry, ParkedRequest,
    ParkedScope, RelayEntry, Release, Rollout, Settled, Token, Withheld,
};

/// Reads a type from the columns of its fields' names, or of the names given, and converts what has a function.
macro_rules! from_columns {
    ($type:ident { $($field:ident $(= $column:literal)? $(as $convert:ident)?),+ $(,)? }) => {
        from_columns!(@for PgRow, $type { $($field $(= $column)? $(as $convert)?),+ });
        from_columns!(@for SqliteRow, $type { $($field $(= $column)? $(as $convert)?),+ });
    };
    (@for $row:ident, $type:ident { $($field:ident $(= $column:literal)? $(as $convert:ident)?),+ }) => {
        impl FromRow<'_, $row> for $type {
            fn from_row(row: &$row) -> Result<Self, Error> {
                Ok(Self {
                    $($field: from_columns!(
                        @converted row.try_get(from_columns!(@name $field $($column)?))? $(, $convert)?
                    )),+
                })
            }
        }
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $column:literal) => { $column };
    (@converted $value:expr) => { $value };
    (@converted $value:expr, $convert:ident) => { $convert($value)? };
}

/// Defines the row of a type that is not a plain list of columns. The type is converted from it.
macro_rules! row_of {
    ($type:ident: $row:ident { $($column:ident: $column_type:ty),+ $(,)? }) => {
        struct $row { $($column: $column_type),+ }
        from_columns!($row { $($column),+ });
        row_of!(@for PgRow, $type, $row);
        row_of!(@for SqliteRow, $type, $row);
    };
    (@for $database_row:ident, $type:ident, $row:ident) => {
        impl FromRow<'_, $database_row> for $type {
            fn from_row(row: &$database_row) -> Result<Self, Error> {
                $row::from_row(row)?.try_into()
            }
        }
    };
}

from_columns!(LogEntry {
    position = "id",
    event_id,
    event_type,
    topic,
    event_key,
    payload,
    source_event_id,
    release_id,
    projections,
    expires_at_ms,
    created_at_ms,
});

from_columns!(RelayEntry {
    position = "id",
    event_id,
    topic,
    event_key,
    payload,
    headers,
    is_notification,
    expires_at_ms,
    created_at_ms,
});

from_columns!(Withheld { notification_id, source_event_id, release_id, recipient, reason, created_at_ms });

from_columns!(Change { id, at_ms = "changed_at_ms", by = "changed_by", action, subject, detail });

row_of!(Parked: ParkedRow {
    sink: String,
    id: i64,
    topic: String,
    event_key: String,
    error: String,
    parked_at_ms: i64,
    request: Option<String>,
    scope: String,
});

impl TryFrom<ParkedRow> for Parked {
    type Error = Error;

    fn try_from(row: ParkedRow) -> Result<Self, Error> {
        Ok(Self {
            sink: row.sink,
            position: row.id,
            topic: row.topic,
            event_key: row.event_key,
            error: row.error,
            parked_at_ms: row.parked_at_ms,
            request: row.request.as_deref().and_then(ParkedRequest::parse),
            scope: ParkedScope::parse(&row.scope),
        })
    }
}

row_of!(ParkedEntry: ParkedEntryRow {
    id: i64,
    event_id: Option<Uuid>,
    topic: String,
    event_key: String,
    payload: Option<Vec<u8>>,
    headers: Option<Vec<u8>>,
    is_notification: bool,
    expires_at_ms: Option<i64>,
    created_at_ms: Option<i64>,
});

impl TryFrom<ParkedEntryRow> for ParkedEntry {
    type Error = Error;

    fn try_from(row: ParkedEntryRow) -> Result<Self, Error> {
        let entry = match (row.event_id, row.payload, row.headers, row.created_at_ms) {
            (Some(event_id), Some(payload), Some(headers), Some(created_at_ms)) => Some(RelayEntry {
                position: row.id,
                event_id,
                topic: row.topic.clone(),
                event_key: row.event_key.clone(),
                payload,
                headers,
                is_notification: row.is_notification,
                expires_at_ms: row.expires_at_ms,
                created_at_ms,
            }),
            // Its content is gone.
            _ => None,
        };
        Ok(Self { position: row.id, topic: row.topic, event_key: row.event_key, entry })
    }
}

row_of!(DeadLetter: DeadLetterRow {
    id: i64,
    event_id: Option<Uuid>,
    projector: Option<String>,
    release_id: Option<i64>,
    source_topic: Option<String>,
    source_partition: Option<i32>,
    source_offset: Option<i64>,
    payload: Option<Vec<u8>>,
    cause: String,
    detail: String,
    created_at_ms: i64,
    settled: Option<String>,
    settled_by: Option<String>,
    settled_at_ms: Option<i64>,
    settled_reason: Option<String>,
    first_position: Option<i64>,
    notifications: Option<i32>,
});

impl TryFrom<DeadLetterRow> for DeadLetter {
    type Error = Error;

    fn try_from(row: DeadLetterRow) -> Result<Self, Error> {
        let origin = match (row.source_topic, row.source_partition, row.source_offset) {
            (Some(topic), Some(partition), Some(offset)) => Some(Origin { topic, partition, offset }),
            _ => None,
        };
        let settled = match (row.settled, row.settled_by, row.settled_at_ms) {
            (Some(how), Some(by), Some(at_ms)) => Some(Settled {
                how,
                by,
                at_ms,
                reason: row.settled_reason,
                notifications: row.first_position.zip(row.notifications.map(i32::unsigned_abs)),
            }),
            _ => None,
        };
        Ok(Self {
            id: row.id,
            event_id: row.event_id,
            projector: row.projector,
            release_id: row.release_id,
            origin,
            payload: row.payload,
            cause: row.cause,
            detail: row.detail,
            created_at_ms: row.created_at_ms,
            settled,
        })
    }
}

from_columns!(Token {
    id,
    name,
    role,
    sha256 as exactly,
    created_by,
    created_at_ms,
    expires_at_ms,
    last_used_at_ms,
    revoked_at_ms,
    revoked_by,
});

from_columns!(Release {
    id,
    projector,
    version,
    digest as exactly,
    config,
    description,
    note,
    created_by,
    created_at_ms,
    admission,
});

from_columns!(ComponentSignature { public_key as exactly, signature as exactly, signer });

row_of!(Rollout: RolloutRow {
    id: i64,
    projector: String,
    release_id: i64,
    created_by: String,
    created_at_ms: i64,
    previous_release_id: Option<i64>,
    suspended_release_id: Option<i64>,
    reason: Option<String>,
    candidate_id: Option<i64>,
    candidate_share: Option<i32>,
    candidate_plan: Option<String>,
    candidate_step: Option<i32>,
    retired: bool,
});

impl TryFrom<RolloutRow> for Rollout {
    type Error = Error;

    fn try_from(row: RolloutRow) -> Result<Self, Error> {
        let candidate = row.candidate_id.map(|release_id| Candidate {
            release_id,
            share: row.candidate_share.map(i32::unsigned_abs),
            plan: row.candidate_plan,
            step: row.candidate_step.map(i32::unsigned_abs),
        });
        Ok(Self {
            id: row.id,
            projector: row.projector,
            release_id: row.release_id,
            previous_release_id: row.previous_release_id,
            suspended_release_id: row.suspended_release_id,
            retired: row.retired,
            candidate,
            reason: row.reason,
            created_by: row.created_by,
            created_at_ms: row.created_at_ms,
        })
    }
}

/// Returns a digest, key or signature, which has a fixed length.
pub(crate) fn exactly<const LENGTH: usize>(column: Vec<u8>) -> Result<[u8; LENGTH], Error> {
    column
        .try_into()
        .map_err(|_| Error::Decode(format!("a digest, key or signature is not {LENGTH} bytes long").into()))
}
