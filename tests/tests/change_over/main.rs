//! The change-over from the platform's present notifier, step by step as `docs/change-over.md` describes it; and from a
//! service's own outbox table. The checks use only what clients wrote and the records on the topics.

mod comparison;
mod load;
mod old_notifier;
mod own_outbox;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use belfry_tests::servers::{Database, Kafka, shared_kafka, shared_postgres};
use belfry_tests::{BelfryProcess, Ended, belfry, eventually};
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use load::{Ledger, Load};
use old_notifier::OldNotifier;

const PARTITIONS: i32 = 4;
/// Time limit for all events to be notified.
const PATIENCE: Duration = Duration::from_secs(60);

/// A database, topics and a directory, and the settings of `belfry` for them.
struct Site {
    kafka: &'static Kafka,
    database: Database,
    directory: TempDir,
    input: String,
    output: String,
    group: String,
}

impl Site {
    async fn new() -> Result<Self> {
        let (kafka, database) = (shared_kafka().await?, shared_postgres().await?.create_database().await?);
        let name = Uuid::new_v4().simple().to_string();
        let (input, output) = (format!("{name}.events"), format!("{name}.notifications"));
        kafka.create_topic(&input, PARTITIONS, &[]).await?;
        kafka.create_topic(&output, PARTITIONS, &[]).await?;
        let directory = TempDir::new()?;
        let session = "[kafka.properties]\n\"session.timeout.ms\" = 6000\n\"heartbeat.interval.ms\" = 300\n";
        std::fs::write(directory.path().join("belfry.toml"), session)?;
        Ok(Self { kafka, database, directory, input, output, group: format!("belfry-{name}") })
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("preset", "testing".to_owned()),
            ("store.url", self.database.url.clone()),
            ("kafka.brokers", self.kafka.bootstrap()),
            ("kafka.group", self.group.clone()),
            ("kafka.topics", format!("[\"{}\"]", self.input)),
            ("kafka.start_at", "latest".to_owned()),
            ("notification.topic", self.output.clone()),
            ("sink.kafka.enabled", "true".to_owned()),
            ("sandbox.cache_directory", self.directory.path().join("compiled").display().to_string()),
        ]
    }

    /// Starts two replicas that observe, behind the old notifier.
    async fn observe(&self, old: &OldNotifier) -> Result<Vec<BelfryProcess>> {
        self.start(&[("delivery.mode", "observe".to_owned()), ("kafka.behind", old.group.clone())]).await
    }

    /// Starts two replicas that send.
    async fn send(&self) -> Result<Vec<BelfryProcess>> {
        self.start(&[]).await
    }

    async fn start(&self, more: &[(&'static str, String)]) -> Result<Vec<BelfryProcess>> {
        let mut settings = self.settings();
        settings.extend_from_slice(more);
        let mut replicas = Vec::new();
        for _ in 0..2 {
            replicas.push(BelfryProcess::start_with(self.directory.path(), &settings).await?);
        }
        Ok(replicas)
    }

    /// Runs a command with the same settings.
    async fn belfry(&self, arguments: &[&str]) -> Result<Ended> {
        let settings: Vec<String> = self.settings().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut all = vec!["--output", "json"];
        all.extend_from_slice(arguments);
        settings.iter().for_each(|setting| all.extend(["--set", setting]));
        belfry(&all).await
    }

    /// Returns the number of Belfry's observed notifications in the log.
    async fn observed(&self) -> Result<i64> {
        let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&self.database.url).await?;
        let count = "SELECT count(*) FROM belfry.outbox WHERE source_event_id IS NOT NULL AND topic IS NULL";
        Ok(sqlx::query_scalar(count).fetch_one(&mut connection).await?)
    }

    /// Returns the database's current time.
    async fn now(&self) -> Result<String> {
        let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&self.database.url).await?;
        let now = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')";
        Ok(sqlx::query_scalar(now).fetch_one(&mut connection).await?)
    }

    /// Waits until Belfry can take over from the old notifier.
    async fn reaches_the_old_position(&self, old: &OldNotifier) -> Result<()> {
        let look = async || self.belfry(&["position", "show", "--beside", &old.group]).await;
        eventually("both are at the same position", look, |ended| ended.code == Some(0)).await?;
        Ok(())
    }

    /// Returns the numbers of notifications by the old notifier and by Belfry, for each event, recipient and type.
    async fn notifications(&self) -> Result<HashMap<(String, String, String), [usize; 2]>> {
        let mut notifications: HashMap<(String, String, String), [usize; 2]> = HashMap::new();
        for record in self.kafka.read_topic(&self.output).await? {
            let message: Value = serde_json::from_slice(record.payload.as_deref().context("a message")?)?;
            let text = |name: &str| message["data"][name].as_str().unwrap_or_default().to_owned();
            let by_belfry = usize::from(!message["metadata"]["belfry"].is_null());
            notifications
                .entry((text("correlation_id"), text("teacher_id"), text("notification_type")))
                .or_default()[by_belfry] += 1;
        }
        Ok(notifications)
    }

    /// Checks that each event notified the right teacher once. Returns the numbers of events notified by the old
    /// notifier and by Belfry.
    async fn each_is_notified_once(&self, ledger: &Ledger) -> Result<[usize; 2]> {
        let began = Instant::now();
        loop {
            let (notifications, mut sums, mut missing) = (self.notifications().await?, [0, 0], 0);
            for written in ledger.all() {
                let who = notifications.get(&(written.correlation, written.teacher, written.kind.to_owned()));
                let [old, new] = who.copied().unwrap_or_default();
                ensure!(
                    old + new <= 1,
                    "notified {old} times by the old notifier and {new} times by belfry: {}",
                    written.event
                );
                missing += usize::from(old + new == 0);
                sums = [sums[0] + old, sums[1] + new];
            }
            if missing == 0 {
                ensure!(
                    notifications.len() == ledger.len(),
                    "{} notifications of {} events",
                    notifications.len(),
                    ledger.len()
                );
                return Ok(sums);
            }
            ensure!(began.elapsed() < PATIENCE, "{missing} events of {} have no notification", ledger.len());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn stop(replicas: Vec<BelfryProcess>) -> Result<()> {
    for replica in replicas {
        replica.terminate().await?;
    }
    Ok(())
}

/// Waits until at least `count` more events are written.
async fn flow(load: &Load, count: usize) -> Result<()> {
    let wanted = load.ledger.len() + count;
    eventually("events flow", async || Ok(load.ledger.len()), |written| *written >= wanted).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_begins_where_a_notifier_stands_that_lags() -> Result<()> {
    let site = Site::new().await?;
    let old = OldNotifier::new(site.kafka, &site.input, &site.output);
    let running = old.start();
    let load = Load::start(site.kafka, &site.input);
    eventually("the old notifier sends", async || Ok(old.sent()), |sent| *sent >= 80).await?;
    running.stop().await?;
    // The old notifier still has all of these to send when Belfry begins.
    flow(&load, 80).await?;
    let replicas = site.observe(&old).await?;
    site.reaches_the_old_position(&old).await?;
    ensure!(site.observed().await? == 0, "it has observed events that the old notifier has yet to send");
    stop(replicas).await?;
    load.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guide_leads_from_the_old_notifier_to_belfry_and_back_and_everybody_is_told_once() -> Result<()> {
    let site = Site::new().await?;
    let old = OldNotifier::new(site.kafka, &site.input, &site.output);
    let running = old.start();
    let load = Load::start(site.kafka, &site.input);
    flow(&load, 100).await?;

    // 1. Observe. Belfry begins at the end of the topics, where the old notifier is as long as it keeps up.
    eventually("the old notifier keeps up", async || Ok(old.sent() + 20), |sent| *sent >= load.ledger.len()).await?;
    let replicas = site.observe(&old).await?;
    let observed_from = load.ledger.len();
    flow(&load, 300).await?;
    load.repeats.send_replace(Some(observed_from + 50));
    eventually("events are observed", async || site.observed().await, |observed| *observed >= 200).await?;

    // 2. Compare.
    // From a time when both keep up: a notification that one of them sent long before the other is not compared.
    let look = async || {
        let since = site.now().await?;
        flow(&load, 600).await?;
        Ok((site.belfry(&["compare", "--from", &since, "--grace", "2s"]).await?, since))
    };
    let agree = |(ended, _): &(Ended, _)| ended.code == Some(0) && ended.json().is_ok_and(|lines| same(&lines) >= 100);
    let (_, since) = eventually("both send the same", look, agree).await?;
    let beside = site.belfry(&["position", "show", "--beside", &old.group]).await?;
    ensure!(beside.code == Some(3) && beside.stderr.contains("still running"), "{beside:?}");

    // 3. and 4. The old notifier stops at any time, and Belfry reaches the position where it stopped.
    let sent_by_the_old_one = old.sent();
    running.stop().await?;
    flow(&load, 100).await?;
    site.reaches_the_old_position(&old).await?;

    // 5. Send. An incomplete change of the settings is rejected.
    let halved = site.belfry(&["config", "check", "--set", &format!("kafka.behind={}", old.group)]).await?;
    ensure!(halved.code == Some(78) && halved.stderr.contains("kafka.behind"), "{halved:?}");
    stop(replicas).await?;
    let replicas = site.send().await?;
    flow(&load, 300).await?;
    ensure!(old.sent() >= sent_by_the_old_one && load.ledger.len() > old.sent(), "both sent notifications");

    // Back, while events flow: Belfry stops, and the old notifier continues at Belfry's position.
    load.repeats.send_replace(None);
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop(replicas).await?;
    old.go_on_for(&site.group, PARTITIONS).await?;
    let running = old.start();
    let replicas = site.observe(&old).await?;
    flow(&load, 200).await?;

    // And forth again, on the same database: notifications observed meanwhile are not sent.
    running.stop().await?;
    site.reaches_the_old_position(&old).await?;
    stop(replicas).await?;
    let replicas = site.send().await?;
    load.repeats.send_replace(Some(observed_from + 50));
    flow(&load, 200).await?;

    let ledger = load.stop().await?;
    let [by_the_old_one, by_belfry] = site.each_is_notified_once(&ledger).await?;
    eprintln!("{} events: {by_the_old_one} notified by the old notifier, {by_belfry} by belfry", ledger.len());
    ensure!(by_the_old_one > 300 && by_belfry > 300, "{by_the_old_one} {by_belfry}");
    // 6. The checks that the guide recommends afterwards.
    let until = site.now().await?;
    let compared = site.belfry(&["compare", "--from", &since, "--to", &until]).await?;
    ensure!(compared.code == Some(0), "{compared:?}");
    let lines = compared.json()?;
    let summary = &lines.last().context("a summary")?["summary"];
    ensure!(summary["sent"].as_u64() > Some(300) && same(&lines) > 300, "{summary}");
    let audited = site.belfry(&["audit"]).await?;
    ensure!(audited.code == Some(0), "{audited:?}");
    stop(replicas).await
}

fn same(lines: &[Value]) -> u64 {
    lines.last().and_then(|line| line["summary"]["same"].as_u64()).unwrap_or_default()
}
