//! Events that a fault adds to those of the clients.

use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::producer::FutureRecord;
use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};
use uuid::Uuid;

use super::ledger::{Promise, digest};
use super::load::Load;
use crate::{Batch, results_ready};

/// The way in which an event reaches Belfry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Posted to a random replica, as lines of one request.
    Http,
    /// Written to a topic that the replicas read.
    Kafka,
    /// Submitted in a transaction of another service.
    Submit,
}

impl Load {
    /// Returns the id of an event that a fault adds.
    pub(super) fn event_id(&self, key: &str, sequence: u64) -> Uuid {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{}/{key}/{sequence}", self.shared.run).as_bytes())
    }

    /// Returns an event of this key, which notifies a teacher of the same name. The ledger does not contain it yet.
    pub(super) fn event(&self, key: &str, sequence: u64) -> Value {
        let event_id = self.event_id(key, sequence);
        let batch = Batch { event_id, batch_id: key.to_owned(), teacher: key.to_owned(), failed: 0 };
        let mut event = results_ready(&batch);
        event["data"]["total_essays"] = sequence.into();
        event["data"]["completed_essays"] = sequence.into();
        event["data"]["timestamp"] = "2026-03-02T09:15:01Z".into();
        event
    }

    /// Notes in the ledger which effects an event must have.
    pub(super) fn promise(&self, event: &Value, sequence: u64, published: bool, notified: bool) -> Result<Uuid> {
        self.note(event, sequence, published, notified, false)
    }

    /// Notes in the ledger that an event must have no effect.
    pub(super) fn forbid(&self, event: &Value) -> Result<Uuid> {
        self.note(event, 0, false, false, true)
    }

    fn note(&self, event: &Value, sequence: u64, published: bool, notified: bool, forbidden: bool) -> Result<Uuid> {
        let event_id: Uuid = event["event_id"].as_str().context("an id")?.parse()?;
        let promise = Promise {
            lane: usize::MAX,
            sequence,
            texts: vec![digest(event.to_string().as_bytes())],
            published,
            notified,
            acknowledged: false,
            forbidden,
        };
        self.ledger().submit(event_id, promise);
        Ok(event_id)
    }

    /// Posts events that notify no one, in one request, until each is accepted or rejected as too large. `numbers` are
    /// their places among the events of their key. Returns the ids of the rejected events.
    pub(super) async fn submit(&self, events: &[Value], numbers: &[u64]) -> Result<Vec<Uuid>> {
        let mut ids = Vec::with_capacity(events.len());
        for (event, sequence) in events.iter().zip(numbers) {
            ids.push(self.promise(event, *sequence, true, false)?);
        }
        let lines: Vec<String> = events.iter().map(Value::to_string).collect();
        let answers = loop {
            let answers = self.post_lines(&lines).await?;
            let is_settled =
                |answer: &Value| matches!(answer["status"].as_str(), Some("accepted" | "duplicate" | "too-large"));
            if answers.len() == lines.len() && answers.iter().all(is_settled) {
                break answers;
            }
        };
        let mut refused = Vec::new();
        for (event_id, answer) in ids.into_iter().zip(answers) {
            if answer["status"] == "too-large" {
                self.ledger().refuse(event_id);
                refused.push(event_id);
            } else {
                self.ledger().acknowledge(event_id);
            }
        }
        Ok(refused)
    }

    /// Posts lines in one request until all have a final answer. Returns the answers.
    pub(super) async fn post_lines(&self, lines: &[String]) -> Result<Vec<Value>> {
        self.shared.post_lines(&lines.join("\n")).await
    }

    /// Writes records one after the other, and waits until the broker has them. Returns partition and offset of each.
    pub(super) async fn produce(&self, key: &str, payloads: &[String]) -> Result<Vec<(i32, i64)>> {
        let mut deliveries = Vec::with_capacity(payloads.len());
        for payload in payloads {
            let record = FutureRecord::to(&self.shared.input).key(key).payload(payload);
            deliveries.push(self.shared.producer.send_result(record).map_err(|(error, _)| error)?);
        }
        let mut places = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let delivered = delivery.await.context("the producer ended")?.map_err(|(error, _)| error)?;
            places.push((delivered.partition, delivered.offset));
        }
        Ok(places)
    }

    /// Submits envelopes together in a service's transaction that pauses before it ends.
    pub(super) async fn transaction(
        &self,
        key: &str,
        envelopes: &[String],
        pause: Duration,
        commits: bool,
    ) -> Result<()> {
        let mut connection = PgConnection::connect(&self.shared.service_url).await?;
        let mut transaction = connection.begin().await?;
        let row = sqlx::query("SELECT belfry.submit_all($1, $2)")
            .bind(envelopes)
            .bind(key)
            .fetch_one(&mut *transaction)
            .await?;
        let _: Vec<Uuid> = row.try_get(0)?;
        tokio::time::sleep(pause).await;
        if commits {
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
        Ok(connection.close().await?)
    }
}
