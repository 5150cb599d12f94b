//! Checks of Kafka: the cluster, the topics, the consumer group.

use std::collections::HashMap;
use std::time::Duration;

use belfry_model::MAX_MESSAGE_BYTES;
use belfry_service::config::{Config, DeclaredTopic};
use belfry_service::kafka::Client;
use belfry_store::DatabaseDoctor;
use rdkafka::admin::{AdminClient, AdminOptions, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::check::Check;

/// The time limit of each request.
const PATIENCE: Duration = Duration::from_secs(5);

/// A topic as the broker describes it.
struct Topic {
    error: Option<RDKafkaErrorCode>,
    partitions: usize,
    without_leader: usize,
    /// Replicas of the partition that has the fewest.
    replicas: usize,
    settings: HashMap<String, String>,
}

pub(super) async fn check(config: &Config) -> Vec<Check> {
    if config.kafka.brokers.is_empty() {
        return vec![Check::ok("kafka", "not configured")];
    }
    let client = match Client::new(&config.kafka, None) {
        Ok(client) => client,
        Err(error) => return vec![Check::failed("kafka", error.to_string(), "fix [kafka]")],
    };
    let names = names(config);
    let (reached, topics) = match look(&client, &names).await {
        Ok(found) => found,
        Err(error) => {
            if let Some(refusal) = client.why_refused().await {
                let remedy = "fix [kafka.properties]; until then, entries wait in the log";
                return vec![Check::failed("kafka", format!("{}: {refusal}", config.kafka.brokers), remedy)];
            }
            let finding = format!("{} does not answer: {error}", config.kafka.brokers);
            let remedy = "start it, or fix kafka.brokers and kafka.properties; until then, entries wait in the log";
            return vec![Check::failed("kafka", finding, remedy)];
        }
    };
    let mut checks = vec![reached];
    for (name, topic) in names.iter().zip(&topics) {
        checks.extend(topic_checks(config, name, topic));
    }
    checks.extend(group(config, &client).await);
    checks
}

/// Returns the topics that belfry uses, as far as the configuration shows.
fn names(config: &Config) -> Vec<String> {
    let mut names: Vec<String> = config.kafka.declared.keys().cloned().collect();
    names.push(config.notification.topic.clone());
    names.extend(config.source_topics().iter().cloned());
    names.sort_unstable();
    names.dedup();
    names
}

async fn look(client: &Client, names: &[String]) -> Result<(Check, Vec<Topic>), KafkaError> {
    let admin: AdminClient<DefaultClientContext> = client.base().create()?;
    let wanted = names.to_vec();
    let (admin, reached, mut topics) = tokio::task::spawn_blocking(move || {
        let began = std::time::Instant::now();
        let metadata = admin.inner().fetch_metadata(None, PATIENCE)?;
        let took = began.elapsed();
        let cluster = admin.inner().fetch_cluster_id(PATIENCE).unwrap_or_else(|| "unknown".into());
        let brokers = metadata.brokers().len();
        let finding = format!("cluster {cluster}, brokers: {brokers}, answers in {} ms", took.as_millis());
        let mut topics = Vec::with_capacity(wanted.len());
        for name in &wanted {
            topics.push(match metadata.topics().iter().find(|topic| topic.name() == name) {
                Some(topic) => described(topic),
                // Queried by name, the broker reports whether the topic is missing or belfry is not authorised to see it.
                None => {
                    let metadata = admin.inner().fetch_metadata(Some(name), PATIENCE)?;
                    match metadata.topics().first() {
                        Some(topic) => described(topic),
                        None => missing(),
                    }
                }
            });
        }
        Ok::<_, KafkaError>((admin, Check::ok("kafka", finding), topics))
    })
    .await
    .map_err(|_| KafkaError::Canceled)??;
    let resources: Vec<_> = names
        .iter()
        .zip(&topics)
        .filter(|(_, topic)| topic.error.is_none())
        .map(|(name, _)| ResourceSpecifier::Topic(name))
        .collect();
    if !resources.is_empty() {
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        for resource in admin.describe_configs(&resources, &options).await?.into_iter().flatten() {
            let OwnedResourceSpecifier::Topic(name) = &resource.specifier else { continue };
            let Some(place) = names.iter().position(|known| known == name) else { continue };
            let entries = resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?)));
            topics[place].settings = entries.collect();
        }
    }
    // Dropping it blocks until its threads have ended.
    let _ = tokio::task::spawn_blocking(move || drop(admin)).await;
    Ok((reached, topics))
}

