//! Checks of other sessions for `belfry doctor`: who holds the order lock, and what prevents the database from cleaning
//! up.

use std::time::Duration;

use sqlx::Row;

use super::doctor::DatabaseDoctor;
use crate::StoreError;

/// Seconds that a transaction may idle. The service does not let its own transactions idle longer, so another one is a
/// mistake.
const IDLE_SECONDS: f64 = 5.0;
/// Seconds after which an active transaction holds back what the database can clean up.
const LONG_SECONDS: f64 = 300.0;

/// A session that holds the order lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockHolder {
    /// Its process id; `None` if the transaction is prepared and has no process.
    pub pid: Option<i32>,
    /// Its application name.
    pub application: String,
    /// When its transaction began.
    pub since: String,
    /// The virtual id of its transaction.
    transaction: String,
}

/// Something that prevents the database from cleaning up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    /// What it is, and since when.
    pub what: String,
    /// How to end it.
    pub remedy: String,
}

impl DatabaseDoctor {
    /// Returns the sessions that hold the order lock for longer than `patience`, in one and the same transaction.
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

    /// Returns what prevents the database from cleaning up: idle and long transactions, prepared ones, and replication
    /// slots.
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
            let doing = if active { "has had a transaction active" } else { "has been idle in a transaction" };
            found.push(Activity {
                what: format!("pid {pid} ({application}) {doing} for {seconds:.0} s"),
                remedy: format!("fix that application, or end the session: SELECT pg_terminate_backend({pid})"),
            });
        }
        let prepared: Vec<(String, String)> = sqlx::query_as(
            "SELECT gid, to_char(prepared AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') FROM pg_prepared_xacts \
              WHERE database = current_database() ORDER BY prepared LIMIT 20",
        )
        .fetch_all(&mut self.connection)
        .await?;
        found.extend(prepared.into_iter().map(|(gid, since)| Activity {
            what: format!("transaction {gid:?} has been prepared since {since}"),
            remedy: "finish it with COMMIT PREPARED or ROLLBACK PREPARED; belfry never prepares one".into(),
        }));
        let slots: Vec<(String, bool)> = sqlx::query_as(
            "SELECT slot_name::text, active FROM pg_replication_slots \
              WHERE NOT active OR wal_status IN ('unreserved', 'lost') ORDER BY slot_name LIMIT 20",
        )
        .fetch_all(&mut self.connection)
        .await?;
        found.extend(slots.into_iter().map(|(name, active)| Activity {
            what: format!("replication slot {name} {}", if active { "is falling behind" } else { "has no consumer" }),
            remedy: format!("start its consumer, or drop it: SELECT pg_drop_replication_slot('{name}')"),
        }));
        Ok(found)
    }
}
