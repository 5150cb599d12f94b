use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use belfry_store::{ParkedFilter, Store, StoreSettings};
use fastrand::Rng;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::cluster::{Cluster, SMALL_BYTES};
use super::{Length, work};

/// Events that are posted together.
const GROUP: usize = 5;
/// What the topic takes while it takes everything.
const LARGE_BYTES: usize = SMALL_BYTES * 4;
/// What fills an event that the topic does not take; compression makes a little less of it.
const TOO_LARGE: usize = SMALL_BYTES * 2;
/// How long it may take until a relay has come so far.
const PATIENCE: Duration = Duration::from_secs(60);

/// At every position of a group an entry that the topic does not take: its key stops, the others go on. Then the topic
/// takes it, and what waited follows in order, together with what comes for the key meanwhile.
pub(super) async fn unsendable(cluster: &mut Cluster, length: Length, random: &mut Rng) -> Result<()> {
    let run = cluster.small.clone();
    let settings = StoreSettings { migrate: false, ..StoreSettings::new(&cluster.database.url) };
    let store = Store::open(&settings).await?;
    let filter = ParkedFilter { topic: Some(cluster.small.clone()), ..ParkedFilter::default() };
    // A short round takes the first position and another.
    let mut positions = length.of(vec![random.usize(1..GROUP), 0], (0..GROUP).rev().collect());
    while let Some(position) = positions.last().copied() {
        let round = random.u64(..);
        // Others' keys, and the key that stops, alternate.
        let key =
            |place: usize| format!("{run}-{}-{round}", if place % 2 == position % 2 { "stops" } else { "goes on" });
        let number = |place: usize| place as u64 / 2 + 1;
        let group: Vec<Value> = (0..GROUP)
            .map(|place| event(cluster, &key(place), number(place), if place == position { TOO_LARGE } else { 0 }))
            .collect();
        let numbers: Vec<u64> = (0..GROUP).map(number).collect();
        believe_in_large_records(cluster, round).await?;
        cluster.set_small(SMALL_BYTES).await?;
        if !cluster.load.submit(&group, &numbers).await?.is_empty() {
            // What the replica knew of the topic was renewed just then. That is how it should be, and shows nothing here.
            continue;
        }
        let behind = (position..GROUP).step_by(2).count();
        wait_for_parked(&store, &filter, behind).await.with_context(|| format!("refused at position {position}"))?;
        work(random, 200).await;
        cluster.set_small(LARGE_BYTES).await?;
        // One more of the key at the same time, read or not when it is asked for.
        let last = event(cluster, &key(position), GROUP as u64 + 1, 0);
        let client = cluster.clients().next().context("no replica is up")?;
        let topic = json!({ "topic": cluster.small });
        let (asked, posted) = tokio::join!(
            client.post_to("/v1/parked/unpark", &topic),
            cluster.load.submit(std::slice::from_ref(&last), &[GROUP as u64 + 1]),
        );
        let asked = asked?;
        ensure!(asked.body["entries"].as_u64() >= Some(behind as u64), "not all of the key were asked for: {asked:?}");
        posted?;
        wait_for_parked(&store, &filter, 0).await.with_context(|| format!("unparked at position {position}"))?;
        positions.pop();
    }
    store.close().await;
    Ok(())
}

/// Replicas refuse what a topic does not take, as far as they know it. Each is given something large while the topic takes
/// it: what it knows then is not renewed for a while.
async fn believe_in_large_records(cluster: &Cluster, round: u64) -> Result<()> {
    cluster.set_small(LARGE_BYTES).await?;
    let began = Instant::now();
    let mut last = 0;
    for (number, client) in cluster.clients().enumerate() {
        let large = event(cluster, &format!("opens-{number}-{round}"), 1, TOO_LARGE);
        loop {
            let posted = client.post(&large).await?;
            if posted.status.is_success() {
                last = posted.body["position"].as_i64().unwrap_or_default().max(last);
                break;
            }
            ensure!(began.elapsed() < PATIENCE, "a replica does not notice what the topic takes: {posted:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    // They are gone before the topic takes them no more.
    let mut connection = cluster.connect().await?;
    let sent = "SELECT position >= $1 FROM belfry.relay WHERE sink = 'kafka'";
    while !sqlx::query_scalar::<_, bool>(sent).bind(last).fetch_one(&mut connection).await? {
        ensure!(began.elapsed() < PATIENCE, "the relay does not come to position {last}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    Ok(())
}

/// An event for the topic `small`. What fills it does not get smaller by compression.
fn event(cluster: &Cluster, key: &str, sequence: u64, filling: usize) -> Value {
    let id = cluster.load.event_id(key, sequence);
    let filling: String = (0..filling.div_ceil(32)).map(|number| filler(id, number)).collect();
    json!({
        "event_id": id,
        "event_type": cluster.small,
        "event_timestamp": "2026-03-02T09:15:01Z",
        "source_service": "soak",
        "data": { "batch_id": key, "filling": filling }
    })
}

/// Thirty-two letters.
fn filler(id: Uuid, number: usize) -> String {
    Uuid::new_v5(&id, &number.to_be_bytes()).simple().to_string()
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
