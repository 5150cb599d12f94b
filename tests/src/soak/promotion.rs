//! A standby that lags behind takes over. Events that it had not received are lost, and must be identified; no others
//! may be lost.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tempfile::TempDir;
use uuid::Uuid;

use super::round::Arena;
use super::stage::Stage;
use super::verdict::Verdict;

/// Time for which clients post before and after the promotion.
const POST: Duration = Duration::from_secs(2);
const LAG: Duration = Duration::from_millis(600);
/// After this time without new records, missing ones are lost. Leases of the former primary do not count, and records
/// from Kafka are read again at once.
const QUIET: Duration = Duration::from_secs(20);

/// Whether clients post while the standby takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meanwhile {
    /// They do.
    Load,
    /// They do not, and everything was sent before.
    Silence,
}

/// The state after a standby took over.
pub struct Promoted {
    /// The checker's verdict, including lost events.
    pub verdict: Verdict,
    /// Events missing on the topics and unknown to the new primary.
    pub lost_with_the_old_primary: Vec<Uuid>,
    /// Events missing on the topics although the new primary has them.
    pub passed_over: Vec<Uuid>,
}

/// Promotes a standby that lags behind.
///
/// # Errors
/// Returns an error if something fails that should work.
pub async fn promotion(meanwhile: Meanwhile, seed: u64) -> Result<Promoted> {
    let stage = Arc::new(Stage::start().await?);
    let mut arena = Arena::open(stage.clone(), &format!("promotion-{meanwhile:?}"), seed).await?;
    let directory = TempDir::with_prefix("belfry-standby-")?;
    open_to_all(&directory)?;
    let standby = stage.postgres.standby(&directory.path().join("standby")).await?;
    arena.cluster.load.begin();
    tokio::time::sleep(POST).await;
    if meanwhile == Meanwhile::Silence {
        arena.cluster.load.rest().await?;
        arena.check().await?;
    }
    arena.cluster.load.expect_losses();
    stage.postgres.cut_standbys_off().await?;
    arena.cluster.load.begin();
    tokio::time::sleep(LAG).await;
    if meanwhile == Meanwhile::Silence {
        arena.cluster.load.rest().await?;
        let before = arena.check().await?;
        ensure!(before.is_good(), "before the standby took over: {before}");
    }
    stage.postgres_proxy.cut().await?;
    stage.postgres.kill().await?;
    standby.promote().await?;
    stage.postgres_proxy.lead_to(standby.port());
    stage.postgres_proxy.heal().await?;
    arena.cluster.load.begin();
    tokio::time::sleep(POST).await;
    arena.cluster.start_all().await?;
    arena.cluster.load.rest().await?;
    arena.check_until_quiet_for(QUIET).await?;
    let verdict = arena.all();
    let missing = arena.missing();
    let url = arena.cluster.database.url_through(standby.port(), "postgres");
    let known: Vec<Uuid> = sqlx::query_scalar("SELECT event_id FROM belfry.inbox WHERE event_id = ANY($1)")
        .bind(&missing)
        .fetch_all(&mut PgConnection::connect(&url).await?)
        .await?;
    let (passed_over, lost_with_the_old_primary) = missing.into_iter().partition(|id| known.contains(id));
    let logs = arena.cluster.logs();
    let promoted = Promoted { verdict, lost_with_the_old_primary, passed_over };
    if !promoted.passed_over.is_empty() {
        eprintln!("{logs}");
    }
    Ok(promoted)
}

fn open_to_all(directory: &TempDir) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))?)
}
