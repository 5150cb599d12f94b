//! A network that swallows everything: what waits is given up, and the service goes on over new connections.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use belfry_tests::servers::{FaultProxy, shared_postgres};
use belfry_tests::{Batch, Client, Replica, results_ready};

/// From when the old connections are dead and new ones work.
const AGAIN_WITHIN: Duration = Duration::from_secs(15);
const BEFORE: usize = 20;

#[tokio::test]
async fn events_are_taken_again_when_the_servers_connections_died_in_silence() -> Result<()> {
    let server = shared_postgres().await?;
    let mut database = server.create_database().await?;
    let proxy = FaultProxy::start(server.port()).await?;
    database.url = database.url.replace(&server.port().to_string(), &proxy.port().to_string());
    let replica = Replica::start(&database, None, &[]).await?;
    let client = replica.client();
    let mut feed = client.feed("from=beginning", None).await?;
    let post = async |number| client.post(&results_ready(&Batch::number(number))).await;
    // Several at once, so that each kind of connection is there.
    let posted = futures_util::future::try_join_all((0..BEFORE as u64).map(post)).await?;
    ensure!(posted.iter().all(|posted| posted.status == 201), "{posted:?}");
    Client::collect(&mut feed, BEFORE).await?;

    proxy.silence();
    let silent = Instant::now();
    while post(1000).await?.status != 201 {
        ensure!(silent.elapsed() < AGAIN_WITHIN, "no event was taken in {:?}", silent.elapsed());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    ensure!(silent.elapsed() < AGAIN_WITHIN, "an event was taken after {:?}", silent.elapsed());
    Client::collect(&mut feed, 1).await?;
    replica.terminate().await?;
    Ok(())
}
