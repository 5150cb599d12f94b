//! A network that drops all packets: pending operations are abandoned, and the service continues over new connections.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use belfry_tests::servers::{FaultProxy, shared_postgres};
use belfry_tests::{Batch, Client, Replica, ServiceDatabase, eventually, results_ready};
use sqlx::PgPool;

/// Time limit to accept events again after the old connections went silent, while new ones work.
const AGAIN_WITHIN: Duration = Duration::from_secs(15);
const BEFORE: usize = 20;
/// Time within which a server probes an idle session.
const PROBED_WITHIN_SECONDS: u64 = 10;
/// Units per second of the timers in the kernel's table.
const TICKS_PER_SECOND: u64 = 100;
/// Codes for a connection's state and for its timer in the kernel's table.
const ESTABLISHED: &str = "01";
const KEEPALIVE: &str = "02";

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
    // Several at once, so that each kind of connection is open.
    let posted = futures_util::future::try_join_all((0..BEFORE as u64).map(post)).await?;
    ensure!(posted.iter().all(|posted| posted.status == 201), "{posted:?}");
    Client::collect(&mut feed, BEFORE).await?;

    proxy.silence();
    let silent = Instant::now();
    while post(1000).await?.status != 201 {
        ensure!(silent.elapsed() < AGAIN_WITHIN, "no event was accepted in {:?}", silent.elapsed());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    ensure!(silent.elapsed() < AGAIN_WITHIN, "an event was accepted only after {:?}", silent.elapsed());
    Client::collect(&mut feed, 1).await?;
    replica.terminate().await?;
    Ok(())
}

#[tokio::test]
async fn a_server_soon_notices_sessions_whose_client_is_gone() -> Result<()> {
    let server = shared_postgres().await?;
    let (database, service) = (server.create_database().await?, ServiceDatabase::create(server).await?);
    let source = ServiceDatabase::setting(&[&service]);
    let replica = Replica::start(&database, None, &[("source.postgres", source)]).await?;
    // Busy sessions have another timer until they have been idle briefly.
    for url in [&database.url, &service.database.url] {
        let pool = PgPool::connect(url).await?;
        eventually(
            "the server probes idle sessions",
            async || idle_sessions_are_probed(&pool, server.port()).await,
            |all| *all,
        )
        .await?;
    }
    replica.terminate().await?;
    Ok(())
}

/// Returns whether the server probes each idle session of Belfry on this database; `false` if there are none.
async fn idle_sessions_are_probed(pool: &PgPool, server: u16) -> Result<bool> {
    let ports: Vec<i32> = sqlx::query_scalar(
        "SELECT client_port FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'belfry' AND state = 'idle'",
    )
    .fetch_all(pool)
    .await?;
    let table = tokio::fs::read_to_string("/proc/net/tcp").await?;
    let probes: Vec<u16> = table.lines().filter_map(|line| probed_client(line, server)).collect();
    Ok(!ports.is_empty() && ports.iter().all(|port| u16::try_from(*port).is_ok_and(|port| probes.contains(&port))))
}

/// Returns the client's port if this line of the kernel's table is a session of the server that is probed soon.
fn probed_client(line: &str, server: u16) -> Option<u16> {
    let mut fields = line.split_whitespace().skip(1);
    let (local, remote, state, _queues, timer) =
        (fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let port = |address: &str| u16::from_str_radix(address.split_once(':')?.1, 16).ok();
    let (kind, ticks) = timer.split_once(':')?;
    let soon = u64::from_str_radix(ticks, 16).ok()? <= PROBED_WITHIN_SECONDS * TICKS_PER_SECOND;
    (port(local)? == server && state == ESTABLISHED && kind == KEEPALIVE && soon).then(|| port(remote)).flatten()
}
