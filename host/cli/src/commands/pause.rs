//! `belfry pause`.

use clap::{Args, Subcommand};

use crate::Exit;
use crate::client::Client;
use crate::output::{Format, Output, table};

/// What to bring to a halt, and what to let go on.
#[derive(Debug, Subcommand)]
pub enum PauseCommand {
    /// List what is at a halt
    List,
    /// A rule: its events become dead letters
    Projector(PauseArgs),
    /// A sink: entries wait in the log
    Sink(PauseArgs),
    /// All notifications: they are recorded as withheld, and not sent later either
    Notifications(ReasonArgs),
    /// Let something go on
    #[command(subcommand)]
    End(EndCommand),
}

/// What to let go on.
#[derive(Debug, Subcommand)]
pub enum EndCommand {
    /// A rule
    Projector(NameArgs),
    /// A sink
    Sink(NameArgs),
    /// All notifications
    Notifications,
}

/// Which, and why.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  belfry pause sink kafka --reason \"the cluster is moved\"")]
pub struct PauseArgs {
    /// Its name
    pub name: String,
    /// Why.
    #[command(flatten)]
    pub reason: ReasonArgs,
}

/// Why.
#[derive(Args, Debug)]
pub struct ReasonArgs {
    /// Why, in a line; it goes to the service's log
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// Which.
#[derive(Args, Debug)]
pub struct NameArgs {
    /// Its name
    pub name: String,
}

/// How all notifications are called.
const ALL: &str = "all";

/// Pause, go on, or list what is paused.
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
    output.text(&table(["", "name", "since", "by", "reason"], rows))?;
    Ok(Exit::Ok)
}
