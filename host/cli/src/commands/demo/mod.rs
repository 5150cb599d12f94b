//! Shows everything that Belfry does in a minute, on a service of its own: events become notifications, a rule is
//! changed while it runs, and what is repeated, contradictory or broken does no harm.
//!
//! What is shown comes from the running service. What did not happen as it should fails the demo.

mod arrivals;
mod counters;
mod server;
mod story;

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use belfry_artifacts::URGENT_FAILURES;
use clap::Args;

use crate::exit::{Exit, Fault};
use crate::output::Output;
use server::Server;
use story::Story;

/// What the demo may be told.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Another component to change the rule to; its name must be teacher-results
    #[arg(long, value_name = "FILE")]
    pub second_release: Option<PathBuf>,
}

/// Run the demo. Ends with [`Exit::Check`] if something did not happen as it should.
pub async fn run(args: &DemoArgs, output: &Output) -> anyhow::Result<Exit> {
    let second_release = match &args.second_release {
        Some(file) => fs::read(file).with_context(|| format!("cannot read {}", file.display()))?,
        None => URGENT_FAILURES.to_vec(),
    };
    let server = Server::start().await?;
    let told = Story::begin(&server, output).await?.tell(second_release).await;
    let stopped = server.stop().await;
    // What went wrong first explains what went wrong after it.
    told?;
    stopped?;
    Ok(Exit::Ok)
}

/// Something did not happen as it should.
fn failed(what: impl Into<String>) -> anyhow::Error {
    Fault::new(Exit::Check, format!("the demo failed: {}", what.into())).into()
}
