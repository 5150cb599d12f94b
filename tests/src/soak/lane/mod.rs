//! A client with its own key. It submits an event only after the previous one is acknowledged, or those of one request
//! in order; an event without an answer is submitted again.

mod http;
mod kafka;
mod submit;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use fastrand::Rng;
use serde_json::Value;
use uuid::Uuid;

use super::ledger::{Promise, digest};
use super::load::Shared;
use crate::{Batch, assessment, results_ready};

/// Maximum pause between two requests of a lane, in milliseconds.
const PACE_MS: u64 = 30;

/// The way in which a lane's events reach Belfry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Http,
    /// Written to a topic that the replicas read.
    Kafka,
    /// Submitted in another service's transaction.
    Submit,
}

pub(super) struct Lane {
    pub(super) shared: Arc<Shared>,
    pub(super) number: usize,
    pub(super) way: Way,
    pub(super) random: Rng,
    pub(super) sequence: u64,
}

/// An event and its text.
struct Written {
    event_id: Uuid,
    event: Value,
}

impl Lane {
    /// Submits events, valid and invalid ones.
    pub(super) async fn step(&mut self) -> Result<()> {
        match self.way {
            Way::Http => self.post_something().await?,
            Way::Kafka => self.produce_something().await?,
            Way::Submit => self.submit_something().await?,
        }
        tokio::time::sleep(Duration::from_millis(self.random.u64(0..PACE_MS))).await;
        Ok(())
    }

    fn malformed(&mut self) -> String {
        let event_id = Uuid::from_u128(self.random.u128(..));
        let mut event = self.event(event_id, 1);
        match self.random.u32(0..3) {
            0 => event["data"]["user_id"] = "a\0b".into(),
            1 => event["data"]["user_id"] = 10.into(),
            _ => event["event_timestamp"] = "yesterday".into(),
        }
        let promise = Promise { forbidden: true, ..self.promise(0, event.to_string().as_bytes()) };
        self.shared.ledger.submit(event_id, promise);
        event.to_string()
    }

    /// Returns the lane's next event.
    fn write(&mut self) -> Written {
        self.sequence += 1;
        let event_id = self.shared.event_id(self.number, self.sequence);
        let mut event = self.event(event_id, self.sequence);
        if self.random.u32(0..10) == 0 {
            // A character that PostgreSQL's type text cannot store.
            event["data"]["remark"] = "a\0b".into();
        }
        let promise = self.promise(self.sequence, event.to_string().as_bytes());
        self.shared.ledger.submit(event_id, promise);
        Written { event_id, event }
    }

    fn event(&self, event_id: Uuid, sequence: u64) -> Value {
        let batch = Batch {
            event_id,
            batch_id: format!("{}-b{}", self.shared.run, self.number),
            teacher: format!("{}-t{}", self.shared.run, self.number),
            failed: 0,
        };
        let mut event = match self.way {
            Way::Http | Way::Submit => results_ready(&batch),
            Way::Kafka => assessment(event_id, &batch.teacher),
        };
        event["data"]["batch_id"] = batch.batch_id.into();
        event["data"]["total_essays"] = sequence.into();
        event["data"]["completed_essays"] = sequence.into();
        event["data"]["timestamp"] = "2026-03-02T09:15:01Z".into();
        event
    }

    fn promise(&self, sequence: u64, text: &[u8]) -> Promise {
        Promise {
            lane: self.number,
            sequence,
            texts: vec![digest(text)],
            // Events that were read from a topic are not published again.
            published: self.way != Way::Kafka,
            notified: true,
            acknowledged: false,
            forbidden: false,
        }
    }
}
