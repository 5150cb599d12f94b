//! Written to a topic that the replicas read.

use std::time::Duration;

use anyhow::Result;
use rdkafka::producer::FutureRecord;

use super::{Lane, Written};

/// Time limit for the broker before a record is written again.
const PATIENCE: Duration = Duration::from_secs(10);

impl Lane {
    /// Writes records, valid and invalid ones.
    pub(super) async fn produce_something(&mut self) -> Result<()> {
        match self.random.u32(0..100) {
            0..75 => self.written(1).await,
            // Twice, like a producer that got no acknowledgement.
            75..85 => self.written(2).await,
            85..90 => {
                if self.sequence > 0 {
                    let event_id = self.shared.event_id(self.number, self.random.u64(1..=self.sequence));
                    let mut event = self.event(event_id, 1);
                    event["data"]["assessment_job_id"] = "another".into();
                    self.produce(Some(&event.to_string())).await;
                }
            }
            90..97 => {
                let malformed = self.malformed();
                self.produce(Some(&malformed)).await;
            }
            97..99 => self.produce(Some("not JSON")).await,
            _ => self.produce(None).await,
        }
        Ok(())
    }

    async fn written(&mut self, times: u32) {
        let Written { event_id, event } = self.write();
        for _ in 0..times {
            self.produce(Some(&event.to_string())).await;
        }
        self.shared.ledger.acknowledge(event_id);
    }

    /// Writes a record until the broker has it.
    async fn produce(&self, payload: Option<&str>) {
        let key = format!("{}-b{}", self.shared.run, self.number);
        loop {
            let mut record = FutureRecord::to(&self.shared.input).key(&key);
            if let Some(payload) = payload {
                record = record.payload(payload);
            }
            if self.shared.producer.send(record, PATIENCE).await.is_ok() {
                return;
            }
        }
    }
}
