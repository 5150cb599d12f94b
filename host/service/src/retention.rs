//! Retiring what is old, a little at a time, so that no commit waits for long.

use std::time::Duration;

use belfry_store::{Retired, Store, StoreError};
use tokio::sync::watch;

use crate::clock::now_ms;
use crate::config;
use crate::heartbeat::Seen;

/// Seldom, for an idle replica should cost its database next to nothing.
const EVERY: Duration = Duration::from_secs(600);
const CHUNK: u32 = 1000;
const MS_PER_DAY: i64 = 24 * 60 * 60 * 1000;

/// Retire until the service stops.
///
/// What one of the `sinks` has not read yet is kept, whatever its age.
pub(crate) async fn run(
    store: Store,
    settings: config::Retention,
    sinks: Vec<&'static str>,
    seen: watch::Receiver<Seen>,
    mut stopping: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            _ = tokio::time::sleep(EVERY) => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
        let read = read_by_all(&seen.borrow().clone(), &sinks);
        match retire(&store, &settings, read).await {
            Ok(retired) if retired == Retired::default() => {}
            Ok(retired) => tracing::info!(log = retired.log, inbox = retired.inbox, "retired old rows"),
            Err(error) => tracing::warn!(%error, "cannot retire old rows; it is tried again"),
        }
    }
}

/// How far every sink has been served. One that is not known yet has not been served at all.
fn read_by_all(seen: &Seen, sinks: &[&str]) -> i64 {
    let served = |sink: &&str| seen.lease(sink).map_or(0, |(lease, _)| lease.position);
    sinks.iter().map(served).min().unwrap_or(i64::MAX)
}

async fn retire(store: &Store, settings: &config::Retention, read_by_all: i64) -> Result<Retired, StoreError> {
    let before = |days: u32| now_ms() - i64::from(days) * MS_PER_DAY;
    let mut total = Retired::default();
    loop {
        let retired = store.retire(read_by_all, before(settings.log_days), before(settings.inbox_days), CHUNK).await?;
        total.log += retired.log;
        total.inbox += retired.inbox;
        if retired == Retired::default() {
            return Ok(total);
        }
        // Between two chunks the writer has its turn.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
