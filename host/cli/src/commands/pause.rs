//! `belfry pause`.

use clap::{Args, Subcommand};

use crate::Exit;
use crate::client::Client;
use crate::output::{Format, Output, table};

/// The commands of `pause`.
#[derive(Debug, Subcommand)]
pub enum PauseCommand {
    /// List everything that is paused
    #[command(after_help = "\
Example:
  belfry pause list")]
    List,
    /// Pause a rule: its events become dead letters
    #[command(after_help = "\
Example:
  belfry pause projector teacher-results --reason \"it sends too many\"")]
    Projector(PauseArgs),
    /// Pause a sink: its entries wait in the log
    Sink(PauseArgs),
    /// Pause all notifications: they are recorded as withheld, and never sent
    #[command(after_help = "\
Example:
  belfry pause notifications --reason \"the texts are being corrected\"")]
    Notifications(ReasonArgs),
    /// Resume a rule, a sink or all notifications
    #[command(subcommand)]
    End(EndCommand),
}

/// The commands of `pause end`.
#[derive(Debug, Subcommand)]
pub enum EndCommand {
    /// Resume a rule
    #[command(after_help = "\
Example:
  belfry pause end projector teacher-results")]
    Projector(NameArgs),
    /// Resume a sink
    #[command(after_help = "\
Example:
  belfry pause end sink kafka")]
    Sink(NameArgs),
    /// Resume all notifications
    #[command(after_help = "\
Example:
  belfry pause end notifications")]
    Notifications,
}

/// Arguments of `pause projector` and `pause sink`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  belfry pause sink kafka --reason \"the cluster is being moved\"")]
pub struct PauseArgs {
    /// Name of the rule or sink
    pub name: String,
    /// The reason.
    #[command(flatten)]
    pub reason: ReasonArgs,
}

/// The reason for a pause.
#[derive(Args, Debug)]
pub struct ReasonArgs {
    /// Reason, in one line, for the service's log
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// Arguments of `pause end projector` and `pause end sink`.
#[derive(Args, Debug)]
pub struct NameArgs {
    /// Name of the rule or sink
    pub name: String,
}

/// The name under which all notifications are paused.
const ALL: &str = "all";

/// Pauses, resumes, or lists what is paused.
pub async fn run(command: &PauseCommand, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    match command {
        PauseCommand::List => return list(client, output).await,
        PauseCommand::Projector(args) => client.pause("projector", &args.name, &args.reason.reason).await?,
        PauseCommand::Sink(args) => client.pause("sink", &args.name, &args.reason.reason).await?,
        PauseCommand::Notifications(args) => client.pause("notifications", ALL, &args.reason).await?,
        PauseCommand::End(EndCommand::Projector(args)) => client.resume("projector", &args.name).await?,
        PauseCommand::End(EndCommand::Sink(args)) => client.resume("sink", &args.name).await?,
        PauseCommand::End(EndCommand::Notifications) => client.resume("notifications", ALL).await?,
    }
    Ok(Exit::Ok)
}

async fn list(client: &Client, output: &Output) -> anyhow::Result<Exit> {
    let pauses = client.pauses().await?;
    if output.format() == Format::Json {
        pauses.iter().try_for_each(|pause| output.json(pause))?;
        return Ok(Exit::Ok);
    }
    if pauses.is_empty() {
        output.note("nothing is paused");
        return Ok(Exit::Ok);
    }
    let rows = pauses.into_iter().map(|pause| [pause.kind, pause.name, pause.paused_at, pause.paused_by, pause.reason]);
    output.text(&table(["kind", "name", "since", "by", "reason"], rows))?;
    Ok(Exit::Ok)
}
