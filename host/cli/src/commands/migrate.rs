//! `belfry migrate`.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use belfry_service::config::{Config, without_secrets};
use belfry_store::{MigrateReport, StoreSettings, migrate, migrate_submit};
use clap::Args;
use serde::Serialize;

use crate::commands::serve::ConfigArgs;
use crate::direct;
use crate::exit::{Exit, Fault};
use crate::output::{Format, Output};

/// Arguments of `migrate`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  belfry migrate --config belfry.toml
  belfry migrate --submit-only --url postgres://owner@grading-db/grading
  belfry migrate --submit-only --url-file /run/secrets/grading-owner

Run it as the role that owns the schema. If the schema is up to date, it only grants the privileges of the roles
belfry_runtime, belfry_reader and belfry_publisher again, to those that exist.")]
pub struct MigrateArgs {
    /// The source of the configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Install only belfry.submit and its table, in the database of another service
    #[arg(long)]
    pub submit_only: bool,
    /// URL of the database; default: the configured store
    #[arg(long, value_name = "URL", conflicts_with = "url_file")]
    pub url: Option<String>,
    /// File that holds the URL of the database, for a URL with a password
    #[arg(long, value_name = "FILE")]
    pub url_file: Option<PathBuf>,
}

/// The result as JSON.
#[derive(Serialize)]
struct Migrated {
    database: String,
    schema: &'static str,
    from: i64,
    to: i64,
}

/// Migrates the schema to the current version.
pub async fn run(args: &MigrateArgs, output: &Output) -> Result<Exit> {
    let config = args.config.load().map_err(configuration)?.config;
    let settings = settings(args, &config)?;
    let (schema, done) = if args.submit_only {
        ("submit", migrate_submit(&settings).await)
    } else if settings.url.starts_with("sqlite:") {
        output.note("an SQLite store is migrated whenever Belfry starts; there is nothing to do");
        return Ok(Exit::Ok);
    } else {
        ("belfry", migrate(&settings).await)
    };
    let database = without_secrets(&settings.url);
    let report = done.map_err(|error| Fault::new(direct::exit_for(&error), format!("{database}: {error}")))?;
    show(output, database, schema, report)
}

fn settings(args: &MigrateArgs, config: &Config) -> Result<StoreSettings, Fault> {
    let url = match (&args.url, &args.url_file) {
        (Some(url), _) => url.clone(),
        (None, Some(path)) => {
            let text = fs::read_to_string(path).map_err(|error| {
                configuration(format!("--url-file: cannot read {}: {error}; check that it exists", path.display()))
            })?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        (None, None) if args.submit_only => {
            let problem = "--submit-only needs the other service's database: set --url or --url-file";
            return Err(Fault::new(Exit::Usage, problem));
        }
        (None, None) => return config.store.settings().map_err(configuration),
    };
    if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        return Err(Fault::new(Exit::Usage, "the URL is not a PostgreSQL URL; use postgres://USER@HOST/DATABASE"));
    }
    Ok(StoreSettings { url, ..config.store.settings().map_err(configuration)? })
}

fn configuration(error: impl ToString) -> Fault {
    Fault::new(Exit::Configuration, error.to_string())
}

fn show(output: &Output, database: String, schema: &'static str, report: MigrateReport) -> Result<Exit> {
    let MigrateReport { from, to } = report;
    match output.format() {
        Format::Json => output.json(&Migrated { database, schema, from, to })?,
        Format::Text if from == to => {
            output.text(&format!("{database}: schema {schema} is up to date at version {to}"))?
        }
        Format::Text => output.text(&format!("{database}: schema {schema} migrated from version {from} to {to}"))?,
    }
    Ok(Exit::Ok)
}
