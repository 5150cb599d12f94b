//! Retires old rows in small chunks, so that no commit waits for long.

use std::time::Duration;

use belfry_store::{KeepFor, Retired, Sink, Store, StoreError, now_ms};
use tokio_util::sync::CancellationToken;

use crate::config;

/// Rare, because an idle replica should cost its database almost nothing.
const EVERY: Duration = Duration::from_secs(600);
const CHUNK: u32 = 1000;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Retires old rows until the service stops. Entries that a sink has not read are kept, and reported once they exceed the
/// age limit.
pub(crate) async fn run(store: Store, settings: config::Retention, stopping: CancellationToken) {
    let keep = KeepFor { log: DAY * settings.log_days, inbox: DAY * settings.inbox_days };
    loop {
        match store.sinks().await {
            Ok(sinks) => sinks.iter().for_each(|sink| report(sink, keep.log)),
            Err(error) => tracing::warn!(%error, "cannot determine what retention keeps for sinks"),
        }
        tokio::select! {
            _ = tokio::time::sleep(EVERY) => {}
            () = stopping.cancelled() => return,
        }
        match retire(&store, keep).await {
            Ok(retired) if retired == Retired::default() => {}
            Ok(retired) => tracing::info!(log = retired.log, inbox = retired.inbox, "retired old rows"),
            Err(error) => tracing::warn!(%error, "cannot retire old rows; retrying later"),
        }
    }
}

async fn retire(store: &Store, keep: KeepFor) -> Result<Retired, StoreError> {
    let mut total = Retired::default();
    loop {
        let retired = store.retire(keep, now_ms(), CHUNK).await?;
        total.log += retired.log;
        total.inbox += retired.inbox;
        if retired == Retired::default() {
            return Ok(total);
        }
        // The writer commits between two chunks.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Reports how much longer than `log` entries are kept for a sink that does not read them.
fn report(sink: &Sink, log: Duration) {
    let held = sink.unread_for.map_or(Duration::ZERO, |unread| unread.saturating_sub(log));
    metrics::gauge!("belfry_retention_held_seconds", "sink" => sink.name.clone()).set(held.as_secs_f64());
    if !held.is_zero() {
        tracing::error!(
            sink = sink.name,
            position = sink.position,
            held_seconds = held.as_secs(),
            "entries beyond the age limit are kept because this sink has not read them; enable it on a replica, or run \
             `belfry sink forget` if it is no longer used"
        );
    }
}
