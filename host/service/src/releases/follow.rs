//! Serving what another replica lets serve.

use std::time::Duration;

use tokio::sync::watch;

use super::Registry;
use crate::heartbeat::Seen;

/// How soon it is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Follow the rollouts that the heartbeat sees until the service stops. `known` is the last that the registry knows.
pub(crate) async fn follow(
    registry: Registry,
    mut known: (i64, i64),
    mut seen: watch::Receiver<Seen>,
    mut stopping: watch::Receiver<bool>,
) {
    loop {
        let rollout = seen.borrow_and_update().beat.changes();
        if rollout != known {
            match registry.refresh().await {
                Ok(()) => known = rollout,
                Err(error) => {
                    tracing::error!(%error, "a release cannot be loaded; the one before serves on, and it is tried again")
                }
            }
        }
        tokio::select! {
            Ok(()) = seen.changed() => {}
            () = tokio::time::sleep(RETRY), if rollout != known => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}
