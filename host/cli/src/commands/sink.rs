//! `belfry sink`.

use clap::{Args, Subcommand};

use crate::Exit;
use crate::client::Client;
use crate::output::{Format, Output, table};

/// What to do with sinks.
#[derive(Debug, Subcommand)]
pub enum SinkCommand {
    /// List the sinks that are known, and what is kept for each
    List,
    /// Keep nothing for a sink any more; it must be switched off on every replica
    Forget(SinkArgs),
    /// Let a sink go on behind entries that it has not read and that are no longer in the log
    Resume(SinkArgs),
}

/// Which sink, and why.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  belfry sink forget redis --reason \"notifications go to Kafka only\"
  belfry sink resume kafka --reason \"the gap was announced, consumers have read the archive\"")]
pub struct SinkArgs {
    /// Its name
    pub name: String,
    /// Why, in a line; it is kept in the audit log
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// List sinks, forget one, or let one go on.
pub async fn run(command: &SinkCommand, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    match command {
        SinkCommand::List => list(client, output).await?,
        SinkCommand::Forget(SinkArgs { name, reason }) => {
            client.forget_sink(name, reason).await?;
            output.note(format!("{name} is forgotten; if it is enabled again, it begins at the end of the log"));
        }
        SinkCommand::Resume(SinkArgs { name, reason }) => {
            let resumed = client.resume_sink(name, reason).await?;
            match output.format() {
                Format::Json => output.json(&resumed)?,
                Format::Text => output.text(&format!(
                    "{name} goes on after position {}; {} entries are passed over",
                    resumed.position, resumed.missing
                ))?,
            }
        }
    }
    Ok(Exit::Ok)
}

async fn list(client: &Client, output: &Output) -> anyhow::Result<()> {
    let sinks = client.sinks().await?;
    if output.format() == Format::Json {
        sinks.iter().try_for_each(|sink| output.json(sink))?;
        return Ok(());
    }
    if sinks.is_empty() {
        output.note("no sink is known; enable one in the configuration");
        return Ok(());
    }
    let rows = sinks.into_iter().map(|sink| {
        let served = if sink.served { "yes" } else { "no" };
        let unread = sink.unread_seconds.map_or_else(String::new, |seconds| format!("{seconds:.0} s"));
        [
            sink.name,
            sink.position.to_string(),
            served.to_owned(),
            unread,
            sink.missing.to_string(),
            sink.parked.to_string(),
        ]
    });
    output.text(&table(["sink", "position", "served", "oldest unread", "missing", "parked"], rows))?;
    Ok(())
}
