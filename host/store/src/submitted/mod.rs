//! Events that another service submitted with `belfry.submit`, in its own database.
//!
//! Rows are read in the order of their ids, and deleted once they are in Belfry's log. Every read begins at the lowest
//! id that may still appear, not after the last one read. A transaction that commits late makes lower ids visible, and
//! a transaction that waited for it has a higher id, so skipping ids that are not visible yet would reverse the order
//! of the two.

mod floor;
mod migrate;

use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{ConnectOptions, Connection, PgConnection, Row};
use tokio::time::timeout;
use uuid::Uuid;

use crate::tcp_keepalive::SERVER_KEEPALIVE;
use floor::Floor;
pub use migrate::migrate_submit;

/// The query for the last id that was drawn. `SELECT last_value` is not used: while the server logs a sequence, about
/// once every 30 numbers, the row shows the number up to which it is logged, up to 32 ahead. The function waits until
/// the server has finished.
pub const LAST_DRAWN_ID: &str = "SELECT pg_sequence_last_value('belfry.submitted_id_seq')";

/// Additional time for the server to cancel a statement itself, before the connection is abandoned.
const GRACE: Duration = Duration::from_secs(2);

/// Settings to reach another service's database.
#[derive(Clone, Debug)]
pub struct SubmittedSettings {
    /// `postgres://…`.
    pub url: String,
    /// Time limit to open a connection.
    pub connect_timeout: Duration,
    /// Time limit for a statement.
    pub statement_timeout: Duration,
}

/// Why a service's database cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SubmittedError {
    /// The URL cannot be parsed. It is not quoted because it may hold a password.
    #[error("not a database URL; use postgres://USER@HOST:PORT/DATABASE, and url_file if it holds a password")]
    Address,
    /// The schema for submitting events is not installed.
    #[error("the database has no belfry.submitted; run `belfry migrate --submit-only --url URL` as its owner")]
    NotInstalled,
    /// The role lacks privileges.
    #[error(
        "the role {0} may not read and delete from belfry.submitted; make it a member of belfry_runtime, or grant it \
         USAGE on the schema belfry, SELECT and DELETE on belfry.submitted, SELECT on belfry.submitted_id_seq"
    )]
    NotAllowed(String),
    /// The server is a standby, where rows cannot be deleted.
    #[error("the server is a standby, where nothing can be deleted; use the address of the primary")]
    Standby,
    /// The server does not respond.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The database returned an error.
    #[error("{0}")]
    Database(#[from] sqlx::Error),
}

/// A submitted event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmittedEvent {
    /// Its id in the table. Ids increase within a transaction, and from one transaction to another that waited for it.
    pub id: i64,
    /// The event's id.
    pub event_id: Uuid,
    /// The partition key that the service chose.
    pub event_key: Option<String>,
    /// The topic that the service chose; `None` for the topic of the event's type.
    pub topic: Option<String>,
    /// The submitted text, unchanged but for missing fields, which were filled in.
    pub envelope: Bytes,
}

/// A connection to a service's database.
pub struct Submitted {
    connection: PgConnection,
    floor: Floor,
    patience: Duration,
}

impl SubmittedSettings {
    fn options(&self) -> Result<PgConnectOptions, SubmittedError> {
        // The parser's error may quote the address, and with it a password.
        let options = PgConnectOptions::from_str(&self.url).map_err(|_| SubmittedError::Address)?;
        let options = options.application_name("belfry").options(SERVER_KEEPALIVE).options([
            ("statement_timeout", self.statement_timeout.as_millis().to_string()),
            ("lock_timeout", self.statement_timeout.as_millis().to_string()),
            // The statistics of a table that is mostly empty do not describe the moments when it is not.
            ("enable_seqscan", "off".into()),
            ("enable_bitmapscan", "off".into()),
            // A deletion that a crash undoes is repeated, so the service's disk need not flush it.
            ("synchronous_commit", "off".into()),
        ]);
        Ok(options.disable_statement_logging())
    }

    /// Checks that the address can be parsed.
    pub fn check(&self) -> Result<(), SubmittedError> {
        self.options().map(|_| ())
    }
}

impl Submitted {
    /// Connects, and checks that events can be read and deleted there.
    pub async fn connect(settings: &SubmittedSettings) -> Result<Self, SubmittedError> {
        let options = settings.options()?;
        let connecting = timeout(settings.connect_timeout, PgConnection::connect_with(&options)).await;
        let connection = connecting.map_err(|_| SubmittedError::TimedOut(settings.connect_timeout))??;
        let patience = settings.statement_timeout + GRACE;
        let mut submitted = Self { connection, floor: Floor::default(), patience };
        submitted.check().await?;
        Ok(submitted)
    }

