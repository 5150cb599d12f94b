//! What /readyz shows.

use anyhow::{Result, ensure};
use belfry_tests::eventually;
use belfry_tests::servers::{Postgres, Redis};
use serde_json::Value;
use tempfile::TempDir;

use super::replicas::start;

#[tokio::test]
async fn readiness_tells_of_every_part_and_depends_on_few() -> Result<()> {
    let directory = TempDir::new()?;
    let postgres = Postgres::start(&directory.path().join("postgres"), &[]).await?;
    let redis = Redis::start(&directory.path().join("redis")).await?;
    let database = postgres.create_database().await?;
    let one = start(&database, Some(&redis.url())).await?;
    one.wait_until_it_serves("stdout").await?;
    let other = start(&database, Some(&redis.url())).await?;
    let (mine, theirs) = (one.readiness().await?, other.readiness().await?);
    ensure!(mine["ready"] == true && mine["store"] == "ok" && mine["writer"] == "ok", "{mine}");
    ensure!(mine["redis"] == "connected" && mine["sinks"][0]["breaker"] == "closed", "{mine}");
    ensure!(mine["heartbeat"]["age_seconds"].as_f64().is_some_and(|age| age < 10.0), "{mine}");
    let served = &theirs["sinks"][0];
    ensure!(served["served_by"] == "another-replica" && served["replica"] == mine["replica"], "{theirs}");

    let http = reqwest::Client::new();
    let ready = format!("{}/readyz", one.process().ops_url());
    let text = http.get(format!("{ready}?verbose")).send().await?.text().await?;
    ensure!(
        text.starts_with("ready\n") && text.contains("sink stdout: breaker closed, served by this replica"),
        "{text}"
    );
    let accepting = http.get(format!("{ready}?verbose")).header("accept", "application/json").send().await?;
    ensure!(accepting.json::<Value>().await?["ready"] == true);
    ensure!(http.get(&ready).send().await?.text().await? == "ok\n");

    redis.kill().await?;
    one.wait_for_redis("disconnected").await?;
    ensure!(http.get(&ready).send().await?.status() == 200, "a replica without Redis is not ready");
    ensure!(one.metric("belfry_redis_connected").await? == 0.0);
    redis.restart().await?;
    one.wait_for_redis("connected").await?;
    ensure!(one.metric("belfry_redis_connected").await? == 1.0);

    postgres.kill().await?;
    // The database is queried at most once per second.
    let asked = async || {
        let away = http.get(&ready).send().await?;
        Ok((away.status().as_u16(), away.text().await?))
    };
    let is_away = |(status, text): &(u16, String)| *status == 503 && text.starts_with("store: ");
    eventually("a replica without its database is not ready", asked, is_away).await?;
    let away = one.readiness().await?;
    ensure!(away["ready"] == false && away["store"] != "ok" && away["redis"] == "connected", "{away}");
    Ok(())
}
