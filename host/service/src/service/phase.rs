//! The phases in which a service stops.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::task;

/// Time limit for the tasks of one phase to end.
const DRAIN: Duration = Duration::from_secs(10);

/// Tasks that stop together.
#[derive(Clone, Debug, Default)]
pub(super) struct Phase {
    stopping: CancellationToken,
    aborting: CancellationToken,
    tasks: TaskTracker,
}

/// Some tasks of a phase did not end in time, and were aborted.
#[derive(Debug)]
pub(super) struct Aborted;

impl Phase {
    /// Returns a token that is cancelled when the phase stops.
    pub(super) fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Starts a task with its own copy of `parts`, and restarts it with another copy whenever it panics, until it returns.
    pub(super) fn keep<P, F>(
        &self,
        name: &'static str,
        parts: P,
        run: impl Fn(P, CancellationToken) -> F + Send + 'static,
    ) where
        P: Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let stopping = self.stopping();
        self.spawn(task::keep(name, move || run(parts.clone(), stopping.clone())));
    }

    /// Starts a task that ends by itself once the phase stops.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let aborting = self.aborting.clone();
        self.tasks.spawn(async move { aborting.run_until_cancelled(task).await });
    }

    /// Asks the tasks to stop.
    pub(super) fn begin_to_stop(&self) {
        self.stopping.cancel();
        self.tasks.close();
    }

    /// Stops the tasks, and waits until they have ended. Aborts those that do not end in time.
    pub(super) async fn stop(&self) -> Result<(), Aborted> {
        self.begin_to_stop();
        timeout(DRAIN, self.tasks.wait()).await.map_err(|_| {
            self.aborting.cancel();
            Aborted
        })
    }
}

/// The phases, in the order in which they stop.
#[derive(Clone, Debug, Default)]
pub(super) struct Phases {
    /// Accepts events: the API's listener, the feeds and the sources.
    pub(super) intake: Phase,
    /// Sends what the log holds.
    pub(super) sinks: Phase,
    /// Everything that the sinks need to the end, such as the heartbeat, which renews their leases; and the operators'
    /// listener.
    pub(super) background: Phase,
}
