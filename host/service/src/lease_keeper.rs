//! Takes the leases of work that only one replica may do at a time.

use std::time::{Duration, Instant};

use belfry_store::{Lease, Store, StoreError};

use crate::heartbeat::{Heartbeat, lease_deadline};
use crate::redis::PeerSignals;

/// Waits until this replica holds the lease `name`. Returns the lease, and the time until which it is certainly held. From
/// then on, the heartbeat renews it.
pub(crate) async fn take(store: &Store, heartbeat: &Heartbeat, name: &str) -> Result<(Lease, Instant), StoreError> {
    let mut seen = heartbeat.seen();
    loop {
        let wait = {
            let seen = seen.borrow_and_update();
            match seen.lease(name) {
                Some((lease, _)) if lease.owner == Some(heartbeat.owner()) => Duration::ZERO,
                Some((lease, _)) => lease.remaining,
                // It was registered after the last poll.
                None => Duration::ZERO,
            }
        };
        if wait.is_zero() {
            let asked_at = Instant::now();
            if let Some(lease) = store.acquire_lease(name, heartbeat.owner()).await? {
                tracing::info!(name, epoch = lease.epoch, position = lease.position, "lease acquired");
                heartbeat.look();
                return Ok((lease, lease_deadline(asked_at)));
            }
        }
        tokio::select! {
            // Slightly after it expires, because the database's clock decides.
            () = tokio::time::sleep(wait + Duration::from_millis(20)) => heartbeat.look(),
            _ = seen.changed() => {}
        }
    }
}

/// Releases a lease, and announces that.
pub(crate) async fn give_back(store: &Store, others: &PeerSignals, name: &str, lease: &Lease) {
    match store.release_lease(name, lease.epoch).await {
        Ok(()) => others.lease_is_free(),
        Err(error) => tracing::warn!(name, %error, "cannot release the lease; it expires automatically"),
    }
}

/// Returns the time until which the lease is certainly held, according to the last heartbeat.
pub(crate) fn renewed(heartbeat: &Heartbeat, name: &str, lease: &Lease, deadline: Instant) -> Instant {
    match heartbeat.seen().borrow().lease(name) {
        Some((state, until)) if state.epoch == lease.epoch => deadline.max(until),
        _ => deadline,
    }
}
