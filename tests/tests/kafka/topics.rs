//! `belfry topics` against a real broker.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use belfry_store::{ChangeFilter, Store, StoreSettings};
use belfry_tests::servers::{Kafka, shared_kafka};
use belfry_tests::{Ended, belfry};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigSource, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

/// A topic for one test, as declared in the configuration.
struct Declared {
    directory: TempDir,
    kafka: &'static Kafka,
    topic: String,
}

impl Declared {
    async fn new(declared: &str) -> Result<Self> {
        let (directory, kafka) = (TempDir::new()?, shared_kafka().await?);
        let topic = format!("{}.v1", Uuid::new_v4().simple());
        let brokers = kafka.bootstrap();
        let store = directory.path().join("belfry.db");
        let file = format!(
            "[store]\nurl = \"sqlite:{}\"\n[kafka]\nbrokers = \"{brokers}\"\n[kafka.declared.\"{topic}\"]\n{declared}\n",
            store.display()
        );
        std::fs::write(directory.path().join("belfry.toml"), file)?;
        Ok(Self { directory, kafka, topic })
    }

    async fn topics(&self, arguments: &[&str]) -> Result<Ended> {
        let file = self.directory.path().join("belfry.toml").display().to_string();
        belfry([&["topics"], arguments, &[&self.topic, "--output", "json", "--config", &file]].concat()).await
    }

    /// Returns the settings that were set explicitly for the topic.
    async fn settings(&self) -> Result<BTreeMap<String, String>> {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", self.kafka.direct()).create()?;
        let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(20)));
        let described = admin.describe_configs([&ResourceSpecifier::Topic(&self.topic)], &options).await?;
        let described = described.into_iter().next().context("an answer")?.context("the topic")?;
        let set = described.entries.into_iter().filter(|entry| entry.source == ConfigSource::DynamicTopic);
        Ok(set.filter_map(|entry| Some((entry.name, entry.value?))).collect())
    }
}

fn rows(ended: &Ended) -> Result<Vec<[String; 3]>> {
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line)?;
        Ok([text(&row, "what"), text(&row, "is"), text(&row, "declared")])
    };
    ended.stdout.lines().map(row).collect()
}

#[tokio::test]
async fn a_missing_topic_is_shown_and_then_created_as_declared() -> Result<()> {
    let declared = "partitions = 3\nreplication_factor = 1\nsettings = { \"cleanup.policy\" = \"compact,delete\", \
                    \"retention.ms\" = \"604800000\" }";
    let declared = Declared::new(declared).await?;
    let checked = declared.topics(&["check"]).await?;
    ensure!(checked.code == Some(3), "{:?} {}", checked.code, checked.stderr);
    ensure!(rows(&checked)? == [["topic", "missing", "there"].map(str::to_owned)], "{}", checked.stdout);

    // There is no terminal to ask for confirmation, so nothing is changed.
    let refused = declared.topics(&["apply"]).await?;
    ensure!(refused.code == Some(5) && refused.stderr.contains("--yes"), "{:?} {}", refused.code, refused.stderr);
    // The warning that there is no store to record the changes in precedes any change.
    ensure!(refused.stderr.contains("will not be in the audit log: there is no database"), "{}", refused.stderr);
    let shown = declared.topics(&["apply", "--dry-run", "--yes"]).await?;
    ensure!(shown.code == Some(0) && shown.stdout == checked.stdout, "{}{}", shown.stdout, shown.stderr);
    ensure!(declared.topics(&["check"]).await?.code == Some(3), "a dry run changed something");

    let applied = declared.topics(&["apply", "--yes"]).await?;
    ensure!(applied.code == Some(0), "{:?} {}", applied.code, applied.stderr);
    let unnoted = applied.stderr.contains("will not be in the audit log: there is no database");
    ensure!(unnoted && !declared.directory.path().join("belfry.db").exists(), "{}", applied.stderr);
    let checked = declared.topics(&["check"]).await?;
    ensure!(checked.code == Some(0) && checked.stdout.is_empty(), "{}{}", checked.stdout, checked.stderr);
    let settings = declared.settings().await?;
    ensure!(settings["retention.ms"] == "604800000" && settings["cleanup.policy"].contains("compact"), "{settings:?}");
    Ok(())
}

#[tokio::test]
async fn what_is_not_declared_survives_a_change() -> Result<()> {
    let declared = "partitions = 4\nreplication_factor = 1\nsettings = { \"retention.ms\" = \"86400000\" }";
    let declared = Declared::new(declared).await?;
    let foreign = [("retention.ms", "1000000"), ("max.message.bytes", "2000000"), ("min.insync.replicas", "1")];
    declared.kafka.create_topic(&declared.topic, 2, &foreign).await?;
    let store = StoreSettings::new(format!("sqlite:{}", declared.directory.path().join("belfry.db").display()));
    Store::open(&store).await?.close().await;

    let checked = declared.topics(&["check"]).await?;
    let expected = [["partitions", "2", "4"], ["retention.ms", "1000000", "86400000"]];
    ensure!(checked.code == Some(3), "{:?} {}", checked.code, checked.stderr);
    ensure!(rows(&checked)? == expected.map(|row| row.map(str::to_owned)), "{}", checked.stdout);
    let applied = declared.topics(&["apply", "--yes"]).await?;
    ensure!(applied.code == Some(0) && applied.stderr.contains("keys move"), "{:?} {}", applied.code, applied.stderr);
    ensure!(declared.topics(&["check"]).await?.code == Some(0));
    let noted = Store::open(&store).await?.changes(&ChangeFilter::default(), i64::MAX, 10).await?;
    let details: Vec<&str> = noted.iter().rev().map(|change| change.detail.as_str()).collect();
    let was_and_is = [("partitions", "2", "4"), ("retention.ms", "1000000", "86400000")];
    let expected = was_and_is.map(|(what, was, is)| json!({ "what": what, "was": was, "is": is }).to_string());
    ensure!(details == expected && noted[0].subject == declared.topic, "{noted:?}");

    let settings = declared.settings().await?;
    let expected = [("max.message.bytes", "2000000"), ("min.insync.replicas", "1"), ("retention.ms", "86400000")];
    let expected: BTreeMap<_, _> = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    ensure!(settings == expected, "{settings:?}");
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_applied_is_told() -> Result<()> {
    let declared = "partitions = 1\nreplication_factor = 3\nsettings = { \"no.such.setting\" = \"1\" }";
    let declared = Declared::new(declared).await?;
    declared.kafka.create_topic(&declared.topic, 1, &[]).await?;
    let applied = declared.topics(&["apply", "--yes"]).await?;
    ensure!(applied.code == Some(3), "{:?} {}", applied.code, applied.stderr);
    ensure!(applied.stderr.contains("replication factor 1 3"), "{}", applied.stderr);
    ensure!(
        !applied.stderr.contains("audit log"),
        "nothing is changed, so there is nothing to record: {}",
        applied.stderr
    );
    let unknown = declared.topics(&["check", "another.topic"]).await?;
    ensure!(
        unknown.code == Some(4) && unknown.stderr.contains("not declared"),
        "{:?} {}",
        unknown.code,
        unknown.stderr
    );
    Ok(())
}
