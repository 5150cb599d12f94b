//! What operators asked for parked entries. Only the holder of the lease does it, between two reads, so that an entry never
//! passes one of its key that stands before it.

use std::collections::{BTreeMap, HashSet};

use belfry_store::{Parked, ParkedFilter, ParkedRequest};
use tokio::sync::mpsc;

use super::Failure;
use super::session::Session;
use crate::clock::now_ms;
use crate::delivery::outlet::{Ack, Outlet};

/// Parked entries looked at together.
const LIMIT: u32 = 10_000;

impl Session<'_> {
    pub(super) async fn serve_parked_requests(
        &mut self,
        outlet: &mut Outlet,
        acknowledged: &mut mpsc::UnboundedReceiver<Ack>,
    ) -> Result<(), Failure> {
        let store = &self.relay.store;
        let filter = ParkedFilter { sink: Some(self.sink.to_owned()), ..ParkedFilter::default() };
        let all = store.parked(&filter, LIMIT).await?;
        let is_discarded = |parked: &&Parked| parked.request == Some(ParkedRequest::Discard);
        let discarded: Vec<i64> = all.iter().filter(is_discarded).map(|parked| parked.position).collect();
        if !discarded.is_empty() && store.discard_parked(self.sink, self.lease.epoch, &discarded, now_ms()).await? {
            tracing::info!(sink = self.sink, positions = ?discarded, "parked entries are discarded");
        }
        let mut keys: BTreeMap<(String, String), Vec<i64>> = BTreeMap::new();
        let asked: HashSet<(&str, &str)> = all
            .iter()
            .filter(|parked| parked.request.is_some())
            .map(|parked| (&*parked.topic, &*parked.event_key))
            .collect();
        // All of a key, also what was parked behind the others after somebody asked. What stood behind a discarded entry
        // is free to go; what is itself to blame is refused again, and stays.
        for parked in all.iter().filter(|parked| !is_discarded(parked)) {
            if asked.contains(&(&*parked.topic, &*parked.event_key)) {
                keys.entry((parked.topic.clone(), parked.event_key.clone())).or_default().push(parked.position);
            }
        }
        if !keys.is_empty() {
            outlet.look_again().await.map_err(Failure::Sink)?;
        }
        for positions in keys.into_values() {
            self.unpark(&positions, outlet, acknowledged).await?;
        }
        let left = self.relay.store.blocked_keys(self.sink).await?;
        self.blocked = left.into_iter().collect();
        let parked = self.relay.store.parked(&filter, LIMIT).await?.len();
        metrics::gauge!("belfry_parked", "sink" => self.sink).set(parked as f64);
        Ok(())
    }

    /// Send the parked entries of one key in the order of the log. The first that is refused again stays, and those behind
    /// it.
    async fn unpark(
        &mut self,
        positions: &[i64],
        outlet: &mut Outlet,
        acknowledged: &mut mpsc::UnboundedReceiver<Ack>,
    ) -> Result<(), Failure> {
        let entries = self.relay.store.read_relay_at(positions).await?;
        let mut refused = None;
        let mut gone: Vec<i64> = positions.to_vec();
        for entry in &entries {
            if let Err(reason) = self.try_alone(entry, outlet, acknowledged).await? {
                gone.retain(|position| *position < entry.position);
                refused = Some(reason);
                break;
            }
        }
        let store = &self.relay.store;
        store.forget_parked(self.sink, self.lease.epoch, &gone).await?;
        tracing::info!(sink = self.sink, positions = ?gone, "parked entries are sent");
        if let Some(reason) = refused {
            let left: Vec<i64> = positions.iter().copied().filter(|position| !gone.contains(position)).collect();
            store.keep_parked(self.sink, &left, &reason).await?;
        }
        Ok(())
    }
}
