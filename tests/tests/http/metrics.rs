//! The table of metrics in docs/operating.md matches the metrics that the code records and those that a service exposes,
//! with types and labels.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use belfry_tests::servers::{Kafka, Redis, shared_kafka, shared_postgres};
use belfry_tests::{Batch, Client, Replica, ServiceDatabase, eventually, results_ready};
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

const DOCUMENTED: &str = include_str!("../../../docs/operating.md");
/// Metrics that the platform and its operators rely on.
const PROMISED: [&str; 18] = [
    "belfry_events_total",
    "belfry_project_seconds",
    "belfry_notifications_total",
    "belfry_withheld_total",
    "belfry_dead_letters_total",
    "belfry_outbox_oldest_unsent_seconds",
    "belfry_outbox_position",
    "belfry_writer_group_entries",
    "belfry_commit_seconds",
    "belfry_accept_to_ack_seconds",
    "belfry_breaker_state",
    "belfry_parked",
    "belfry_lease_held",
    "belfry_consumer_lag",
    "belfry_build_info",
    "kafka_event_headers_missing_total",
    "partition_key_resolution_seconds",
    "kafka_duplicate_events_total",
];

/// A metric's type, and its labels with all their possible values; without values if these are not listed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Metric {
    kind: String,
    labels: BTreeMap<String, BTreeSet<String>>,
}

type Metrics = BTreeMap<String, Metric>;

/// Returns the words in backticks of a table cell.
fn words(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Parses the table. Its columns are the name, the type, the labels as `label` = `value`, `value`, and what the metric
/// counts.
fn documented() -> Result<Metrics> {
    let section = DOCUMENTED.split("## Metrics").nth(1).and_then(|rest| rest.split("\n## ").next());
    let rows = section.context("a section on metrics")?.lines().filter(|line| line.starts_with("| `"));
    let mut metrics = Metrics::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        ensure!(cells.len() == 6, "{row}");
        let name = words(cells[1]).next().context("a name")?;
        let mut labels = BTreeMap::new();
        for label in cells[3].split(';').filter(|label| !label.trim().is_empty()) {
            let (named, values) = label.split_once('=').unwrap_or((label, ""));
            for name in words(named) {
                labels.insert(name.to_owned(), words(values).map(str::to_owned).collect());
            }
        }
        let metric = Metric { kind: cells[2].to_owned(), labels };
        ensure!(metrics.insert(name.to_owned(), metric).is_none(), "{name} is listed twice");
    }
    Ok(metrics)
}

/// Returns the metrics that the code records, found by their macro calls. Their labels have no values.
fn counted() -> Result<Metrics> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host");
    let (mut metrics, mut folders) = (Metrics::new(), vec![root]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                count_in(&std::fs::read_to_string(&path)?, &mut metrics).with_context(|| path.display().to_string())?;
            }
        }
    }
    Ok(metrics)
}

fn count_in(source: &str, metrics: &mut Metrics) -> Result<()> {
    for kind in ["counter", "gauge", "histogram"] {
        for call in source.split(&format!("metrics::{kind}!(")).skip(1) {
            let arguments = arguments(call).context("a bracket that closes the call")?;
            let mut quoted = arguments.split('"').skip(1).step_by(2);
            let name = quoted.next().context("a name as a literal")?.to_owned();
            let labels = arguments.split("\" =>").map(|before| before.rsplit('"').next().unwrap_or_default());
            let count = arguments.matches("\" =>").count();
            let labels: BTreeMap<_, _> = labels.take(count).map(|label| (label.to_owned(), BTreeSet::new())).collect();
            let metric = Metric { kind: kind.to_owned(), labels };
            let known = metrics.entry(name.clone()).or_insert_with(|| metric.clone());
            ensure!(*known == metric, "{name} is recorded in two ways: {known:?} and {metric:?}");
        }
    }
    Ok(())
}

/// Returns the text before the bracket that closes the call.
fn arguments(call: &str) -> Option<&str> {
    let mut depth = 1;
    for (place, letter) in call.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&call[..place]);
        }
    }
    None
}

