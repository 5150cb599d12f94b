//! The connection of a session to its sink.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::delivery::health::SinkHealthTracker;
use crate::delivery::sink::{Ack, Sink, SinkError, SinkSettings};

/// An open sink, its acknowledgements and its health.
pub(super) struct Link<'a> {
    pub(super) sink: Sink,
    pub(super) acks: mpsc::UnboundedReceiver<Ack>,
    pub(super) health: &'a mut SinkHealthTracker,
    stall: Duration,
}

impl<'a> Link<'a> {
    /// Opens the sink. `stall` limits the time without an acknowledgement.
    pub(super) async fn open(
        settings: &SinkSettings,
        stall: Duration,
        health: &'a mut SinkHealthTracker,
    ) -> Result<Self, SinkError> {
        let (sender, acks) = mpsc::unbounded_channel();
        Ok(Self { sink: settings.open(sender).await?, acks, health, stall })
    }

    /// Waits for the next acknowledgement, and fails if none arrives in time.
    pub(super) async fn next_ack(&mut self) -> Result<Ack, SinkError> {
        match timeout(self.stall, self.acks.recv()).await {
            Ok(Some(ack)) => Ok(ack),
            Ok(None) | Err(_) => Err(stalled(self.stall)),
        }
    }

    /// Fails if no entry has been acknowledged for too long.
    pub(super) fn check_stall(&self, waiting_for: Option<Duration>) -> Result<(), SinkError> {
        match waiting_for {
            Some(waited) if waited >= self.stall => Err(stalled(waited)),
            _ => Ok(()),
        }
    }

    /// Closes the sink. Returns the acknowledgements that have not been processed.
    pub(super) async fn close(mut self) -> impl Iterator<Item = Ack> {
        self.sink.close().await;
        std::iter::from_fn(move || self.acks.try_recv().ok())
    }
}

fn stalled(waited: Duration) -> SinkError {
    SinkError::Unavailable(format!("nothing acknowledged for {waited:?}"))
}
