//! Kafka over SASL_SSL with SCRAM, PostgreSQL and Redis over TLS, and secrets from files, with exactly the settings that
//! docs/encryption.md shows. Also the errors if a password or a certificate authority is wrong.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use belfry_store::{StoreSettings, migrate};
use belfry_tests::servers::{
    Certificates, Database, Kafka, Postgres, PostgresOptions, Redis, RedisOptions, SCRAM_PASSWORD,
};
use belfry_tests::{Batch, BelfryProcess, Ended, belfry, eventually, results_ready};
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

const DOCUMENTED: &str = include_str!("../../../docs/encryption.md");
const NOTIFICATIONS: &str = "huleedu.notification.teacher.requested.v1";
const POSTGRES_PASSWORD: &str = "canary-postgres-5d1e";
const REDIS_PASSWORD: &str = "canary-redis-8c2b";
const WRONG_PASSWORD: &str = "canary-guessed-0b7f";

/// Servers that accept only encrypted connections with a password, and the files that the documentation describes.
struct Secured {
    directory: TempDir,
    postgres: Postgres,
    kafka: Kafka,
    redis: Redis,
    database: Database,
}

impl Secured {
    async fn start() -> Result<Self> {
        let directory = TempDir::new()?;
        let path = |name: &str| directory.path().join(name);
        let certificates = Certificates::make(&path("certificates"))?;
        let strange = Certificates::make(&path("strange"))?;
        let options = PostgresOptions { certificates: Some(&certificates), ..Default::default() };
        let postgres = Postgres::start_with(&path("postgres"), options).await?;
        let options = RedisOptions { certificates: Some(&certificates), ..Default::default() };
        let redis = Redis::start_with(&path("redis"), options).await?;
        let kafka = Kafka::start_secured(&path("kafka"), &certificates).await?;
        for name in ["etc", "secrets"] {
            std::fs::create_dir(path(name))?;
        }
        std::fs::copy(certificates.authority(), path("etc/ca.pem"))?;
        std::fs::copy(strange.authority(), path("etc/strange.pem"))?;

        postgres.execute(&format!("CREATE ROLE belfry_runtime LOGIN PASSWORD '{POSTGRES_PASSWORD}'")).await?;
        let database = postgres.create_database().await?;
        migrate(&StoreSettings::new(&database.url)).await?;
        let authority =
            redis::TlsCertificates { client_tls: None, root_cert: Some(std::fs::read(path("etc/ca.pem"))?) };
        let client = redis::Client::build_with_tls(redis.url(), authority)?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let rights = [&format!(">{REDIS_PASSWORD}"), "on", "allchannels", "allkeys", "+@all"];
        redis::cmd("ACL").arg("SETUSER").arg("belfry").arg(&rights).query_async::<()>(&mut connection).await?;
        let strangers = ["resetpass", "-@all", "off"];
        redis::cmd("ACL").arg("SETUSER").arg("default").arg(&strangers).query_async::<()>(&mut connection).await?;

        let secured = Self { directory, postgres, kafka, redis, database };
        secured.write_secrets()?;
        secured.configure(&[])?;
        Ok(secured)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn secret(&self, name: &str, text: &str) -> Result<()> {
        // Editors end a file with a newline.
        Ok(std::fs::write(self.path("secrets").join(name), format!("{text}\n"))?)
    }

    fn write_secrets(&self) -> Result<()> {
        self.secret("postgres-url", &self.postgres_url(POSTGRES_PASSWORD, "ca.pem"))?;
        self.secret("kafka-password", SCRAM_PASSWORD)?;
        self.secret("redis-url", &self.redis_url(REDIS_PASSWORD))
    }

    fn postgres_url(&self, password: &str, authority: &str) -> String {
        let (port, name, authority) = (self.postgres.port(), &self.database.name, self.path("etc").join(authority));
        let authority = authority.display();
        format!(
            "postgres://belfry_runtime:{password}@127.0.0.1:{port}/{name}?sslmode=verify-full&sslrootcert={authority}"
        )
    }

    fn redis_url(&self, password: &str) -> String {
        format!("rediss://belfry:{password}@127.0.0.1:{}", self.redis.port())
    }

    /// Writes the documented configuration with this test's paths and addresses, after other replacements.
    fn configure(&self, replaced: &[(&str, &str)]) -> Result<()> {
        let block = DOCUMENTED.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
        let mut text = block.context("no settings in docs/encryption.md")?.to_owned();
        let (etc, secrets) = (self.path("etc").display().to_string(), self.path("secrets").display().to_string());
        let places =
            [("/etc/belfry", etc.as_str()), ("/run/secrets", &secrets), ("kafka-1:9093", &self.kafka.bootstrap())];
        for (from, to) in replaced.iter().chain(&places) {
            ensure!(text.contains(from), "{from} is not in {text}");
            text = text.replace(from, to);
        }
        Ok(std::fs::write(self.path("belfry.toml"), format!("preset = \"testing\"\n{text}"))?)
    }

    async fn serve(&self) -> Result<BelfryProcess> {
        let cache = self.path("compiled").display().to_string();
        let settings = [("sandbox.cache_directory", cache), ("log.level", "debug".to_owned())];
        BelfryProcess::start_with(self.directory.path(), &settings).await
    }

    async fn belfry(&self, arguments: &[&str]) -> Result<Ended> {
        let config = self.path("belfry.toml").display().to_string();
        let ended = belfry(&[arguments, &["--config", &config]].concat()).await?;
        no_secret_in(&format!("{}{}", ended.stdout, ended.stderr))?;
        Ok(ended)
    }

    /// Returns what a process wrote to its log and to stdout.
    fn output(&self, process: &BelfryProcess) -> Result<String> {
        let output = process.log()? + &std::fs::read_to_string(self.path("stdout"))?;
        no_secret_in(&output)?;
        Ok(output)
    }
}

fn no_secret_in(output: &str) -> Result<()> {
    for secret in [SCRAM_PASSWORD, POSTGRES_PASSWORD, REDIS_PASSWORD, WRONG_PASSWORD] {
        ensure!(!output.contains(secret), "{secret} is in the output:\n{output}");
    }
    Ok(())
}

/// Returns the check of `belfry doctor` with this name.
async fn examined(secured: &Secured, name: &str) -> Result<Value> {
    let checks = secured.belfry(&["--output", "json", "doctor"]).await?;
    let check = checks.json()?.into_iter().find(|check| check["check"] == name);
    check.with_context(|| format!("{name}: {checks:?}"))
}

fn is_numbered(batch: &Batch, records: &[belfry_tests::servers::KafkaRecord]) -> bool {
    records.len() == 1 && records[0].key.as_deref() == Some(batch.teacher.as_bytes())
}

#[tokio::test]
async fn an_event_comes_in_and_its_notification_goes_out_encrypted() -> Result<()> {
    let secured = Secured::start().await?;
    let applied = secured.belfry(&["topics", "apply", "--yes"]).await?;
    ensure!(applied.code == Some(0), "{applied:?}");
    let checked = secured.belfry(&["topics", "check"]).await?;
    ensure!(checked.code == Some(0), "{checked:?}");
    let process = secured.serve().await?;

    let batch = Batch::number(1);
    let event = results_ready(&batch);
    let topic = event["event_type"].as_str().context("no event type")?;
    secured.kafka.produce(topic, Some(b"batch-1"), &[], Some(event.to_string().as_bytes())).await?;
    let notified = async || secured.kafka.read_topic(NOTIFICATIONS).await;
    let records = eventually("the notification is sent", notified, |records| !records.is_empty()).await?;
    ensure!(is_numbered(&batch, &records), "{records:?}");

    let readiness = async || process.readiness().await;
    let is_well = |seen: &Value| seen["redis"] == "connected" && seen["sinks"][0]["breaker"] == "closed";
    let seen = eventually("redis and the sink are connected", readiness, is_well).await?;
    ensure!(seen["sinks"][0]["sink"] == "kafka" && seen["sinks"][0]["error"].is_null(), "{seen}");
    let mut admin = PgConnection::connect(&secured.database.url).await?;
    let encrypted: Vec<bool> = sqlx::query_scalar(
        "SELECT s.ssl FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.usename = 'belfry_runtime'",
    )
    .fetch_all(&mut admin)
    .await?;
    ensure!(encrypted.len() >= 3 && encrypted.iter().all(|encrypted| *encrypted), "{encrypted:?}");

    for name in ["database", "kafka", "redis"] {
        let check = examined(&secured, name).await?;
        ensure!(check["state"] == "ok", "{check}");
    }
    let position = secured.belfry(&["--output", "json", "position", "show"]).await?;
    ensure!(position.code == Some(0), "{position:?}");
    let read: i64 = position.json()?.iter().filter_map(|row| row["position"].as_i64()).sum();
    ensure!(read == 1, "{position:?}");
    let audited = secured.belfry(&["audit"]).await?;
    ensure!(audited.code == Some(0), "{audited:?}");
    let shown = secured.belfry(&["config", "show"]).await?;
    ensure!(shown.code == Some(0) && shown.stdout.contains("SASL_SSL"), "{shown:?}");
    let output = secured.output(&process)?;
    let ready = output.lines().find(|line| line.contains("\"ready\"")).context("no line about readiness")?;
    ensure!(ready.contains("postgres://127.0.0.1"), "the line must show the store's address: {ready}");
    process.terminate().await
}

async fn refused(secured: &Secured, code: i32, words: &[&str]) -> Result<()> {
    let error = secured.serve().await.err().context("the service started")?;
    let output = format!("{error:#}");
    no_secret_in(&output)?;
    let code = format!("exit status: {code}");
    ensure!(words.iter().chain(&[code.as_str()]).all(|word| output.contains(word)), "{words:?}: {output}");
    Ok(())
}

/// Checks that the service accepts events, that its sink and its log report why it cannot send to Kafka, and that its log
/// reports why Redis is disconnected.
async fn goes_on(secured: &Secured, kafka: &[&str], redis: &[&str]) -> Result<()> {
    let process = secured.serve().await?;
    let posted = process.client().post(&results_ready(&Batch::number(2))).await?;
    ensure!(posted.status.is_success(), "{posted:?}");
    let says = |text: &str, words: &[&str]| words.iter().all(|word| text.contains(word));
    let error = async || Ok(process.readiness().await?["sinks"][0]["error"].as_str().map(str::to_owned));
    let is_told = |error: &Option<String>| error.as_deref().is_some_and(|error| says(error, kafka));
    eventually("the sink reports the reason", error, is_told).await?;
    let is_logged = |output: &String| {
        let at_error = output.lines().filter(|line| line.contains("\"ERROR\""));
        at_error.into_iter().any(|line| says(line, kafka)) && output.lines().any(|line| says(line, redis))
    };
    eventually("the log shows the reason", async || secured.output(&process), is_logged).await?;
    ensure!(process.readiness().await?["redis"] == "disconnected");
    for arguments in [&["topics", "check"][..], &["position", "show"], &["audit"]] {
        let ended = secured.belfry(arguments).await?;
        ensure!(ended.code.is_some_and(|code| code != 0) && says(&ended.stderr, kafka), "{arguments:?}: {ended:?}");
    }
    for (name, words) in [("kafka", kafka), ("redis", redis)] {
        let check = examined(secured, name).await?;
        ensure!(check["state"] == "failed" && says(&check.to_string(), words), "{check}");
    }
    process.terminate().await
}

#[tokio::test]
async fn a_password_or_an_authority_that_does_not_fit_is_named_and_no_secret_is_told() -> Result<()> {
    let secured = Secured::start().await?;
    secured.belfry(&["topics", "apply", "--yes"]).await?;
    // An earlier notification, so that there is something to audit.
    let process = secured.serve().await?;
    process.client().post(&results_ready(&Batch::number(1))).await?;
    eventually(
        "the notification is sent",
        async || secured.kafka.read_topic(NOTIFICATIONS).await,
        |records| records.len() == 1,
    )
    .await?;
    process.terminate().await?;

    secured.secret("postgres-url", &secured.postgres_url(WRONG_PASSWORD, "ca.pem"))?;
    refused(&secured, 1, &["password authentication failed", "url_file"]).await?;
    let check = examined(&secured, "database").await?;
    ensure!(check["state"] == "failed" && check.to_string().contains("url_file"), "{check}");
    secured.secret("postgres-url", &secured.postgres_url(POSTGRES_PASSWORD, "strange.pem"))?;
    refused(&secured, 1, &["certificate", "sslrootcert"]).await?;
    let check = examined(&secured, "database").await?;
    ensure!(check["state"] == "failed" && check.to_string().contains("sslrootcert"), "{check}");
    secured.write_secrets()?;

    secured.secret("kafka-password", WRONG_PASSWORD)?;
    secured.secret("redis-url", &secured.redis_url(WRONG_PASSWORD))?;
    goes_on(&secured, &["sasl.password_file", "user or password"], &["user and password", "redis.url_file"]).await?;
    secured.write_secrets()?;

    secured.configure(&[("/etc/belfry/ca.pem", "/etc/belfry/strange.pem")])?;
    goes_on(&secured, &["certificate verify failed", "ssl.ca.location"], &["certificate", "redis.ca_file"]).await?;

    secured.configure(&[("\"/etc/belfry/ca.pem\"", "\"/etc/belfry/missing.pem\"")])?;
    refused(&secured, 78, &["missing.pem"]).await?;
    secured.configure(&[("kafka-password\"", "missing\"")])?;
    refused(&secured, 78, &["kafka.properties.sasl.password_file", "missing"]).await?;

    // With valid settings again, the events accepted meanwhile are sent, each once.
    secured.configure(&[])?;
    let process = secured.serve().await?;
    let sent = async || secured.kafka.read_topic(NOTIFICATIONS).await;
    eventually("the accepted events are sent", sent, |records| records.len() == 2).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    ensure!(secured.kafka.read_topic(NOTIFICATIONS).await?.len() == 2, "a notification was sent twice");
    process.terminate().await
}
