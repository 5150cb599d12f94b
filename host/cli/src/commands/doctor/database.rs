//! Checks of the store.

use std::time::Duration;

use belfry_service::config::Config;
use belfry_store::{DatabaseDoctor, DatabaseState, Headroom, Server, StoreError};

use super::check::Check;

/// The longest time that a session should hold the order lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// A larger difference between clocks makes timestamps misleading.
const CLOCKS_MS: i64 = 1000;
const OLDEST_SERVER: i32 = 150_000;

pub(super) async fn check(config: &Config) -> Vec<Check> {
    let settings = match config.store.settings() {
        Ok(settings) => settings,
        Err(error) => return vec![Check::failed("database", error.to_string(), "fix store.url_file")],
    };
    if config.store.is_embedded() {
        return vec![Check::ok("database", format!("{}, for a single process", config.store.url))];
    }
    let mut doctor = match DatabaseDoctor::connect(&settings).await {
        Ok(doctor) => doctor,
        Err(error) => {
            let remedy = "start the database, or fix store.url; until it is available, events are refused with 503";
            return vec![Check::failed("database", error.to_string(), remedy)];
        }
    };
    let mut checks = answered("database", doctor.server().await, server);
    checks.extend(answered("database connections", doctor.headroom().await, |headroom| {
        connections(headroom, i64::from(config.store.max_connections) + 2)
    }));
    checks.extend(answered("database schema", doctor.schema().await, |state| schema(state, config)));
    checks.extend(answered("order lock", doctor.order_lock(LOCK_PATIENCE).await, |holders| {
        if holders.is_empty() {
            return vec![Check::ok("order lock", "no session holds it for long")];
        }
        let held = holders.into_iter().map(|holder| {
            let (who, remedy) = match holder.pid {
                Some(pid) => (format!("pid {pid}"), format!("end the session: SELECT pg_terminate_backend({pid})")),
                None => ("a prepared transaction".to_owned(), "finish it with ROLLBACK PREPARED".to_owned()),
            };
            let finding = format!(
                "{who} ({}) has held it for over a second, in a transaction open since {}: no replica can commit",
                holder.application, holder.since
            );
            Check::failed("order lock", finding, remedy)
        });
        held.collect()
    }));
    checks.extend(answered("clean-up", doctor.horizon().await, |pinned| {
        if pinned.is_empty() {
            return vec![Check::ok("clean-up", "nothing prevents it")];
        }
        pinned.into_iter().map(|pinned| Check::warning("clean-up", pinned.what, pinned.remedy)).collect()
    }));
    checks
}

fn answered<T>(name: &str, answer: Result<T, StoreError>, judge: impl FnOnce(T) -> Vec<Check>) -> Vec<Check> {
    match answer {
        Ok(answer) => judge(answer),
        Err(error) => vec![Check::failed(name, error.to_string(), "see the database's log")],
    }
}

fn server(server: Server) -> Vec<Check> {
    let Server { version_number, version, role, in_recovery, settings, clock_ahead_ms, standbys } = server;
    let found = format!("PostgreSQL {version}, as {role}");
    let mut checks = vec![if version_number < OLDEST_SERVER {
        Check::failed("database", found, "use PostgreSQL 15 or newer")
    } else if in_recovery {
        Check::failed("database", format!("{found}, a standby"), "set store.url to the primary")
    } else {
        Check::ok("database", found)
    }];
    let setting = |name: &str| settings.iter().find(|(setting, _)| setting == name).map_or("", |(_, value)| value);
    let unsafe_ones = ["fsync", "full_page_writes", "synchronous_commit"];
    let off: Vec<&str> = unsafe_ones.into_iter().filter(|name| setting(name) == "off").collect();
    checks.push(if off.is_empty() {
        Check::ok("durability", "fsync, full_page_writes and synchronous_commit are on")
    } else {
        let remedy =
            "enable it in postgresql.conf; a crash of the database's machine loses acknowledged events, or more";
        Check::failed("durability", format!("{} is off", off.join(", ")), remedy)
    });
    checks.push(failover(setting("synchronous_standby_names"), standbys));
    let (ahead, doubt) = clock_ahead_ms;
    checks.push(if ahead.abs() - doubt > CLOCKS_MS {
        let finding = format!("the database's clock differs from this machine's by {} ms", ahead.abs());
        Check::warning(
            "clocks",
            finding,
            "synchronise both clocks with NTP; leases depend on the database's clock only",
        )
    } else {
        Check::ok("clocks", format!("they differ by at most {} ms", ahead.abs() + doubt))
    });
    checks
}

fn failover(names: &str, standbys: Option<(i64, i64)>) -> Check {
    let name = "failover";
    match (names.is_empty(), standbys) {
        (true, Some((0, _))) => Check::ok(name, "no standby is attached"),
        (true, None) => Check::ok(name, "no synchronous standby; this role cannot see whether there are others"),
        (true, Some(_)) => Check::warning(
            name,
            "the standbys are asynchronous: a failover can lose the last commits, even if acknowledged or published",
            "set synchronous_standby_names; after a failover without it, run `belfry audit`",
        ),
        (false, Some((_, 0))) => Check::failed(
            name,
            "a synchronous standby is configured, but none is attached: commits wait for one",
            "start the standby, or remove it from synchronous_standby_names",
        ),
        (false, _) => Check::ok(name, format!("commits wait for a standby: {names}")),
    }
}

fn connections(headroom: Headroom, needed: i64) -> Vec<Check> {
    let left = headroom.most - headroom.used;
    let finding = format!("{} of {} are in use; a replica uses up to {needed}", headroom.used, headroom.most);
    vec![if left < needed {
        Check::warning("connections", finding, "raise max_connections, or lower store.max_connections")
    } else {
        Check::ok("connections", finding)
    }]
}

fn schema(state: DatabaseState, config: &Config) -> Vec<Check> {
    let DatabaseState { version: (found, needed), missing, cache, positions_ahead } = state;
    let version = format!("version {found}, this version of belfry needs {needed}");
    if found < needed {
        return vec![if config.store.migrate {
            Check::warning("schema", version, "run `belfry migrate`, or restart belfry, which migrates it")
        } else {
            Check::failed("schema", version, "run `belfry migrate`")
        }];
    }
    let mut checks = vec![Check::ok("schema", version)];
    checks.push(if missing.is_empty() {
        Check::ok("rights", "the role has all privileges that it needs")
    } else {
        let remedy = "run `belfry migrate` as the owner, which grants them to belfry_runtime, or connect as that role";
        Check::failed("rights", format!("the role lacks {}", missing.join(", ")), remedy)
    });
    checks.push(match cache {
        Some(1) => Check::ok("log positions", "belfry.outbox_id caches no positions"),
        cache => {
            let cached = cache.map_or("is missing".to_owned(), |cache| format!("caches {cache} positions"));
            let finding =
                format!("belfry.outbox_id {cached}: positions become visible out of order, and readers skip entries");
            Check::failed("log positions", finding, "ALTER SEQUENCE belfry.outbox_id CACHE 1")
        }
    });
    checks.push(match positions_ahead {
        Some(ahead) if ahead > 0 => Check::ok("log partitions", format!("partitions exist for {ahead} more positions")),
        Some(_) => {
            let finding = "no partition exists for the next position";
            Check::warning("log partitions", finding, "start belfry, which creates them; see its log if that fails")
        }
        None => Check::warning("log partitions", "unknown", "connect as a role that may read belfry.outbox_id"),
    });
    checks
}