fn described(topic: &rdkafka::metadata::MetadataTopic) -> Topic {
    let partitions = topic.partitions();
    Topic {
        error: topic.error().map(RDKafkaErrorCode::from),
        partitions: partitions.len(),
        without_leader: partitions.iter().filter(|partition| partition.leader() < 0).count(),
        replicas: partitions.iter().map(|partition| partition.replicas().len()).min().unwrap_or(0),
        settings: HashMap::new(),
    }
}

fn missing() -> Topic {
    let error = Some(RDKafkaErrorCode::UnknownTopicOrPartition);
    Topic { error, partitions: 0, without_leader: 0, replicas: 0, settings: HashMap::new() }
}

fn topic_checks(config: &Config, name: &str, topic: &Topic) -> Vec<Check> {
    let check = format!("topic {name}");
    let needed = config.sink.kafka.enabled || config.reads_kafka();
    if let Some(error) = topic.error {
        let (finding, remedy) = match error {
            RDKafkaErrorCode::TopicAuthorizationFailed => {
                ("belfry is not authorised to see it".to_owned(), "grant DESCRIBE, and READ or WRITE, on it".to_owned())
            }
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => (
                "it does not exist".to_owned(),
                "create it; if it is declared under [kafka.declared], with `belfry topics apply`".to_owned(),
            ),
            error => (error.to_string(), "see the broker's log".to_owned()),
        };
        return vec![if needed {
            Check::failed(check, finding, remedy)
        } else {
            Check::warning(check, finding, remedy)
        }];
    }
    let mut checks = Vec::new();
    if topic.without_leader > 0 {
        let finding = format!("{} of {} partitions have no leader", topic.without_leader, topic.partitions);
        checks.push(Check::failed(&check, finding, "restart the missing brokers"));
    }
    checks.extend(config.kafka.declared.get(name).and_then(|declared| differs(&check, declared, topic)));
    checks.extend(copies(&check, topic));
    checks.extend(limits(&check, config, name, topic));
    if checks.is_empty() {
        checks.push(Check::ok(check, format!("{} partitions, {} replicas", topic.partitions, topic.replicas)));
    }
    checks
}

fn differs(check: &str, declared: &DeclaredTopic, topic: &Topic) -> Option<Check> {
    let mut differences = Vec::new();
    if topic.partitions != declared.partitions.max(0) as usize {
        differences.push(format!("{} partitions instead of {}", topic.partitions, declared.partitions));
    }
    if topic.replicas < declared.replication_factor.max(0) as usize {
        differences.push(format!("{} replicas instead of {}", topic.replicas, declared.replication_factor));
    }
    for (name, wanted) in &declared.settings {
        match topic.settings.get(name) {
            Some(found) if same(found, wanted) => {}
            Some(found) => differences.push(format!("{name} is {found} instead of {wanted}")),
            None if topic.settings.is_empty() => {}
            None => differences.push(format!("{name} is not set")),
        }
    }
    let remedy = "`belfry topics check` shows the difference, `belfry topics apply` fixes it; or fix [kafka.declared]";
    (!differences.is_empty()).then(|| Check::failed(check, differences.join("; "), remedy))
}

/// Returns true if two values of a setting are equal. The order of a list does not matter.
fn same(found: &str, wanted: &str) -> bool {
    let parts = |text: &str| {
        let mut parts: Vec<String> = text.split(',').map(|part| part.trim().to_owned()).collect();
        parts.sort_unstable();
        parts
    };
    parts(found) == parts(wanted)
}

