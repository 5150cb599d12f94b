//! Measures Belfry against raw limits, in one run, so that each figure is a ratio on the same machine at the same time.
//!
//! Run it with `make bench`; `belfry-bench calls neighbour` chooses parts: calls, neighbour, stream, clients,
//! footprint, replay on SQLite; activations, catch-up, latency, relay, submit, hostile, idle on PostgreSQL, Kafka and
//! Redis. Every figure is the median of alternating rounds.

mod activations;
mod calls;
mod catch_up;
mod clients;
mod figures;
mod footprint;
mod hostile;
mod http;
mod idle;
mod latency;
mod neighbour;
mod relay;
mod replay;
mod servers;
mod stream;
mod submit;

use anyhow::Result;

use figures::Figures;

#[tokio::main]
async fn main() -> Result<()> {
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |part: &str| chosen.is_empty() || chosen.iter().any(|chosen| chosen == part);
    let mut figures = Figures::default();
    if wanted("calls") {
        eprintln!("calling a rule …");
        calls::measure(&mut figures)?;
    }
    if wanted("neighbour") {
        eprintln!("a rule next to one that misbehaves …");
        neighbour::measure(&mut figures).await?;
    }
    if wanted("stream") {
        eprintln!("a stream of events to the feed, compared with the same rows written bare …");
        stream::measure(&mut figures).await?;
    }
    if wanted("clients") {
        eprintln!("64 clients with single events, compared with storing alone …");
        clients::measure(&mut figures).await?;
    }
    if wanted("footprint") {
        eprintln!("memory and start …");
        footprint::measure(&mut figures).await?;
    }
    if wanted("replay") {
        eprintln!("recorded events through a candidate, compared with projecting alone …");
        replay::measure(&mut figures).await?;
    }
    if wanted("relay") {
        eprintln!("the relay alone, compared with a bare loop …");
        relay::measure(&mut figures).await?;
    }
    if wanted("catch-up") {
        eprintln!("a backlog from Kafka to Kafka, compared with the same rows written and produced bare …");
        catch_up::measure(&mut figures).await?;
    }
    if wanted("latency") {
        eprintln!("light load, compared with a bare commit and a bare produce …");
        latency::measure(&mut figures).await?;
    }
    if wanted("submit") {
        eprintln!("the time that belfry.submit adds to a transaction …");
        submit::measure(&mut figures).await?;
    }
    if wanted("activations") {
        eprintln!("releases that alternate under load, compared with the same load …");
        activations::measure(&mut figures).await?;
    }
    if wanted("hostile") {
        eprintln!("memory under hostile clients …");
        hostile::measure(&mut figures).await?;
    }
    if wanted("idle") {
        eprintln!("an idle replica …");
        idle::measure(&mut figures).await?;
    }
    println!("{figures}");
    Ok(())
}
