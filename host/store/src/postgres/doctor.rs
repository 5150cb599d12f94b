//! Checks of a database for `belfry doctor`. They only read: each check consists of one or two statements on a
//! dedicated connection, which is set up like the service's connections.

use sqlx::{Connection, PgConnection, Row};

use super::{connect, migrate};
use crate::clock::now_ms;
use crate::{OpenError, StoreError, StoreSettings};

/// The privileges that Belfry needs on each table.
const NEEDED: [(&str, &str); 23] = [
    ("outbox", "SELECT INSERT"),
    ("component", "SELECT INSERT"),
    ("component_signature", "SELECT INSERT"),
    ("release", "SELECT INSERT"),
    ("rollout", "SELECT INSERT"),
    ("trial_tally", "SELECT INSERT UPDATE DELETE"),
    ("pause", "SELECT INSERT"),
    ("audit_log", "SELECT INSERT"),
    ("access_token", "SELECT INSERT UPDATE"),
    ("inbox", "SELECT INSERT DELETE"),
    ("issued", "SELECT INSERT DELETE"),
    ("withheld", "SELECT INSERT DELETE"),
    ("dead_letter", "SELECT INSERT UPDATE DELETE"),
    ("consumer_position", "SELECT INSERT UPDATE"),
    ("relay", "SELECT INSERT UPDATE DELETE"),
    ("relay_checkpoint", "SELECT INSERT DELETE"),
    ("parked", "SELECT INSERT UPDATE DELETE"),
    ("held_topic", "SELECT INSERT UPDATE DELETE"),
    ("unparked", "SELECT INSERT DELETE"),
    ("discarded", "SELECT INSERT"),
    ("retired", "SELECT"),
    ("event_outbox", "SELECT"),
    ("_sqlx_migrations", "SELECT"),
];

/// A connection that examines one database.
pub struct DatabaseDoctor {
    pub(super) connection: PgConnection,
}

/// The server, as Belfry's connections see it.
#[derive(Clone, Debug)]
pub struct Server {
    /// The version number, such as 150004.
    pub version_number: i32,
    /// The version, such as 15.4.
    pub version: String,
    /// The role of the session.
    pub role: String,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// Settings that affect durability, by name.
    pub settings: Vec<(String, String)>,
    /// How far the server's clock is ahead of the local clock, and the uncertainty of this value, both in milliseconds.
    pub clock_ahead_ms: (i64, i64),
    /// Number of attached standbys, and number of those that a commit waits for; `None` if the role may not see them.
    pub standbys: Option<(i64, i64)>,
}

/// The server's connections.
#[derive(Clone, Copy, Debug)]
pub struct Headroom {
    /// Maximum number of connections for roles other than superusers.
    pub most: i64,
    /// Number of connections in use.
    pub used: i64,
}

/// The schema, and the role's privileges on it.
#[derive(Clone, Debug)]
pub struct State {
    /// The schema's version, and the version that this program requires.
    pub version: (i64, i64),
    /// Privileges that the role lacks, such as `INSERT on belfry.outbox`.
    pub missing: Vec<String>,
    /// Number of ids that a session caches of the log's sequence.
    pub cache: Option<i64>,
    /// Number of unused positions for which a partition is ready.
    pub positions_ahead: Option<i64>,
}

/// A database in which another service submits events.
#[derive(Clone, Copy, Debug)]
pub struct SourceState {
    /// Whether the function and the table exist.
    pub installed: bool,
    /// Number of queued events, counted up to 100,000.
    pub backlog: i64,
}

impl DatabaseDoctor {
    /// Connects with the service's options.
    pub async fn connect(settings: &StoreSettings) -> Result<Self, OpenError> {
        let options = connect::options(settings)?.application_name("belfry doctor");
        Ok(Self { connection: PgConnection::connect_with(&options).await? })
    }

    /// Examines the server.
    pub async fn server(&mut self) -> Result<Server, StoreError> {
        let settings = sqlx::query_as(
            "SELECT name, setting FROM pg_settings \
              WHERE name IN ('synchronous_commit', 'fsync', 'full_page_writes', 'synchronous_standby_names')",
        )
        .fetch_all(&mut self.connection)
        .await?;
        let standbys = sqlx::query(
            "SELECT count(*), count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')), \
                    count(*) FILTER (WHERE sync_state IS NULL) FROM pg_stat_replication",
        )
        .fetch_one(&mut self.connection)
        .await?;
        let hidden: i64 = standbys.try_get(2)?;
        let before = now_ms();
        let row = sqlx::query(
            "SELECT current_setting('server_version_num')::int, current_setting('server_version'), current_user::text, \
                    pg_is_in_recovery(), (extract(epoch FROM clock_timestamp()) * 1000)::bigint",
        )
        .fetch_one(&mut self.connection)
        .await?;
        let after = now_ms();
        Ok(Server {
            version_number: row.try_get(0)?,
            version: row.try_get(1)?,
            role: row.try_get(2)?,
            in_recovery: row.try_get(3)?,
            settings,
            clock_ahead_ms: (row.try_get::<i64, _>(4)? - (before + after) / 2, (after - before) / 2 + 1),
            standbys: (hidden == 0).then_some((standbys.try_get(0)?, standbys.try_get(1)?)),
        })
    }

