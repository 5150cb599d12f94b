//! `belfry demo`: demonstrates Belfry in a minute, on a temporary service. Events become notifications, a rule is changed
//! while the service runs, and duplicate, conflicting and malformed events do no harm.
//!
//! All output comes from the running service. Any unexpected result fails the demo.

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

/// Arguments of `demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Component to use as the second release of the rule; its name must be teacher-results
    #[arg(long, value_name = "FILE")]
    pub second_release: Option<PathBuf>,
}

/// Runs the demo. The exit code is [`Exit::Check`] if a result is not as expected.
pub async fn run(args: &DemoArgs, output: &Output) -> anyhow::Result<Exit> {
    let second_release = match &args.second_release {
        Some(file) => fs::read(file).with_context(|| format!("cannot read {}", file.display()))?,
        None => URGENT_FAILURES.to_vec(),
    };
    let server = Server::start().await?;
    let outcome = Story::begin(&server, output).await?.tell(second_release).await;
    let stopped = server.stop().await;
    // The first error explains later ones.
    outcome?;
    stopped?;
    Ok(Exit::Ok)
}

/// Returns the error of a demo with an unexpected result.
fn failed(what: impl Into<String>) -> anyhow::Error {
    Fault::new(Exit::Check, format!("the demo failed: {}", what.into())).into()
}
