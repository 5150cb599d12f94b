//! Measures Belfry against raw limits, in one run, so that each figure is a ratio on the same machine at the same time.
//!
//! Run it with `make bench`. Every figure is the median of alternating rounds.

mod calls;
mod clients;
mod figures;
mod footprint;
mod http;
mod stream;

use anyhow::Result;

use figures::Figures;

#[tokio::main]
async fn main() -> Result<()> {
    let mut figures = Figures::default();
    eprintln!("1/4 calling a rule …");
    calls::measure(&mut figures)?;
    eprintln!("2/4 a stream of events to the feed, against the same rows written bare …");
    stream::measure(&mut figures).await?;
    eprintln!("3/4 64 clients with single events, against storing alone …");
    clients::measure(&mut figures).await?;
    eprintln!("4/4 memory and start …");
    footprint::measure(&mut figures).await?;
    println!("{figures}");
    Ok(())
}
