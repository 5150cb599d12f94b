//! 64 clients, each posting one event after another; compared with the same server storing events that no rule
//! subscribes to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use belfry_tests::{Batch, BelfryProcess, results_ready};
use tempfile::TempDir;

use crate::figures::{Figures, millis, percent, percentile};
use crate::http::Connection;

const CLIENTS: usize = 64;
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(3);

/// The results of one round.
struct Seen {
    per_second: u64,
    p99: Duration,
}

pub(crate) async fn measure(figures: &mut Figures) -> Result<()> {
    let directory = TempDir::new()?;
    let service = BelfryProcess::start(directory.path()).await?;
    let address = service.http_address().to_owned();
    let next = Arc::new(AtomicU64::new(0));
    // A type without subscribers: the events are recorded, and no rule projects them.
    let stored = |text: String| text.replace("huleedu.ras.batch.results.ready.v1", "huleedu.nobody.cares.v1");
    round(&address, &next, |text| text).await?;
    let (mut projected, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        projected.push(round(&address, &next, |text| text).await?);
        bare.push(round(&address, &next, stored).await?);
    }
    service.terminate().await?;
    let rate = |seen: &[Seen]| percentile(&mut seen.iter().map(|seen| seen.per_second).collect::<Vec<_>>(), 50) as f64;
    let p99 = |seen: &[Seen]| percentile(&mut seen.iter().map(|seen| seen.p99).collect::<Vec<_>>(), 50);
    let (ours, raw) = (rate(&projected), rate(&bare));
    figures.add(
        "64 clients, single events",
        format!("{ours:.0} events/s, p99 {}", millis(p99(&projected))),
        format!("{} of {raw:.0}/s storing alone, p99 {}", percent(ours, raw), millis(p99(&bare))),
        "≥ 60 %",
    );
    Ok(())
}

async fn round(
    address: &str,
    next: &Arc<AtomicU64>,
    change: impl Fn(String) -> String + Copy + Send + 'static,
) -> Result<Seen> {
    let began = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (address, next) = (address.to_owned(), next.clone());
            tokio::spawn(async move {
                let mut connection = Connection::open(&address).await?;
                let mut times = Vec::new();
                while began.elapsed() < ROUND {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let event = change(results_ready(&Batch::number(number)).to_string());
                    let posted = Instant::now();
                    let (status, body) = connection.post("application/json", event.as_bytes()).await?;
                    if status != 201 {
                        bail!("{status}: {}", String::from_utf8_lossy(&body));
                    }
                    times.push(posted.elapsed());
                }
                Ok(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.await??);
    }
    let per_second = (times.len() as f64 / began.elapsed().as_secs_f64()) as u64;
    Ok(Seen { per_second, p99: percentile(&mut times, 99) })
}
