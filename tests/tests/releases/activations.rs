//! Two releases alternate under load: every event leads to one notification, from the release that it names.

use std::time::Duration;

use anyhow::{Result, ensure};
use belfry_tests::servers::shared_postgres;
use belfry_tests::{Alternation, Replica, Turns, alternate};

/// `make bench` does a thousand activations and measures what they cost.
const ACTIVATIONS: usize = 60;

#[tokio::test]
async fn releases_that_change_places_lose_and_double_nothing() -> Result<()> {
    let database = shared_postgres().await?.create_database().await?;
    let start = || Replica::start(&database, None, &[]);
    let replicas = [start().await?, start().await?, start().await?];
    let clients = replicas.each_ref().map(Replica::client);
    let turns = Turns {
        rounds: 1,
        activations: ACTIVATIONS,
        pause: Duration::from_millis(1),
        quiet: Duration::from_millis(100),
        every: Duration::from_millis(5),
    };
    let Alternation { projected, findings, .. } = alternate(&clients, turns).await?;
    ensure!(findings.is_empty(), "{} findings, for example {:?}", findings.len(), findings.first());
    ensure!(
        projected.len() == 2 && projected.values().all(|events| *events > 0),
        "each release projected events: {projected:?}"
    );
    Ok(())
}
