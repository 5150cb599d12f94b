use std::time::Duration;

use tokio::time::timeout;

use super::Service;
use super::phase::Phases;

/// Time limit to close the store.
const CLOSE: Duration = Duration::from_secs(10);

impl Service {
    /// Stops the service in this order:
    ///
    /// 1. Stop accepting requests, end the feeds, and stop reading from the sources. Answer the requests in flight, and
    ///    commit the events that were read.
    /// 2. Let the sinks send the log up to its end.
    /// 3. Stop everything else.
    /// 4. Close the store.
    ///
    /// Each step has a time limit. If one is interrupted, no acknowledged event is lost.
    pub async fn stop(self) {
        tracing::info!("stopping");
        let Phases { intake, sinks, background } = self.phases;
        intake.begin_to_stop();
        // Requests that wait for a permit are refused.
        self.in_flight.close();
        if intake.stop().await.is_err() {
            tracing::warn!(
                "aborted requests and sources that did not finish in time; senders retry, and sources read again"
            );
        }
        if sinks.stop().await.is_err() {
            tracing::warn!(
                "a sink did not send all entries in time; another replica, or the next start, sends the rest"
            );
        }
        let _ = background.stop().await;
        let _ = timeout(CLOSE, self.store.close()).await;
        tracing::info!("stopped");
    }
}
