//! `belfry doctor`: checks everything that the configuration names, and suggests remedies. Each kind of dependency has a
//! module. Dependencies are checked concurrently: one that does not respond does not hold up the others.

mod check;
mod database;
mod files;
mod kafka;
mod redis;
mod sources;

use clap::Args;
use futures_util::future::join_all;

use crate::commands::serve::ConfigArgs;
use crate::exit::{Exit, Fault};
use crate::output::{Format, Output, table};
use check::{Check, State, within};

/// Arguments of `doctor`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  belfry doctor --config belfry.toml
  belfry --output json doctor | jq 'select(.state != \"ok\")'

The checks change nothing. The exit code is 3 if a check failed, and 0 if there are only warnings.")]
pub struct DoctorArgs {
    /// The source of the configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Checks everything.
pub async fn run(args: &DoctorArgs, output: &Output) -> anyhow::Result<Exit> {
    let loaded = args.config.load().map_err(|error| Fault::new(Exit::Configuration, error.to_string()))?;
    let config = &loaded.config;
    let (database, kafka, redis, files) = tokio::join!(
        within("database", database::check(config)),
        within("kafka", kafka::check(config)),
        within("redis", redis::check(config)),
        within("files", async { files::check(config, args.config.config.as_deref()) }),
    );
    let sources = config.source.postgres.iter();
    let sources = join_all(sources.map(|source| within("source", sources::check(config, source)))).await;
    let checks: Vec<Check> = [database, kafka, redis, files].into_iter().chain(sources).flatten().collect();
    match output.format() {
        Format::Json => checks.iter().try_for_each(|check| output.json(check))?,
        Format::Text => {
            let row = |check: &Check| {
                let Check { check, state, finding, remedy } = check;
                [check.clone(), state.as_str().to_owned(), finding.clone(), remedy.clone().unwrap_or_default()]
            };
            output.text(&table(["check", "state", "finding", "remedy"], checks.iter().map(row)))?;
        }
    }
    let failed = checks.iter().any(|check| check.state == State::Failed);
    Ok(if failed { Exit::Check } else { Exit::Ok })
}