    /// Examines the connections.
    pub async fn headroom(&mut self) -> Result<Headroom, StoreError> {
        let row = sqlx::query(
            "SELECT current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint, \
                    (SELECT sum(numbackends)::bigint FROM pg_stat_database)",
        )
        .fetch_one(&mut self.connection)
        .await?;
        Ok(Headroom { most: row.try_get(0)?, used: row.try_get(1)? })
    }

    /// Examines the schema.
    pub async fn schema(&mut self) -> Result<State, StoreError> {
        let there: bool = sqlx::query_scalar(
            "SELECT coalesce((SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = 'belfry'), true)",
        )
        .fetch_one(&mut self.connection)
        .await?;
        let needed = migrate::needed();
        if !there {
            let missing = vec!["USAGE on schema belfry".to_owned()];
            return Ok(State { version: (needed, needed), missing, cache: None, positions_ahead: None });
        }
        let mut missing = self.missing_rights().await?;
        let version = match migrate::version(&mut self.connection).await {
            Ok(version) => version,
            Err(_) if !missing.is_empty() => needed,
            Err(error) => return Err(StoreError::Failed(error.to_string())),
        };
        if version == 0 {
            missing.clear();
            return Ok(State { version: (0, needed), missing, cache: None, positions_ahead: None });
        }
        let cache = sqlx::query_scalar(
            "SELECT s.seqcache FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid \
               JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'belfry' AND c.relname = 'outbox_id'",
        )
        .fetch_optional(&mut self.connection)
        .await?;
        let ahead: Result<Option<i64>, _> = sqlx::query_scalar(
            "SELECT max(substring(pg_get_expr(c.relpartbound, c.oid) FROM $re$TO \\('?(\\d+)'?\\)$re$)::bigint) - 1 \
                      - (SELECT last_value FROM belfry.outbox_id) \
               FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'belfry.outbox'::regclass",
        )
        .fetch_one(&mut self.connection)
        .await;
        Ok(State { version: (version, needed), missing, cache, positions_ahead: ahead.ok().flatten() })
    }

    async fn missing_rights(&mut self) -> Result<Vec<String>, StoreError> {
        let rights = NEEDED.iter().flat_map(|(table, rights)| rights.split(' ').map(move |right| (*table, right)));
        let (tables, rights): (Vec<&str>, Vec<&str>) = rights.unzip();
        let mut missing: Vec<String> = sqlx::query_scalar(
            "SELECT n.r || ' on belfry.' || n.t FROM unnest($1::text[], $2::text[]) n (t, r) \
               LEFT JOIN pg_class c ON c.relname = n.t AND c.relnamespace = \
                 (SELECT oid FROM pg_namespace WHERE nspname = 'belfry') \
              WHERE c.oid IS NULL OR NOT has_table_privilege(c.oid, n.r) ORDER BY n.t, n.r",
        )
        .bind(tables)
        .bind(rights)
        .fetch_all(&mut self.connection)
        .await?;
        // The planner chooses the order of conditions, and a table has no sequence privileges to check: hence CASE.
        let others: Vec<String> = sqlx::query_scalar(
            "SELECT 'USAGE on sequence belfry.' || c.relname FROM pg_class c \
              WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'belfry') \
                AND CASE WHEN c.relkind = 'S' THEN NOT has_sequence_privilege(c.oid, 'USAGE') END \
             UNION ALL \
             SELECT 'EXECUTE on function belfry.' || p.proname FROM pg_proc p \
              WHERE p.pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'belfry') \
                AND p.proname IN ('extend_log', 'retire_log', 'incarnation') \
                AND NOT has_function_privilege(p.oid, 'EXECUTE') ORDER BY 1",
        )
        .fetch_all(&mut self.connection)
        .await?;
        missing.extend(others);
        Ok(missing)
    }

    /// Returns the positions of a consumer group's partitions: topic, partition, next offset.
    pub async fn source_positions(&mut self, group: &str) -> Result<Vec<(String, i32, i64)>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT topic, partition, next_offset FROM belfry.consumer_position WHERE consumer_group = $1 \
              ORDER BY topic, partition LIMIT 10000",
        )
        .bind(group)
        .fetch_all(&mut self.connection)
        .await?)
    }

    /// Examines a database in which another service submits events.
    pub async fn source(&mut self) -> Result<SourceState, StoreError> {
        let installed: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
                             WHERE n.nspname = 'belfry' AND p.proname = 'submit') \
                AND EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                             WHERE n.nspname = 'belfry' AND c.relname = 'submitted')",
        )
        .fetch_one(&mut self.connection)
        .await?;
        if !installed {
            return Ok(SourceState { installed, backlog: 0 });
        }
        let backlog = sqlx::query_scalar("SELECT count(*) FROM (SELECT FROM belfry.submitted LIMIT 100000) waiting")
            .fetch_one(&mut self.connection)
            .await?;
        Ok(SourceState { installed, backlog })
    }
}
