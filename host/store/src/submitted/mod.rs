//! Events that another service submitted with `belfry.submit`, in a database of its own.
//!
//! Rows are read in the order of their ids, and deleted once they are in Belfry's log. Every read begins at the lowest id
//! that may still appear, not behind the last one read: a transaction that commits late makes lower ids visible, and one
//! that waited for it has a higher id, so passing over what is not there yet would turn the two around.

mod floor;
mod migrate;

use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{ConnectOptions, Connection, PgConnection, Row};
use tokio::time::timeout;
use uuid::Uuid;

use crate::server_keepalive::SERVER_KEEPALIVE;
use floor::Floor;
pub use migrate::migrate_submit;

/// The last id that was drawn. Not `SELECT last_value`: while the server logs a sequence, once in some thirty numbers, the row
/// shows the number up to which it is logged, up to 32 ahead. The function waits until that is over.
pub const LAST_DRAWN_ID: &str = "SELECT pg_sequence_last_value('belfry.submitted_id_seq')";

/// The server ends a statement itself before we give the connection up.
const GRACE: Duration = Duration::from_secs(2);

/// How another service's database is reached.
#[derive(Clone, Debug)]
pub struct SubmittedSettings {
    /// `postgres://…`.
    pub url: String,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long a statement may take.
    pub statement_timeout: Duration,
}

/// Why a service's database cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SubmittedError {
    /// The URL cannot be read. It is not quoted: it may hold a password.
    #[error(
        "not an address of a database; use postgres://USER@HOST:PORT/DATABASE, and url_file where it holds a password"
    )]
    Address,
    /// Nothing can be submitted there.
    #[error("the database has no belfry.submitted; run `belfry migrate --submit-only --url URL` for it, as its owner")]
    NotInstalled,
    /// The role may not do what is needed.
    #[error(
        "the role {0} may not read belfry.submitted and delete from it; make it a member of belfry_runtime, or grant it \
         USAGE on the schema belfry, SELECT and DELETE on belfry.submitted, SELECT on belfry.submitted_id_seq"
    )]
    NotAllowed(String),
    /// A standby cannot delete.
    #[error("the server is a standby, from which nothing can be deleted; name the primary")]
    Standby,
    /// It does not answer.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The database refuses.
    #[error("{0}")]
    Database(#[from] sqlx::Error),
}

/// An event as it was submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmittedEvent {
    /// Its place: ids grow within a transaction, and from one to another that waited for it.
    pub id: i64,
    /// The event's id.
    pub event_id: Uuid,
    /// The partition key that the service chose.
    pub event_key: Option<String>,
    /// The topic that the service chose; none: that of the event's type.
    pub topic: Option<String>,
    /// Exactly the text submitted, but for what was missing.
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
        // The error of the parser may quote the address, and with it a password.
        let options = PgConnectOptions::from_str(&self.url).map_err(|_| SubmittedError::Address)?;
        let options = options.application_name("belfry").options(SERVER_KEEPALIVE).options([
            ("statement_timeout", self.statement_timeout.as_millis().to_string()),
            ("lock_timeout", self.statement_timeout.as_millis().to_string()),
            // The statistics of a table that is mostly empty say nothing of the moments when it is not.
            ("enable_seqscan", "off".into()),
            ("enable_bitmapscan", "off".into()),
            // A deletion that a crash undoes is repeated; there is no need for the service's disk to hurry for it.
            ("synchronous_commit", "off".into()),
        ]);
        Ok(options.disable_statement_logging())
    }

    /// Whether the address can be read.
    pub fn check(&self) -> Result<(), SubmittedError> {
        self.options().map(|_| ())
    }
}

impl Submitted {
    /// Connect, and see that events can be read there and deleted.
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

    /// The lowest rows that are there: `limit` at most, and as many as have `bytes` together, but one at least.
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
        // The sizes are known without fetching what is stored out of line. All columns: those that an older schema does not
        // have are absent, and once they are added under this connection, the server refuses the statement as prepared.
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

    /// Delete rows that are in Belfry's log now.
    pub async fn delete(&mut self, ids: &[i64]) -> Result<(), SubmittedError> {
        let query = sqlx::query("DELETE FROM belfry.submitted WHERE id = ANY($1)").bind(ids);
        patient(self.patience, query.execute(&mut self.connection)).await?;
        Ok(())
    }

    /// Say goodbye to the server.
    pub async fn close(self) {
        // One that does not answer notices by itself.
        let _ = timeout(GRACE, self.connection.close()).await;
    }
}

/// The server's own limits do not help against a network that swallows everything.
async fn patient<T>(
    patience: Duration,
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, SubmittedError> {
    Ok(timeout(patience, statement).await.map_err(|_| SubmittedError::TimedOut(patience))??)
}

/// None stands in the one row that there is when nothing is submitted.
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
