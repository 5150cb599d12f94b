//! The sink that writes every published entry to standard output, one line of JSON each.

use std::time::Duration;

use belfry_model::without_whitespace;
use belfry_store::{LogEntry, Store, StoreError};
use tokio::io::{AsyncWriteExt, Stdout as Output, stdout};
use tokio::sync::watch;

use crate::clock::now_ms;

/// This sink's name.
pub(crate) const SINK: &str = "stdout";
/// An event has up to a megabyte.
const PAGE: u32 = 100;
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The relay of this sink.
pub struct Stdout {
    store: Store,
    position: i64,
    output: Output,
}

/// Why the sink stopped.
#[derive(Debug, thiserror::Error)]
enum SinkError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("standard output: {0}")]
    Output(#[from] std::io::Error),
}

impl Stdout {
    /// Begin where the sink was, or at the log's end if it is new.
    pub async fn open(store: Store, end: i64) -> Result<Self, StoreError> {
        let position = match store.relay_position(SINK).await? {
            Some(position) => {
                let (lowest, _) = store.log_bounds().await?;
                if position + 1 < lowest {
                    tracing::warn!(
                        sink = SINK,
                        position,
                        lowest,
                        "what the sink had not read was retired while it was off"
                    );
                }
                position
            }
            None => {
                tracing::info!(sink = SINK, position = end, "a new sink begins at the end of the log");
                store.set_relay_position(SINK, end).await?;
                end
            }
        };
        Ok(Self { store, position, output: stdout() })
    }

    /// Write what is committed until the service stops; then what is left.
    pub async fn run(mut self, mut committed: watch::Receiver<i64>, mut stopping: watch::Receiver<bool>) {
        loop {
            committed.borrow_and_update();
            if let Err(error) = self.write_all().await {
                tracing::error!(sink = SINK, %error, position = self.position, "the sink waits and tries again");
                tokio::time::sleep(HEARTBEAT).await;
            }
            if *stopping.borrow() {
                return;
            }
            tokio::select! {
                _ = committed.changed() => {}
                _ = tokio::time::sleep(HEARTBEAT) => {}
                _ = stopping.changed() => {}
            }
        }
    }

    async fn write_all(&mut self) -> Result<(), SinkError> {
        loop {
            let page = self.store.read_published(self.position, PAGE).await?;
            let (Some(last), Some(first)) = (page.last(), page.first()) else { return Ok(()) };
            let (position, oldest_ms) = (last.position, first.created_at_ms);
            metrics::gauge!("belfry_outbox_oldest_unsent_seconds", "sink" => SINK).set(seconds_since(oldest_ms));
            let mut lines = Vec::new();
            page.iter().for_each(|entry| add_line(entry, &mut lines));
            self.output.write_all(&lines).await?;
            self.output.flush().await?;
            // Noted after it is written: a crash in between writes entries again, and never loses one.
            self.store.set_relay_position(SINK, position).await?;
            self.position = position;
            metrics::gauge!("belfry_outbox_position", "sink" => SINK).set(position as f64);
            metrics::gauge!("belfry_outbox_oldest_unsent_seconds", "sink" => SINK).set(0.0);
            metrics::histogram!("belfry_accept_to_ack_seconds", "sink" => SINK).record(seconds_since(oldest_ms));
        }
    }
}

fn seconds_since(ms: i64) -> f64 {
    (now_ms() - ms).max(0) as f64 / 1000.0
}

/// An event may have arrived spread over several lines.
fn add_line(entry: &LogEntry, lines: &mut Vec<u8>) {
    if entry.expires_at_ms.is_some_and(|expires_at_ms| expires_at_ms <= now_ms()) {
        metrics::counter!("belfry_withheld_total", "reason" => "expired").increment(1);
        return;
    }
    lines.extend_from_slice(without_whitespace(&String::from_utf8_lossy(&entry.payload)).as_bytes());
    lines.push(b'\n');
}
