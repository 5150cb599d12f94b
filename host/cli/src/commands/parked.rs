//! `belfry parked`.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::Exit;
use crate::client::wire::Parked;
use crate::client::{Client, ParkedQuery};
use crate::exit::Fault;
use crate::output::{Format, Output, table};

/// What to do with parked entries.
#[derive(Debug, Subcommand)]
pub enum ParkedCommand {
    /// List the entries that a sink refused, those of their keys behind them, and those of topics that are held back
    List(ParkedListArgs),
    /// Send entries again, and with them all of their keys, in order
    Unpark(ParkedArgs),
    /// Never send entries
    Discard(DiscardArgs),
}

/// Which parked entries; those to which all of this applies.
#[derive(Debug, Args)]
pub struct ParkedChoice {
    /// Of this sink, such as kafka
    #[arg(long)]
    pub sink: Option<String>,
    /// Of this topic
    #[arg(long)]
    pub topic: Option<String>,
    /// Of this key; of a notification that is its recipient, and \"\" means none
    #[arg(long)]
    pub key: Option<String>,
    /// At this position in the log
    #[arg(long)]
    pub position: Option<i64>,
}

/// Arguments of `parked list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  belfry parked list
  belfry parked list --topic huleedu.ras.batch.results.ready.v1 --limit 1000")]
pub struct ParkedListArgs {
    /// Which.
    #[command(flatten)]
    pub filter: ParkedChoice,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

/// Arguments of `parked unpark`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  belfry parked unpark --position 4711
  belfry parked unpark --topic huleedu.ras.batch.results.ready.v1 --key batch-7
  belfry parked unpark --all

Change first what they were refused for; what is refused again stays parked. What has expired is withheld. Nothing is sent while
the sink is paused. Entries of a topic that the sink does not take are sent by themselves once it does.")]
pub struct ParkedArgs {
    /// Which.
    #[command(flatten)]
    pub filter: ParkedChoice,
    /// Every parked entry
    #[arg(long)]
    pub all: bool,
}

/// Arguments of `parked discard`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  belfry parked discard --topic old.topic.v1 --reason \"it is not made any more\"
  belfry parked discard --position 4711 --reason \"superseded, the producer sent it again in parts\"

The entry stays in Belfry's log, and `belfry explain` shows it. Consumers never see it. The reason goes to the
service's log, with your name; do not quote the entry in it.")]
pub struct DiscardArgs {
    /// Which.
    #[command(flatten)]
    pub which: ParkedArgs,
    /// Why, in a line
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// List parked entries.
pub async fn list(args: &ParkedListArgs, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    let parked = client.parked(&query(&args.filter), args.limit).await?;
    if output.format() == Format::Json {
        parked.iter().try_for_each(|parked| output.json(parked))?;
        return Ok(Exit::Ok);
    }
    if parked.is_empty() {
        output.note("nothing is parked");
        return Ok(Exit::Ok);
    }
    let full = parked.len() as u64 == u64::from(args.limit);
    let rows = parked.into_iter().map(|Parked { sink, position, topic, key, error, scope, parked_at, request }| {
        [sink, position.to_string(), topic, key, scope, parked_at, error, request.unwrap_or_default()]
    });
    output.text(&table(["sink", "position", "topic", "key", "blocks", "since", "why", "asked for"], rows))?;
    if full {
        output.note(format!("there may be more than these {}; see --limit", args.limit));
    }
    Ok(Exit::Ok)
}

/// Send parked entries again.
pub async fn unpark(args: &ParkedArgs, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    let entries = client.unpark(&chosen(args)?).await?;
    asked(entries, "sent again in order, as soon as the sink's replica has nothing else under way", output)
}

/// Never send parked entries.
pub async fn discard(args: &DiscardArgs, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    let entries = client.discard(&chosen(&args.which)?, &args.reason).await?;
    asked(entries, "discarded; what stands behind in the same key is sent", output)
}

fn asked(entries: u64, fate: &str, output: &Output) -> anyhow::Result<Exit> {
    if entries == 0 {
        let message = "no parked entry is meant; `belfry parked list` shows those that there are";
        return Err(Fault::new(Exit::NotFound, message).into());
    }
    match output.format() {
        Format::Json => output.json(&json!({ "entries": entries }))?,
        Format::Text if entries == 1 => output.text(&format!("1 entry is {fate}"))?,
        Format::Text => output.text(&format!("{entries} entries are {fate}"))?,
    }
    Ok(Exit::Ok)
}

fn chosen(args: &ParkedArgs) -> Result<ParkedQuery, Fault> {
    let query = query(&args.filter);
    if (query == ParkedQuery::default()) != args.all {
        let message = "say which entries: --sink, --topic, --key or --position, or else --all";
        return Err(Fault::new(Exit::Usage, message));
    }
    Ok(query)
}

fn query(ParkedChoice { sink, topic, key, position }: &ParkedChoice) -> ParkedQuery {
    ParkedQuery { sink: sink.clone(), topic: topic.clone(), key: key.clone(), position: *position }
}