    async fn check(&mut self) -> Result<(), SubmittedError> {
        let (standby, role, there, allowed): (bool, String, bool, bool) = patient(
            self.patience,
            sqlx::query_as(
                "SELECT pg_is_in_recovery(), current_user::text, t.oid IS NOT NULL, \
                        coalesce(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(t.oid, 'SELECT') \
                          AND has_table_privilege(t.oid, 'DELETE') AND has_sequence_privilege(s.oid, 'SELECT'), false) \
                   FROM (SELECT) one \
                   LEFT JOIN pg_namespace n ON n.nspname = 'belfry' \
                   LEFT JOIN pg_class t ON t.relnamespace = n.oid AND t.relname = 'submitted' \
                   LEFT JOIN pg_class s ON s.relnamespace = n.oid AND s.relname = 'submitted_id_seq'",
            )
            .fetch_one(&mut self.connection),
        )
        .await?;
        match (standby, there, allowed) {
            (true, _, _) => Err(SubmittedError::Standby),
            (_, false, _) => Err(SubmittedError::NotInstalled),
            (_, _, false) => Err(SubmittedError::NotAllowed(role)),
            _ => Ok(()),
        }
    }

    /// Returns the lowest rows: up to `limit`, and no more after the one at which they reach `bytes` together, but at
    /// least one.
    pub async fn read(&mut self, limit: u32, bytes: u32) -> Result<Vec<SubmittedEvent>, SubmittedError> {
        if self.floor.wants_last_drawn() {
            let query = sqlx::query_scalar(LAST_DRAWN_ID);
            let drawn: Option<i64> = patient(self.patience, query.fetch_one(&mut self.connection)).await?;
            let query = sqlx::query_scalar("SELECT pg_current_xact_id()::text::bigint");
            let transaction = patient(self.patience, query.fetch_one(&mut self.connection)).await?;
            if let Some(drawn) = drawn {
                self.floor.note_last_drawn(drawn, transaction);
            }
        }
        // The sizes are known without fetching values that are stored out of line. The query selects all columns: those
        // that an older schema lacks are absent, and when they are added while this connection is open, the server
        // rejects the prepared statement.
        let query = sqlx::query(
            "SELECT pg_snapshot_xmin(s.now)::text::bigint AS lowest_running, t.* \
               FROM (SELECT pg_current_snapshot() AS now) s \
               LEFT JOIN (SELECT lowest.*, sum(octet_length(envelope)) OVER (ORDER BY id) - octet_length(envelope) AS bytes_before \
                            FROM (SELECT * FROM belfry.submitted WHERE id > $1 ORDER BY id LIMIT $2) lowest) t \
                 ON t.bytes_before < $3 \
              ORDER BY t.id",
        )
        .bind(self.floor.start())
        .bind(i64::from(limit))
        .bind(i64::from(bytes));
        let rows = patient(self.patience, query.fetch_all(&mut self.connection)).await?;
        let Some(first) = rows.first() else { return Ok(Vec::new()) };
        let lowest_running = first.try_get("lowest_running")?;
        let mut events = Vec::with_capacity(rows.len());
        for row in &rows {
            events.extend(submitted_event(row)?);
        }
        self.floor.note_read(lowest_running, events.first().map(|event| event.id));
        Ok(events)
    }

    /// Deletes rows that are now in Belfry's log.
    pub async fn delete(&mut self, ids: &[i64]) -> Result<(), SubmittedError> {
        let query = sqlx::query("DELETE FROM belfry.submitted WHERE id = ANY($1)").bind(ids);
        patient(self.patience, query.execute(&mut self.connection)).await?;
        Ok(())
    }

    /// Closes the connection.
    pub async fn close(self) {
        // A server that does not respond detects the loss itself.
        let _ = timeout(GRACE, self.connection.close()).await;
    }
}

/// Limits the time of a statement. The server's own limits do not help when the network drops all packets.
async fn patient<T>(
    patience: Duration,
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, SubmittedError> {
    Ok(timeout(patience, statement).await.map_err(|_| SubmittedError::TimedOut(patience))??)
}

/// Returns `None` for the placeholder row that the query returns if nothing is submitted.
fn submitted_event(row: &PgRow) -> Result<Option<SubmittedEvent>, sqlx::Error> {
    let Some(id) = row.try_get::<Option<i64>, _>("id")? else { return Ok(None) };
    let topic = match row.try_get("topic") {
        Err(sqlx::Error::ColumnNotFound(_)) => None,
        topic => topic?,
    };
    Ok(Some(SubmittedEvent {
        id,
        event_id: row.try_get("event_id")?,
        event_key: row.try_get("event_key")?,
        topic,
        envelope: Bytes::from(row.try_get::<String, _>("envelope")?),
    }))
}