/// Returns the metrics that a service exposes.
async fn shown(replica: &Replica) -> Result<Metrics> {
    let text = replica.process().metrics().await?;
    let mut metrics = Metrics::new();
    for line in text.lines() {
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').context("a type")?;
            metrics.insert(name.to_owned(), Metric { kind: kind.to_owned(), labels: BTreeMap::new() });
        }
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let name = if metrics.contains_key(name) { name } else { of_histogram.unwrap_or(name) };
        let metric = metrics.get_mut(name).with_context(|| format!("{name} has no type"))?;
        let labels = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |(labels, _)| labels);
        for label in labels.split("\",").filter(|label| !label.is_empty()) {
            let (name, value) = label.split_once("=\"").with_context(|| format!("a label: {line}"))?;
            if name != "le" {
                metric.labels.entry(name.to_owned()).or_default().insert(value.trim_end_matches('"').to_owned());
            }
        }
    }
    Ok(metrics)
}

/// Returns one line for each metric: its name, its type and the names of its labels.
fn outline(metrics: &Metrics) -> Vec<String> {
    let line = |(name, metric): (&String, &Metric)| {
        let labels: Vec<&str> = metric.labels.keys().map(String::as_str).collect();
        format!("{name} {} {}", metric.kind, labels.join(","))
    };
    metrics.iter().map(line).collect()
}

#[test]
fn the_table_has_what_the_code_counts_and_nothing_else() -> Result<()> {
    let (documented, counted) = (outline(&documented()?), outline(&counted()?));
    let missing: Vec<&String> = counted.iter().filter(|line| !documented.contains(line)).collect();
    let unfounded: Vec<&String> = documented.iter().filter(|line| !counted.contains(line)).collect();
    ensure!(
        missing.is_empty() && unfounded.is_empty(),
        "not in the table: {missing:#?}; only in the table: {unfounded:#?}"
    );
    Ok(())
}

#[test]
fn the_table_has_what_was_promised() -> Result<()> {
    let documented = documented()?;
    let missing: Vec<&&str> = PROMISED.iter().filter(|name| !documented.contains_key(**name)).collect();
    ensure!(missing.is_empty(), "not in the table: {missing:?}");
    Ok(())
}

/// A service that records every metric: it has all sources and all sinks, and failures of each kind.
struct Busy {
    kafka: &'static Kafka,
    _redis: Redis,
    directory: TempDir,
    service_database: ServiceDatabase,
    store: String,
    topic: String,
    one: Replica,
    other: Replica,
}

impl Busy {
    async fn start() -> Result<Self> {
        let (kafka, postgres) = (shared_kafka().await?, shared_postgres().await?);
        let directory = TempDir::new()?;
        let redis = Redis::start(&directory.path().join("redis")).await?;
        let database = postgres.create_database().await?;
        let service_database = ServiceDatabase::create(postgres).await?;
        let topic = format!("metrics.{}", Uuid::new_v4().simple());
        kafka.create_topic(&topic, 1, &[]).await?;
        kafka.create_topic(&format!("{topic}.notifications"), 1, &[]).await?;
        let posted = results_ready(&Batch::number(0))["event_type"].as_str().unwrap_or_default().to_owned();
        kafka.create_topic(&posted, 1, &[]).await?;
        let mut settings = vec![
            ("kafka.brokers", kafka.bootstrap()),
            ("kafka.group", topic.clone()),
            ("kafka.topics", format!("[\"{topic}\"]")),
            ("kafka.start_at", "earliest".to_owned()),
            ("kafka.properties.statistics.interval.ms", "200".to_owned()),
            ("source.postgres", ServiceDatabase::setting(&[&service_database])),
            ("notification.topic", format!("{topic}.notifications")),
            ("sink.kafka.enabled", "true".to_owned()),
            ("sink.redis.enabled", "true".to_owned()),
            ("sink.redis.beside_kafka", "true".to_owned()),
            ("sink.stdout.enabled", "true".to_owned()),
            ("releases.recheck_percent", "100".to_owned()),
        ];
        let url = redis.url();
        let one = Replica::start(&database, Some(&url), &settings).await?;
        // The three attempts at its first event get no processor time.
        settings.push(("FAILPOINTS", "project.call=3*sleep(1000)".to_owned()));
        let other = Replica::start(&database, Some(&url), &settings).await?;
        for replica in [&one, &other] {
            replica.wait_for_redis("connected").await?;
        }
        let store = database.url;
        Ok(Self { kafka, _redis: redis, directory, service_database, store, topic, one, other })
    }

