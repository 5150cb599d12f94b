use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use belfry_store::{NewParkedRequest, ParkedFilter, ParkedRequest, Store, StoreSettings};
use fastrand::Rng;
use serde_json::{Value, json};

use super::super::cluster::{Cluster, SMALL_BYTES};
use super::{Length, work};

/// Events that are posted together.
const GROUP: usize = 5;
/// How long it may take until a relay has come so far.
const PATIENCE: Duration = Duration::from_secs(60);

/// At every position of a group an entry that the topic does not take: its key stops, the others go on. Then the topic
/// takes it, and what waited follows in order, together with what comes for the key meanwhile.
pub(super) async fn unsendable(cluster: &mut Cluster, _: Length, random: &mut Rng) -> Result<()> {
    let run = cluster.small.clone();
    let settings = StoreSettings { migrate: false, ..StoreSettings::new(&cluster.database.url) };
    let store = Store::open(&settings).await?;
    let filter = ParkedFilter { topic: Some(cluster.small.clone()), ..ParkedFilter::default() };
    for position in 0..GROUP {
        let round = random.u64(..);
        // Others' keys, and the key that stops, alternate.
        let key =
            |place: usize| format!("{run}-{}-{round}", if place % 2 == position % 2 { "stops" } else { "goes on" });
        let number = |place: usize| place as u64 / 2 + 1;
        let group: Vec<Value> = (0..GROUP)
            .map(|place| event(cluster, &key(place), number(place), if place == position { SMALL_BYTES } else { 0 }))
            .collect();
        let numbers: Vec<u64> = (0..GROUP).map(number).collect();
        cluster.load.submit(&group, &numbers).await?;
        let behind = (position..GROUP).step_by(2).count();
        wait_for_parked(&store, &filter, behind).await?;
        work(random, 200).await;
        cluster.set_small(SMALL_BYTES * 4).await?;
        // One more of the key at the same time, read or not when it is asked for.
        let last = event(cluster, &key(position), GROUP as u64 + 1, 0);
        let unpark = NewParkedRequest { request: ParkedRequest::Unpark, by: "local", reason: None };
        let (asked, posted) = tokio::join!(
            store.request_parked(&filter, &unpark),
            cluster.load.submit(std::slice::from_ref(&last), &[GROUP as u64 + 1]),
        );
        ensure!(asked? as usize >= behind, "not all of the key were asked for");
        posted?;
        wait_for_parked(&store, &filter, 0).await?;
        cluster.set_small(SMALL_BYTES).await?;
    }
    store.close().await;
    Ok(())
}

fn event(cluster: &Cluster, key: &str, sequence: u64, filling: usize) -> Value {
    json!({
        "event_id": cluster.load.event_id(key, sequence),
        "event_type": cluster.small,
        "event_timestamp": "2026-03-02T09:15:01Z",
        "source_service": "soak",
        "data": { "batch_id": key, "filling": "x".repeat(filling) }
    })
}

async fn wait_for_parked(store: &Store, filter: &ParkedFilter, count: usize) -> Result<()> {
    let began = Instant::now();
    loop {
        let parked = store.parked(filter, 1000).await?;
        if parked.len() == count {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "{count} entries should be parked, there are {parked:?}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
