//! `belfry doctor` on healthy services, and on services with one problem after another.

use anyhow::{Context, Result, ensure};
use belfry_store::{Store, StoreSettings};
use belfry_tests::servers::{Kafka, Postgres, Redis};
use belfry_tests::{Ended, belfry, eventually};
use serde_json::Value;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};
use tempfile::TempDir;

const DECLARED: [&str; 3] = [
    "huleedu.notification.teacher.requested.v1",
    "huleedu.ras.batch.results.ready.v1",
    "huleedu.ras.batch.assessment.completed.v1",
];

struct Patient {
    settings: Vec<String>,
}

impl Patient {
    async fn examined(&self) -> Result<Ended> {
        let mut arguments = vec!["--output", "json", "doctor"];
        self.settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
        belfry(&arguments).await
    }

    /// Returns the checks with this name.
    async fn found(&self, name: &str) -> Result<Vec<Value>> {
        let ended = self.examined().await?;
        Ok(ended.json()?.into_iter().filter(|check| check["check"] == name).collect())
    }

    async fn finds(&self, name: &str, state: &str, word: &str) -> Result<()> {
        let is_found = |checks: &Vec<Value>| {
            checks.iter().any(|check| {
                check["state"] == state && check["finding"].as_str().is_some_and(|finding| finding.contains(word))
            })
        };
        let checks = eventually(name, async || self.found(name).await, is_found).await?;
        ensure!(checks.iter().any(|check| check["remedy"].is_string()), "no remedy: {checks:?}");
        Ok(())
    }

    async fn is_fine(&self, name: &str) -> Result<()> {
        let is_ok = |checks: &Vec<Value>| !checks.is_empty() && checks.iter().all(|check| check["state"] == "ok");
        eventually(name, async || self.found(name).await, is_ok).await.map(drop)
    }
}

async fn connect(url: &str) -> Result<PgConnection> {
    let options: sqlx::postgres::PgConnectOptions = url.parse()?;
    Ok(options.application_name("forgetful").connect().await?)
}

#[tokio::test]
async fn each_thing_that_is_wrong_is_found_with_a_remedy() -> Result<()> {
    let directory = TempDir::new()?;
    let path = |name: &str| directory.path().join(name);
    let postgres = Postgres::start(&path("postgres"), &[("max_prepared_transactions", "2")]).await?;
    let redis = Redis::start(&path("redis")).await?;
    let kafka = Kafka::start(&path("kafka")).await?;
    postgres.execute("CREATE ROLE belfry_runtime LOGIN").await?;
    let database = postgres.create_database().await?;
    Store::open(&StoreSettings::new(&database.url)).await?.close().await;
    for topic in DECLARED {
        kafka.create_topic(topic, 4, &[("cleanup.policy", "delete")]).await?;
    }
    let tokens = path("tokens");
    std::fs::write(&tokens, "")?;
    let patient = Patient {
        settings: vec![
            format!("store.url={}", database.url_for("belfry_runtime")),
            format!("kafka.brokers={}", kafka.bootstrap()),
            format!("redis.url={}", redis.url()),
            "sink.kafka.enabled=true".into(),
        ],
    };

    let healthy = patient.examined().await?;
    ensure!(healthy.code == Some(0), "{healthy:?}");
    for check in healthy.json()? {
        let expected = if check["check"].as_str().is_some_and(|name| name.starts_with("topic ")) {
            // The test has a single broker, so a topic cannot have two replicas.
            check["state"] == "warning" && check["finding"].as_str().is_some_and(|text| text.contains("one replica"))
        } else {
            check["state"] == "ok"
        };
        ensure!(expected, "{check}");
    }

    let mut forgetful = connect(&database.url).await?;
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut forgetful).await?;
    let mut transaction = forgetful.begin().await?;
    transaction.execute("SELECT pg_advisory_xact_lock(7341, 'belfry.outbox'::regclass::oid::int)").await?;
    patient.finds("order lock", "failed", &format!("pid {pid} (forgetful)")).await?;
    let examined = patient.examined().await?;
    ensure!(examined.code == Some(3), "{examined:?}");
    transaction.rollback().await?;
    patient.is_fine("order lock").await?;

    let mut superuser = connect(&database.url).await?;
    let mut idle = forgetful.begin().await?;
    idle.execute("SELECT count(*) FROM belfry.outbox").await?;
    patient.settings_as(&database.url).finds("clean-up", "warning", "idle in a transaction").await?;
    idle.rollback().await?;
    superuser.execute("BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'left-over'").await?;
    patient.finds("clean-up", "warning", "left-over").await?;
    superuser.execute("ROLLBACK PREPARED 'left-over'").await?;
    patient.is_fine("clean-up").await?;

    superuser.execute("ALTER SEQUENCE belfry.outbox_id CACHE 20").await?;
    patient.finds("log positions", "failed", "caches 20").await?;
    superuser.execute("ALTER SEQUENCE belfry.outbox_id CACHE 1").await?;
    superuser.execute("REVOKE INSERT ON belfry.parked FROM belfry_runtime").await?;
    patient.finds("rights", "failed", "INSERT on belfry.parked").await?;

    kafka.set_topic(DECLARED[1], &[("cleanup.policy", "compact")]).await?;
    patient.finds(&format!("topic {}", DECLARED[1]), "failed", "cleanup.policy is compact instead of delete").await?;
    kafka.delete_topic(DECLARED[2]).await?;
    patient.finds(&format!("topic {}", DECLARED[2]), "failed", "does not exist").await?;

    redis.stop().await?;
    patient.finds("redis", "failed", "does not answer").await?;
    let readable =
        Patient { settings: [patient.settings.as_slice(), &[format!("redis.url_file={}", tokens.display())]].concat() };
    readable.finds("redis.url_file", "warning", "all users of this machine can read").await?;
    postgres.stop().await?;
    let database_gone = patient.examined().await?;
    ensure!(database_gone.code == Some(3), "{database_gone:?}");
    let checks = database_gone.json()?;
    let database = checks.iter().find(|check| check["check"] == "database").context("no check of the database")?;
    ensure!(database["state"] == "failed", "{database}");
    ensure!(
        checks.iter().any(|check| check["check"] == "kafka" && check["state"] == "ok"),
        "the other checks still run"
    );
    Ok(())
}

impl Patient {
    /// Returns the patient with another database URL, so with the privileges of another role.
    fn settings_as(&self, url: &str) -> Self {
        let mut settings = self.settings.clone();
        settings[0] = format!("store.url={url}");
        Self { settings }
    }
}
