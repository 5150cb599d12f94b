//! Retiring what is old, a little at a time, so that no commit waits for long.

use std::time::Duration;

use belfry_store::{Retired, Store, StoreError};
use tokio::sync::watch;

use crate::clock::now_ms;
use crate::config;

const EVERY: Duration = Duration::from_secs(60);
const CHUNK: u32 = 1000;
const MS_PER_DAY: i64 = 24 * 60 * 60 * 1000;

/// Retire until the service stops.
pub(crate) async fn run(store: Store, settings: config::Retention, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = tokio::time::sleep(EVERY) => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
        match retire(&store, &settings).await {
            Ok(retired) if retired == Retired::default() => {}
            Ok(retired) => tracing::info!(log = retired.log, inbox = retired.inbox, "retired old rows"),
            Err(error) => tracing::warn!(%error, "cannot retire old rows; it is tried again"),
        }
    }
}

async fn retire(store: &Store, settings: &config::Retention) -> Result<Retired, StoreError> {
    let before = |days: u32| now_ms() - i64::from(days) * MS_PER_DAY;
    let mut total = Retired::default();
    loop {
        let retired = store.retire(before(settings.log_days), before(settings.inbox_days), CHUNK).await?;
        total.log += retired.log;
        total.inbox += retired.inbox;
        if retired == Retired::default() {
            return Ok(total);
        }
        // Between two chunks the writer has its turn.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
