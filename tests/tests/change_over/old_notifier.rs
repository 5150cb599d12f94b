//! A substitute for the platform's present notifier: a consumer with its own group that sends its own notifications.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use belfry_tests::servers::Kafka;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Number of events that it processes before it commits.
const BATCH: usize = 40;
const PATIENCE: Duration = Duration::from_secs(30);

/// The old notifier's topics, group and state.
#[derive(Clone)]
pub(crate) struct OldNotifier {
    brokers: String,
    pub(crate) group: String,
    input: String,
    output: String,
    /// Ids of the events that it has notified of: it deduplicates, too.
    sent: Arc<Mutex<HashSet<String>>>,
}

/// The old notifier while it runs.
pub(crate) struct Running {
    stop: watch::Sender<bool>,
    thread: JoinHandle<Result<()>>,
}

impl OldNotifier {
    pub(crate) fn new(kafka: &Kafka, input: &str, output: &str) -> Self {
        let group = format!("old-{}", Uuid::new_v4().simple());
        Self { brokers: kafka.direct(), group, input: input.into(), output: output.into(), sent: Arc::default() }
    }

    pub(crate) fn start(&self) -> Running {
        let (stop, stopping) = watch::channel(false);
        let this = self.clone();
        Running { stop, thread: tokio::task::spawn_blocking(move || this.run(&stopping)) }
    }

    /// Returns the number of events that it has notified of.
    pub(crate) fn sent(&self) -> usize {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Sets its group's offsets to those of another group, so that it continues there when it starts again. An operator
    /// does this with Kafka's tools.
    pub(crate) async fn go_on_for(&self, other: &str, partitions: i32) -> Result<()> {
        let (this, other) = (self.clone(), other.to_owned());
        tokio::task::spawn_blocking(move || {
            let mut asked = TopicPartitionList::new();
            asked.add_partition_range(&this.input, 0, partitions - 1);
            let theirs: BaseConsumer = this.client().set("group.id", &other).create()?;
            let found = theirs.committed_offsets(asked, PATIENCE)?;
            let mut offsets = TopicPartitionList::new();
            for element in found.elements().iter().filter(|element| matches!(element.offset(), Offset::Offset(_))) {
                offsets.add_partition_offset(&this.input, element.partition(), element.offset())?;
            }
            let ours: BaseConsumer = this.client().set("group.id", &this.group).create()?;
            Ok(ours.commit(&offsets, CommitMode::Sync)?)
        })
        .await?
    }

    fn run(&self, stopping: &watch::Receiver<bool>) -> Result<()> {
        let consumer: BaseConsumer = self
            .client()
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("session.timeout.ms", "6000")
            .create()?;
        let producer: ThreadedProducer<DefaultProducerContext> =
            self.client().set("partitioner", "murmur2_random").set("enable.idempotence", "true").create()?;
        consumer.subscribe(&[&self.input])?;
        // A test that fails drops the sender, which stops the loop as well.
        while !*stopping.borrow() && stopping.has_changed().is_ok() {
            let mut offsets = TopicPartitionList::new();
            for _ in 0..BATCH {
                let Some(message) = consumer.poll(Duration::from_millis(20)) else { break };
                let message = message?;
                let event: Value = serde_json::from_slice(message.payload().context("an event")?)?;
                self.tell(&producer, &event)?;
                let place = (message.topic(), message.partition());
                let next = Offset::Offset(message.offset() + 1);
                match offsets.find_partition(place.0, place.1) {
                    Some(mut found) => found.set_offset(next)?,
                    None => offsets.add_partition_offset(place.0, place.1, next)?,
                }
            }
            // It sends before it commits, and its offsets usually lag behind.
            producer.flush(PATIENCE)?;
            std::thread::sleep(Duration::from_millis(fastrand::u64(0..60)));
            if offsets.count() > 0 {
                consumer.commit(&offsets, CommitMode::Sync)?;
            }
        }
        Ok(())
    }

    fn tell(&self, producer: &ThreadedProducer<DefaultProducerContext>, event: &Value) -> Result<()> {
        let id = event["event_id"].as_str().context("an id")?.to_owned();
        if !self.sent.lock().unwrap_or_else(PoisonError::into_inner).insert(id) {
            return Ok(());
        }
        let message = old_message(event, &self.output);
        let (key, payload) = (message["data"]["teacher_id"].as_str().context("a teacher")?, message.to_string());
        let mut record = BaseRecord::to(&self.output).key(key).payload(payload.as_str());
        while let Err((error, again)) = producer.send(record) {
            let full = error.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::QueueFull);
            anyhow::ensure!(full, "{error}");
            record = again;
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config.set_log_level(rdkafka::config::RDKafkaLogLevel::Critical);
        config
    }
}

impl Running {
    /// Stops it cleanly: everything that it has read is sent and committed.
    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.send_replace(true);
        self.thread.await?
    }
}

/// Returns the present notifier's message for an event. Ids, times and the envelope's correlation are its own.
pub(crate) fn old_message(event: &Value, topic: &str) -> Value {
    let data = &event["data"];
    let (kind, priority, payload) = if event["event_type"] == "huleedu.ras.batch.results.ready.v1" {
        ("batch_results_ready", "high", results_payload(data))
    } else {
        ("batch_assessment_completed", "standard", assessment_payload(data))
    };
    json!({
        "event_id": Uuid::new_v4(),
        "event_type": topic,
        "event_timestamp": "2026-03-02T09:20:00.123456Z",
        "source_service": "result_aggregator_service",
        "schema_version": 1,
        "correlation_id": Uuid::new_v4(),
        "data_schema_uri": null,
        "data": {
            "teacher_id": data["user_id"],
            "notification_type": kind,
            "category": "processing_results",
            "priority": priority,
            "payload": payload,
            "action_required": false,
            "deadline_timestamp": null,
            "correlation_id": event["correlation_id"],
            "batch_id": data["batch_id"],
            "class_id": null,
            "timestamp": "2026-03-02T09:20:00.123456Z"
        },
        "metadata": {}
    })
}

fn results_payload(data: &Value) -> Value {
    let phases = data["phase_results"].as_object().into_iter().flatten().map(|(name, phase)| {
        let kept = ["status", "completed_count", "failed_count", "processing_time_seconds"];
        let kept: serde_json::Map<String, Value> =
            kept.iter().map(|field| ((*field).to_owned(), phase[*field].clone())).collect();
        (name.clone(), Value::Object(kept))
    });
    let phases: serde_json::Map<String, Value> = phases.collect();
    let text = |name: &str| data[name].as_str().unwrap_or_default();
    json!({
        "batch_id": data["batch_id"],
        "total_essays": data["total_essays"],
        "completed_essays": data["completed_essays"],
        "overall_status": data["overall_status"],
        "processing_duration_seconds": data["processing_duration_seconds"],
        "phase_results": phases,
        "message": format!(
            "Batch {} processing completed with {}/{} essays",
            text("batch_id"), data["completed_essays"], data["total_essays"]
        )
    })
}

fn assessment_payload(data: &Value) -> Value {
    let rankings = data["rankings_summary"].as_array().map_or(0, Vec::len);
    json!({
        "batch_id": data["batch_id"],
        "assessment_job_id": data["assessment_job_id"],
        "rankings_available": rankings > 0,
        "rankings_count": rankings,
        "message": format!(
            "Comparative judgment assessment completed for batch {}",
            data["batch_id"].as_str().unwrap_or_default()
        )
    })
}
