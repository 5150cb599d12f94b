//! What a doctor learns of a database. It only looks: each examination is a statement or two on a connection of its own,
//! set up as the service's are.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::{Connection, PgConnection, Row};

use super::{connect, migrate};
use crate::{OpenError, StoreError, StoreSettings};

/// A transaction that idles longer than the service lets its own idle is somebody's mistake.
const IDLE_SECONDS: f64 = 5.0;
/// One that works for longer holds back what the database can clean up.
const LONG_SECONDS: f64 = 300.0;

/// What belfry needs to do with which table.
const NEEDED: [(&str, &str); 15] = [
    ("outbox", "SELECT INSERT"),
    ("component", "SELECT INSERT"),
    ("release", "SELECT INSERT"),
    ("rollout", "SELECT INSERT"),
    ("inbox", "SELECT INSERT DELETE"),
    ("issued", "SELECT INSERT DELETE"),
    ("withheld", "SELECT INSERT DELETE"),
    ("dead_letter", "SELECT INSERT DELETE"),
    ("consumer_position", "SELECT INSERT UPDATE"),
    ("relay", "SELECT INSERT UPDATE"),
    ("relay_checkpoint", "SELECT INSERT"),
    ("parked", "SELECT INSERT UPDATE DELETE"),
    ("retired", "SELECT"),
    ("event_outbox", "SELECT"),
    ("_sqlx_migrations", "SELECT"),
];

/// Looks at one database.
pub struct DatabaseDoctor {
    connection: PgConnection,
}

/// The server, as belfry's connections see it.
#[derive(Clone, Debug)]
pub struct Server {
    /// Such as 150004.
    pub version_number: i32,
    /// Such as 15.4.
    pub version: String,
    /// As whom we are connected.
    pub role: String,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// Settings that durability depends on, by name.
    pub settings: Vec<(String, String)>,
    /// Its clock less ours, in milliseconds, and by how much that may be wrong.
    pub clock_ahead_ms: (i64, i64),
    /// Standbys that are attached: how many, and how many of them a commit waits for; none where we may not see it.
    pub standbys: Option<(i64, i64)>,
}

/// Connections.
#[derive(Clone, Copy, Debug)]
pub struct Headroom {
    /// That anybody but a superuser may have.
    pub most: i64,
    /// That there are.
    pub used: i64,
}

/// The schema, and what the role may do with it.
#[derive(Clone, Debug)]
pub struct State {
    /// The schema's version, and the one that this program needs.
    pub version: (i64, i64),
    /// Rights that the role lacks, such as `INSERT on belfry.outbox`.
    pub missing: Vec<String>,
    /// How many ids a session of the log's sequence caches.
    pub cache: Option<i64>,
    /// Positions for which a partition is ready.
    pub positions_ahead: Option<i64>,
}

/// A session that holds the order lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockHolder {
    /// Its process; none if the transaction is prepared and has none.
    pub pid: Option<i32>,
    /// What it calls itself.
    pub application: String,
    /// Since when its transaction is open.
    pub since: String,
    /// Which transaction.
    transaction: String,
}

/// Something that keeps the database from cleaning up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    /// What it is and since when.
    pub what: String,
    /// What ends it.
    pub remedy: String,
}

/// A database in which another service submits events.
#[derive(Clone, Copy, Debug)]
pub struct SourceState {
    /// Whether the function and the table are there.
    pub installed: bool,
    /// Events that wait, counted up to 100,000.
    pub backlog: i64,
}

impl DatabaseDoctor {
    /// Connect as the service would.
    pub async fn connect(settings: &StoreSettings) -> Result<Self, OpenError> {
        let options = connect::options(settings)?.application_name("belfry doctor");
        Ok(Self { connection: PgConnection::connect_with(&options).await? })
    }

    /// Look at the server.
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

    /// Look at the connections.
    pub async fn headroom(&mut self) -> Result<Headroom, StoreError> {
        let row = sqlx::query(
            "SELECT current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint, \
                    (SELECT sum(numbackends)::bigint FROM pg_stat_database)",
        )
        .fetch_one(&mut self.connection)
        .await?;
        Ok(Headroom { most: row.try_get(0)?, used: row.try_get(1)? })
    }

