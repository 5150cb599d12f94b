//! `belfry config`.

use belfry_service::config::{DEFAULT_TOML, Loaded, Setting};
use clap::{Args, Subcommand};

use crate::commands::serve::ConfigArgs;
use crate::exit::{Exit, Fault};
use crate::output::{Format, Output, table};

/// The commands of `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show all settings with their values and the sources of these
    #[command(after_help = "\
Examples:
  belfry config show --config belfry.toml
  belfry config show --defaults > belfry.toml")]
    Show(ShowArgs),
    /// Validate the configuration as `serve` does, without contacting a server or starting anything
    #[command(after_help = "\
Example:
  belfry config check --config belfry.toml")]
    Check(ConfigArgs),
}

/// Arguments of `config show`.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// The source of the configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Show the commented default configuration instead, as the start of a file
    #[arg(long)]
    pub defaults: bool,
}

/// Shows or checks the configuration.
pub fn run(command: &ConfigCommand, output: &Output) -> anyhow::Result<Exit> {
    match command {
        ConfigCommand::Show(ShowArgs { defaults: true, .. }) => output.verbatim(DEFAULT_TOML.trim_end())?,
        ConfigCommand::Show(ShowArgs { config, .. }) => show(&load(config)?.settings, output)?,
        ConfigCommand::Check(config) => {
            load(config)?.config.check().map_err(wrong)?;
            output.note("the configuration is valid");
        }
    }
    Ok(Exit::Ok)
}

fn load(config: &ConfigArgs) -> Result<Loaded, Fault> {
    config.load().map_err(wrong)
}

fn wrong(error: impl ToString) -> Fault {
    Fault::new(Exit::Configuration, error.to_string())
}

fn show(settings: &[Setting], output: &Output) -> anyhow::Result<()> {
    match output.format() {
        Format::Json => settings.iter().try_for_each(|setting| output.json(setting))?,
        Format::Text => {
            let row = |setting: &Setting| [setting.name.clone(), setting.value.to_string(), setting.origin.clone()];
            output.text(&table(["setting", "value", "from"], settings.iter().map(row)))?;
        }
    }
    Ok(())
}
