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
/// Maximum record size of the topic while it accepts everything.
const LARGE_BYTES: usize = SMALL_BYTES * 4;
/// Size of the filling of an event that the topic rejects; compression reduces it slightly.
const TOO_LARGE: usize = SMALL_BYTES * 2;
/// Time limit for a relay to reach a position.
const PATIENCE: Duration = Duration::from_secs(60);

/// Places an entry that the topic rejects at every position of a group: its key stops, the others continue. Then the
/// topic accepts it, and the key's queued entries follow in order, together with new ones of the key.
pub(super) async fn unsendable(cluster: &mut Cluster, length: Length, random: &mut Rng) -> Result<()> {
    let run = cluster.small.clone();
    let settings = StoreSettings { migrate: false, ..StoreSettings::new(&cluster.database.url) };
    let store = Store::open(&settings).await?;
    let filter = ParkedFilter { topic: Some(cluster.small.clone()), ..ParkedFilter::default() };
    // A short round covers the first position and one other.
    let mut positions = length.of(vec![random.usize(1..GROUP), 0], (0..GROUP).rev().collect());
    while let Some(position) = positions.last().copied() {
        let round = random.u64(..);
        // The other key and the key that stops alternate.
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
            // The replica refreshed its knowledge of the topic just then. That is correct, but proves nothing here.
            continue;
        }
        let behind = (position..GROUP).step_by(2).count();
        wait_for_parked(&store, &filter, behind).await.with_context(|| format!("rejected at position {position}"))?;
        work(random, 200).await;
        cluster.set_small(LARGE_BYTES).await?;
        // One more event of the key at the same time; the unpark request may or may not include it.
        let last = event(cluster, &key(position), GROUP as u64 + 1, 0);
        let client = cluster.clients().next().context("no replica is up")?;
        let topic = json!({ "topic": cluster.small });
        let (asked, posted) = tokio::join!(
            client.post_to("/v1/parked/unpark", &topic),
            cluster.load.submit(std::slice::from_ref(&last), &[GROUP as u64 + 1]),
        );
        let asked = asked?;
        ensure!(
            asked.body["entries"].as_u64() >= Some(behind as u64),
            "not all entries of the key were unparked: {asked:?}"
        );
        posted?;
        wait_for_parked(&store, &filter, 0).await.with_context(|| format!("unparked at position {position}"))?;
        positions.pop();
    }
    store.close().await;
    Ok(())
}

/// Makes the replicas consider large records acceptable. A replica refuses events that exceed the topic's limit as the
/// replica knows it. Each receives a large event while the topic accepts it: what it then knows is not refreshed for
/// some time.
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
            ensure!(began.elapsed() < PATIENCE, "a replica does not notice the topic's new limit: {posted:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    // They are sent before the topic rejects them again.
    let mut connection = cluster.connect().await?;
    let sent = "SELECT position >= $1 FROM belfry.relay WHERE sink = 'kafka'";
    while !sqlx::query_scalar::<_, bool>(sent).bind(last).fetch_one(&mut connection).await? {
        ensure!(began.elapsed() < PATIENCE, "the relay does not reach position {last}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    Ok(())
}

/// Returns an event for the topic `small`. Its filling does not compress well.
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

/// Returns 32 letters and digits.
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
        ensure!(began.elapsed() < PATIENCE, "{count} entries should be parked, but these are: {parked:?}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