    /// Look at the schema.
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
            Err(error) => return Err(StoreError(error.to_string())),
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
        let others: Vec<String> = sqlx::query_scalar(
            "SELECT 'USAGE on sequence belfry.' || c.relname FROM pg_class c \
              WHERE c.relkind = 'S' AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'belfry') \
                AND NOT has_sequence_privilege(c.oid, 'USAGE') \
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

    /// Who holds the order lock for longer than `patience`, in one and the same transaction.
    pub async fn order_lock(&mut self, patience: Duration) -> Result<Vec<LockHolder>, StoreError> {
        let before = self.lock_holders().await?;
        if before.is_empty() {
            return Ok(before);
        }
        tokio::time::sleep(patience).await;
        let now = self.lock_holders().await?;
        Ok(now.into_iter().filter(|holder| before.contains(holder)).collect())
    }

    async fn lock_holders(&mut self) -> Result<Vec<LockHolder>, StoreError> {
        let rows = sqlx::query(
            "SELECT l.pid, coalesce(nullif(a.application_name, ''), 'an application without a name'), \
                    coalesce(to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
                             'a time that this role may not see'), \
                    l.virtualtransaction \
               FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid \
              WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = 7341 \
                AND l.objid = (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                                WHERE n.nspname = 'belfry' AND c.relname = 'outbox') \
                AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY l.pid",
        )
        .fetch_all(&mut self.connection)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(LockHolder {
                    pid: row.try_get(0)?,
                    application: row.try_get(1)?,
                    since: row.try_get(2)?,
                    transaction: row.try_get(3)?,
                })
            })
            .collect()
    }

    /// What keeps the database from cleaning up: transactions that idle or last, prepared ones, and slots.
    pub async fn horizon(&mut self) -> Result<Vec<Activity>, StoreError> {
        let mut found = Vec::new();
        let sessions = sqlx::query(
            "SELECT pid, coalesce(nullif(application_name, ''), 'an application without a name'), state = 'active', \
                    extract(epoch FROM clock_timestamp() - CASE WHEN state = 'active' THEN xact_start ELSE state_change END)::float8 \
               FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() \
                AND (state LIKE 'idle in transaction%' AND state_change < clock_timestamp() - make_interval(secs => $1) \
                  OR state = 'active' AND xact_start < clock_timestamp() - make_interval(secs => $2)) \
              ORDER BY xact_start LIMIT 20",
        )
        .bind(IDLE_SECONDS)
        .bind(LONG_SECONDS)
        .fetch_all(&mut self.connection)
        .await?;
        for row in sessions {
            let (pid, application): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
            let (active, seconds): (bool, f64) = (row.try_get(2)?, row.try_get(3)?);
            let doing = if active { "has a transaction that works" } else { "idles in a transaction" };
            found.push(Activity {
                what: format!("pid {pid} ({application}) {doing} for {seconds:.0} s"),
                remedy: format!("mend that application, or end the session: SELECT pg_terminate_backend({pid})"),
            });
        }
        let prepared: Vec<(String, String)> = sqlx::query_as(
            "SELECT gid, to_char(prepared AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') FROM pg_prepared_xacts \
              WHERE database = current_database() ORDER BY prepared LIMIT 20",
        )
        .fetch_all(&mut self.connection)
        .await?;
        found.extend(prepared.into_iter().map(|(gid, since)| Activity {
            what: format!("transaction {gid:?} is prepared since {since}"),
            remedy: "finish it with COMMIT PREPARED or ROLLBACK PREPARED; belfry never prepares one".into(),
        }));
        let slots: Vec<(String, bool)> = sqlx::query_as(
            "SELECT slot_name::text, active FROM pg_replication_slots \
              WHERE NOT active OR wal_status IN ('unreserved', 'lost') ORDER BY slot_name LIMIT 20",
        )
        .fetch_all(&mut self.connection)
        .await?;
        found.extend(slots.into_iter().map(|(name, active)| Activity {
            what: format!("replication slot {name} {}", if active { "is falling behind" } else { "has no reader" }),
            remedy: format!("start its reader, or drop it: SELECT pg_drop_replication_slot('{name}')"),
        }));
        Ok(found)
    }

    /// Where a consumer group's partitions stand: topic, partition, next offset.
    pub async fn source_positions(&mut self, group: &str) -> Result<Vec<(String, i32, i64)>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT topic, partition, next_offset FROM belfry.consumer_position WHERE consumer_group = $1 \
              ORDER BY topic, partition LIMIT 10000",
        )
        .bind(group)
        .fetch_all(&mut self.connection)
        .await?)
    }

    /// Look at a database in which another service submits events.
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

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
