//! `belfry sink`.

use clap::{Args, Subcommand};

use crate::Exit;
use crate::client::Client;
use crate::output::{Format, Output, table};

/// The commands of `sink`.
#[derive(Debug, Subcommand)]
pub enum SinkCommand {
    /// List the known sinks with their positions and the entries that are kept for each
    #[command(after_help = "\
Example:
  belfry sink list")]
    List,
    /// Forget a sink: keep nothing for it any more; it must be disabled on every replica
    Forget(SinkArgs),
    /// Resume a sink after entries that it has not read and that are no longer in the log
    Resume(SinkArgs),
}

/// Arguments of `sink forget` and `sink resume`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  belfry sink forget redis --reason \"notifications go to Kafka only\"
  belfry sink resume kafka --reason \"the gap was announced, consumers have read the archive\"")]
pub struct SinkArgs {
    /// Name of the sink
    pub name: String,
    /// Reason, in one line, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// Lists sinks, forgets one, or resumes one.
pub async fn run(command: &SinkCommand, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    match command {
        SinkCommand::List => list(client, output).await?,
        SinkCommand::Forget(SinkArgs { name, reason }) => {
            client.forget_sink(name, reason).await?;
            output.note(format!("{name} is forgotten; if it is enabled again, it starts at the end of the log"));
        }
        SinkCommand::Resume(SinkArgs { name, reason }) => {
            let resumed = client.resume_sink(name, reason).await?;
            match output.format() {
                Format::Json => output.json(&resumed)?,
                Format::Text => output.text(&format!(
                    "{name} resumes after position {}; {} entries are skipped",
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
        output.note("no known sinks; enable one in the configuration");
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