fn copies(check: &str, topic: &Topic) -> Option<Check> {
    let in_sync: usize = topic.settings.get("min.insync.replicas").and_then(|text| text.parse().ok()).unwrap_or(1);
    if topic.replicas <= 1 {
        let remedy =
            "use three replicas and min.insync.replicas=2 in production; a single broker can have only one replica";
        return Some(Check::warning(check, "one replica: acknowledged records are lost with its disk", remedy));
    }
    if in_sync < 2 {
        let finding = "min.insync.replicas is 1: records are acknowledged as soon as one broker has them";
        return Some(Check::warning(check, finding, "set min.insync.replicas=2"));
    }
    (in_sync >= topic.replicas).then(|| {
        let finding = format!(
            "min.insync.replicas is {in_sync} of {} replicas: writes fail when one broker is down",
            topic.replicas
        );
        Check::warning(check, finding, "use one replica more than min.insync.replicas")
    })
}

fn limits(check: &str, config: &Config, name: &str, topic: &Topic) -> Option<Check> {
    let limit: usize = topic.settings.get("max.message.bytes")?.parse().ok()?;
    let (needed, who) = if name == config.notification.topic {
        (MAX_MESSAGE_BYTES, "a notification can have")
    } else {
        (config.ingest.max_event_bytes, "ingest.max_event_bytes allows")
    };
    (limit < needed).then(|| {
        let finding = format!("max.message.bytes is {limit}, but {who} {needed}: larger records are refused");
        Check::warning(check, finding, "raise the topic's max.message.bytes, or lower ingest.max_event_bytes")
    })
}

/// Checks the consumer group, and how far it is behind according to the positions in the database.
async fn group(config: &Config, client: &Client) -> Vec<Check> {
    if !config.reads_kafka() {
        return Vec::new();
    }
    let check = format!("group {}", config.kafka.group);
    let positions = positions(config).await;
    let (base, name) = (client.base(), config.kafka.group.clone());
    let looked = tokio::task::spawn_blocking(move || {
        let mut base = base;
        base.set("group.id", &name).set("enable.auto.commit", "false");
        let consumer: BaseConsumer = base.create()?;
        let groups = consumer.fetch_group_list(Some(&name), PATIENCE)?;
        let state = groups.groups().iter().find(|group| group.name() == name);
        let state = state.map_or_else(
            || "no members".to_owned(),
            |group| format!("{}, members: {}", group.state(), group.members().len()),
        );
        let (mut lag, mut beyond) = (0, Vec::new());
        for (topic, partition, next) in positions {
            let (_, high) = consumer.fetch_watermarks(&topic, partition, PATIENCE)?;
            lag += (high - next).max(0);
            if next > high {
                beyond.push(format!("{topic}/{partition} at {next}, which ends at {high}"));
            }
        }
        Ok::<_, KafkaError>((state, lag, beyond))
    });
    vec![match looked.await {
        Ok(Ok((state, lag, beyond))) if beyond.is_empty() => {
            Check::ok(check, format!("{state}; unread records: {lag}"))
        }
        Ok(Ok((_, _, beyond))) => Check::failed(
            check,
            format!("positions beyond the end: {}; were topics recreated?", beyond.join(", ")),
            "run `belfry position set` once it is clear what happened to the topic",
        ),
        Ok(Err(error)) => Check::warning(check, error.to_string(), "grant DESCRIBE and READ on the group"),
        Err(error) => Check::warning(check, error.to_string(), "try again"),
    }]
}

/// Returns the group's positions in the database: topic, partition, next offset. Empty if the database cannot be read
/// alongside the service.
async fn positions(config: &Config) -> Vec<(String, i32, i64)> {
    let Ok(settings) = config.store.settings() else { return Vec::new() };
    if config.store.is_embedded() {
        return Vec::new();
    }
    match DatabaseDoctor::connect(&settings).await {
        Ok(mut doctor) => doctor.source_positions(&config.kafka.group).await.unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}
