//! A replica's name belongs to one process at a time: two static members with the same name would fence each other for
//! ever. Kafka lets the newcomer win, so a lease in the database is taken first.

use std::time::{Duration, Instant};

use belfry_store::{Lease, LeaseState, Store, StoreError};
use tokio::time::timeout;

use super::check::SourceError;
use crate::heartbeat::{Heartbeat, Seen};
use crate::lease_keeper;
use crate::redis::PeerSignals;

/// How often a name that another process holds is checked.
const LOOK: Duration = Duration::from_secs(1);
/// Allowance for the duration of a check. A lease that expires later than this was renewed.
const SLACK: Duration = Duration::from_millis(1500);

/// The claim to a replica's name.
pub(super) struct ReplicaName {
    store: Store,
    heartbeat: Heartbeat,
    others: PeerSignals,
    name: String,
    lease: Option<Lease>,
}

impl ReplicaName {
    pub(super) fn new(store: Store, heartbeat: Heartbeat, others: PeerSignals, name: String) -> Self {
        Self { store, heartbeat, others, name, lease: None }
    }

    fn row(&self) -> String {
        format!("replica:{}", self.name)
    }

    /// Takes the name. A predecessor that was killed still holds it for a few seconds; a holder that renews it is running.
    pub(super) async fn claim(&mut self) -> Result<(), SourceError> {
        self.store.register_sink(&self.row(), 0).await?;
        let mut ends_by = None;
        while !self.take().await? {
            let Some(remaining) = self.state().await?.map(|state| state.remaining) else { continue };
            let ends_at = Instant::now() + remaining;
            match ends_by {
                None => {
                    tracing::info!(
                        replica = self.name,
                        remaining_ms = remaining.as_millis() as u64,
                        "the name is held, perhaps by a predecessor that was killed; waiting until its lease expires"
                    );
                    ends_by = Some(ends_at + SLACK);
                }
                Some(ends_by) if ends_at > ends_by => return Err(SourceError::Twin(self.name.clone())),
                Some(_) => {}
            }
            // Slightly after it expires, because the database's clock decides.
            self.wait((remaining + Duration::from_millis(20)).min(LOOK)).await;
        }
        Ok(())
    }

    /// Returns whether this process holds the name. Takes it again if its lease expired and no other process took it.
    /// `seen` is the last heartbeat.
    pub(super) async fn keep(&mut self, seen: &Seen) -> bool {
        let held = seen
            .lease(&self.row())
            .is_some_and(|(state, until)| state.owner == Some(self.heartbeat.owner()) && Instant::now() < until);
        // Without the database nothing is committed anyway, so the name counts as held for now.
        held || self.take().await.unwrap_or(true)
    }

    /// Waits until the name is free, and takes it.
    pub(super) async fn regain(&mut self) {
        tracing::error!(
            replica = self.name,
            "another replica took the name; nothing is read until it releases the name"
        );
        // Retention deletes the row of a replica that was absent for more than a day.
        while self.store.register_sink(&self.row(), 0).await.is_err() || !self.take().await.unwrap_or(false) {
            self.wait(LOOK).await;
        }
    }

    /// Releases the name, so that a successor can take it at once.
    pub(super) async fn give_back(&self) {
        let Some(lease) = &self.lease else { return };
        lease_keeper::give_back(&self.store, &self.others, &self.row(), lease).await;
    }

    /// Waits until the heartbeat finds the name free, but no longer than `at_most`.
    async fn wait(&self, at_most: Duration) {
        let mut seen = self.heartbeat.seen();
        let free = |seen: &Seen| seen.lease(&self.row()).is_some_and(|(state, _)| state.remaining.is_zero());
        let found = async {
            // The current result was just checked, so wait for a new one. The sender lives as long as any clone of the
            // heartbeat.
            let _ = seen.changed().await;
            let _ = seen.wait_for(free).await;
        };
        // After a timeout the name is checked anyway.
        let _ = timeout(at_most, found).await;
    }

    async fn take(&mut self) -> Result<bool, StoreError> {
        self.lease = self.store.acquire_lease(&self.row(), self.heartbeat.owner()).await?;
        if self.lease.is_some() {
            self.heartbeat.look();
        }
        Ok(self.lease.is_some())
    }

    async fn state(&self) -> Result<Option<LeaseState>, StoreError> {
        let beat = self.store.beat(self.heartbeat.owner()).await?;
        Ok(beat.leases.into_iter().find(|lease| lease.name == self.row()))
    }
}
