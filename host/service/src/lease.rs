//! Waiting for one's turn: what one replica at a time may do, it does under a lease.

use std::time::{Duration, Instant};

use belfry_store::{Lease, Store, StoreError};

use crate::heartbeat::{Heartbeat, lease_deadline};

/// Wait until the lease of this name is ours; gives until when it surely is. The heartbeat renews it from then on.
pub(crate) async fn take(store: &Store, heartbeat: &Heartbeat, name: &str) -> Result<(Lease, Instant), StoreError> {
    let mut seen = heartbeat.seen();
    loop {
        let wait = {
            let seen = seen.borrow_and_update();
            match seen.lease(name) {
                Some((lease, _)) if lease.owner == Some(heartbeat.owner()) => Duration::ZERO,
                Some((lease, _)) => lease.remaining,
                // It was registered since the last look.
                None => Duration::ZERO,
            }
        };
        if wait.is_zero() {
            let asked_at = Instant::now();
            if let Some(lease) = store.acquire_lease(name, heartbeat.owner()).await? {
                tracing::info!(name, epoch = lease.epoch, position = lease.position, "the lease is taken");
                heartbeat.look();
                return Ok((lease, lease_deadline(asked_at)));
            }
        }
        tokio::select! {
            // A little after its end: the database's clock decides.
            () = tokio::time::sleep(wait + Duration::from_millis(20)) => heartbeat.look(),
            _ = seen.changed() => {}
        }
    }
}

/// Until when a lease surely is ours, now that the heartbeat has looked again.
pub(crate) fn renewed(heartbeat: &Heartbeat, name: &str, lease: &Lease, deadline: Instant) -> Instant {
    match heartbeat.seen().borrow().lease(name) {
        Some((state, until)) if state.epoch == lease.epoch => deadline.max(until),
        _ => deadline,
    }
}
