//! Submitted in the transactions of another service, of which some are rolled back.

use std::time::Duration;

use anyhow::Result;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};
use tokio::time::timeout;

use super::{Lane, Promise, Written, digest};

const RETRY: Duration = Duration::from_millis(100);
/// Time limit after which a connection counts as broken.
const PATIENCE: Duration = Duration::from_secs(10);
/// Percentage of transactions that are rolled back.
const ROLLED_BACK: u32 = 20;

impl Lane {
    /// Submits an event, or rolls it back.
    pub(super) async fn submit_something(&mut self) -> Result<()> {
        if self.random.u32(0..100) < ROLLED_BACK {
            let event_id = uuid::Uuid::from_u128(self.random.u128(..));
            let text = self.event(event_id, 1).to_string();
            let promise = Promise { forbidden: true, texts: vec![digest(text.as_bytes())], ..self.promise(0, b"") };
            self.shared.ledger.submit(event_id, promise);
            // A transaction that fails is rolled back too.
            let _ = timeout(PATIENCE, self.transaction(&text, false)).await;
            return Ok(());
        }
        let Written { event_id, event } = self.write();
        let text = event.to_string();
        while !matches!(timeout(PATIENCE, self.transaction(&text, true)).await, Ok(Ok(()))) {
            tokio::time::sleep(RETRY).await;
        }
        self.shared.ledger.acknowledge(event_id);
        Ok(())
    }

    async fn transaction(&self, text: &str, commits: bool) -> Result<()> {
        let mut connection = PgConnection::connect(&self.shared.service_url).await?;
        let mut transaction = connection.begin().await?;
        let key = format!("{}-b{}", self.shared.run, self.number);
        let row = sqlx::query("SELECT belfry.submit($1, $2)").bind(text).bind(key).fetch_one(&mut *transaction).await?;
        let _: uuid::Uuid = row.try_get(0)?;
        if commits {
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
        Ok(connection.close().await?)
    }
}