    /// Sends events through every source, including duplicates, conflicts and malformed ones, and makes rules fail.
    async fn work(&self) -> Result<()> {
        let client: Client = self.other.client();
        let mut feed = client.feed("from=now", None).await?;
        let event = |number| results_ready(&Batch::number(number));
        let posted = client.post(&event(1)).await?;
        ensure!(posted.status == 503, "{posted:?}");
        self.one.client().push_and_activate(belfry_artifacts::URGENT_FAILURES, &json!({})).await?;
        for event in [event(1), event(1), {
            let mut other = event(1);
            other["data"]["overall_status"] = json!("failed");
            other
        }] {
            self.one.client().post(&event).await?;
            client.post(&event).await?;
        }
        self.one.client().post_text("{}").await?;
        Client::collect(&mut feed, 1).await?;
        self.service_database.submit(&event(2).to_string(), None).await?;
        self.service_database.wait_until_read().await?;
        // A rule whose notifications have expired, and an event whose notification is too large.
        let expired = json!({ "behaviour": "expired" });
        self.one.client().push_and_activate(belfry_artifacts::programs::HOSTILE, &expired).await?;
        let mut oversized = event(3);
        oversized["data"]["user_id"] = json!("x".repeat(100_000));
        self.one.client().post(&oversized).await?;
        for _ in 0..2 {
            self.kafka.produce(&self.topic, None, &[], Some(event(4).to_string().as_bytes())).await?;
        }
        // A release that fails during its trial.
        let trapping = json!({ "behaviour": "trap" });
        let tried = self.one.client().push(belfry_artifacts::programs::HOSTILE, &trapping).await?.body;
        let steps = json!([{ "percent": 100, "seconds": 600, "events": 1000 }]);
        let canary = json!({ "release_id": tried["release_id"], "mode": "canary", "steps": steps });
        self.one.client().post_to("/v1/projectors/hostile/trial", &canary).await?;
        for number in 200..225 {
            self.one.client().post(&event(number)).await?;
        }
        // A release that fails until it is suspended.
        let trap = json!({ "behaviour": "trap" });
        self.one.client().push_and_activate(belfry_artifacts::programs::HOSTILE, &trap).await?;
        for number in 100..125 {
            self.one.client().post(&event(number)).await?;
        }
        let broken = (0..150).map(|_| self.kafka.produce(&self.topic, None, &[], Some(b"not JSON")));
        futures_util::future::try_join_all(broken).await?;
        Ok(())
    }
}

/// Metrics that appear only if clients are denied or cut off, or if Belfry itself fails. `access.rs`, `slow_clients.rs` and
/// `kafka_source/poison.rs` check them.
const IN_TROUBLE: [&str; 3] = ["belfry_denied_total", "belfry_connections_closed_total", "belfry_task_panics_total"];

#[tokio::test]
async fn what_a_service_shows_is_in_the_table_with_its_type_and_labels() -> Result<()> {
    let busy = Busy::start().await?;
    busy.work().await?;
    let documented = documented()?;
    // A metric may appear on only one of the two replicas: either one may hold a lease or a partition.
    let both = async || {
        let mut all = shown(&busy.one).await?;
        for (name, metric) in shown(&busy.other).await? {
            let known = all.entry(name).or_insert_with(|| metric.clone());
            metric.labels.into_iter().for_each(|(label, values)| known.labels.entry(label).or_default().extend(values));
        }
        Ok(all)
    };
    let all_are_seen =
        |seen: &Metrics| documented.keys().all(|name| IN_TROUBLE.contains(&name.as_str()) || seen.contains_key(name));
    let seen = eventually("every metric in the table is exposed", both, all_are_seen).await?;
    for (name, metric) in &seen {
        let row = documented.get(name).with_context(|| format!("{name} is not in the table"))?;
        ensure!(row.kind == metric.kind, "{name} is a {}, not a {}", metric.kind, row.kind);
        let (labels, expected): (Vec<_>, Vec<_>) = (metric.labels.keys().collect(), row.labels.keys().collect());
        ensure!(labels == expected, "{name} has the labels {labels:?}, not {expected:?}");
        for (label, values) in &metric.labels {
            let listed = &row.labels[label];
            ensure!(
                listed.is_empty() || values.is_subset(listed),
                "{name}: {label} has the values {values:?}, the table lists {listed:?}"
            );
        }
    }
    drop((busy.store, busy.directory));
    Ok(())
}
