//! The services whose events notify teachers, and a ledger of the expected notifications.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use belfry_tests::servers::Kafka;
use belfry_tests::{Batch, assessment, results_ready};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

/// Number of services that write concurrently.
const WRITERS: usize = 4;

/// An event and the notification that must follow.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) event: Value,
    pub(crate) correlation: String,
    pub(crate) teacher: String,
    pub(crate) kind: &'static str,
}

/// All written events.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Vec<Written>>>);

impl Ledger {
    pub(crate) fn all(&self) -> Vec<Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn add(&self, written: Written) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(written);
    }

    fn one_since(&self, first: usize) -> Option<Written> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (all.len() > first).then(|| all[fastrand::usize(first..all.len())].clone())
    }
}

/// Services that write until they are stopped.
pub(crate) struct Load {
    pub(crate) ledger: Ledger,
    /// If set, events from this one on are occasionally written again, as by a producer that got no acknowledgement.
    pub(crate) repeats: watch::Sender<Option<usize>>,
    stop: Arc<AtomicBool>,
    writers: JoinSet<Result<()>>,
}

impl Load {
    pub(crate) fn start(kafka: &'static Kafka, topic: &str) -> Self {
        let (ledger, stop) = (Ledger::default(), Arc::<AtomicBool>::default());
        let repeats = watch::Sender::new(None);
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let (ledger, stop, topic) = (ledger.clone(), stop.clone(), topic.to_owned());
            let repeats = repeats.subscribe();
            writers.spawn(async move {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    let again = *repeats.borrow();
                    let again = again.filter(|_| fastrand::u8(..) < 25).and_then(|first| ledger.one_since(first));
                    if let Some(again) = again {
                        produce(kafka, &topic, &again.event).await?;
                    } else {
                        let written = write(writer, number);
                        produce(kafka, &topic, &written.event).await?;
                        // Nothing is promised about an event that is not acknowledged.
                        ledger.add(written);
                        number += 1;
                    }
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(10..30))).await;
                }
                Ok(())
            });
        }
        Self { ledger, repeats, stop, writers }
    }

    pub(crate) async fn stop(mut self) -> Result<Ledger> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.writers.join_next().await {
            ended??;
        }
        Ok(self.ledger)
    }
}

fn write(writer: usize, number: u64) -> Written {
    let (event_id, correlation) = (Uuid::new_v4(), Uuid::new_v4());
    let teacher = format!("teacher-{}", number % 5);
    let batch_id = format!("batch-{writer}-{}", number % 7);
    let (kind, mut event) = if number.is_multiple_of(3) {
        ("batch_assessment_completed", assessment(event_id, &teacher))
    } else {
        let batch = Batch { event_id, batch_id: batch_id.clone(), teacher: teacher.clone(), failed: 1 };
        ("batch_results_ready", results_ready(&batch))
    };
    event["data"]["batch_id"] = batch_id.into();
    event["correlation_id"] = correlation.to_string().into();
    Written { event, correlation: correlation.to_string(), teacher, kind }
}

/// Writes an event as the platform does.
pub(crate) async fn produce(kafka: &Kafka, topic: &str, event: &Value) -> Result<()> {
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let headers = [
        ("event_id", text("event_id")),
        ("event_type", text("event_type")),
        ("trace_id", text("correlation_id")),
        ("source_service", text("source_service")),
        ("schema_version", "1".to_owned()),
        ("occurred_at", text("event_timestamp")),
        ("content_type", "application/json".to_owned()),
    ];
    let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    let key = event["data"]["batch_id"].as_str().map(str::as_bytes);
    kafka.produce(topic, key, &headers, Some(event.to_string().as_bytes())).await?;
    Ok(())
}
