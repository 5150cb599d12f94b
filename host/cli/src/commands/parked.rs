//! `belfry parked`.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::Exit;
use crate::client::wire::Parked;
use crate::client::{Client, ParkedQuery};
use crate::exit::Fault;
use crate::output::{Format, Output, table};

/// The commands of `parked`.
#[derive(Debug, Subcommand)]
pub enum ParkedCommand {
    /// List parked entries: refused by a sink, behind a refused entry of the same key, or of a held topic
    List(ParkedListArgs),
    /// Unpark entries: send them and all entries of their keys again, in order
    Unpark(ParkedArgs),
    /// Discard entries: never send them
    Discard(DiscardArgs),
}

/// The criteria by which parked entries are selected. An entry matches if all that are given apply.
#[derive(Debug, Args)]
pub struct ParkedChoice {
    /// Only entries of this sink, such as kafka
    #[arg(long)]
    pub sink: Option<String>,
    /// Only entries of this topic
    #[arg(long)]
    pub topic: Option<String>,
    /// Only entries with this key, which is a notification's recipient; "" for entries without a key
    #[arg(long)]
    pub key: Option<String>,
    /// Only the entry at this position in the log
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
    /// The criteria.
    #[command(flatten)]
    pub filter: ParkedChoice,
    /// Maximum number to list
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

Fix the cause of the refusal first: an entry that is refused again stays parked. An expired entry is withheld. Nothing is
sent while the sink is paused. Entries of a topic that the sink does not accept are sent automatically once it does.")]
pub struct ParkedArgs {
    /// The criteria.
    #[command(flatten)]
    pub filter: ParkedChoice,
    /// Select all parked entries
    #[arg(long)]
    pub all: bool,
}

/// Arguments of `parked discard`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  belfry parked discard --topic old.topic.v1 --reason \"the topic is no longer used\"
  belfry parked discard --position 4711 --reason \"superseded, the producer sent it again in parts\"

The entry stays in Belfry's log, and `belfry explain` shows it, but consumers never receive it. The reason is written to the
service's log with your name; do not quote the entry in it.")]
pub struct DiscardArgs {
    /// The entries.
    #[command(flatten)]
    pub which: ParkedArgs,
    /// Reason, in one line, for the service's log
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// Lists parked entries.
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
    output.text(&table(["sink", "position", "topic", "key", "blocks", "since", "reason", "request"], rows))?;
    if full {
        output.note(format!("there may be more than these {} entries; see --limit", args.limit));
    }
    Ok(Exit::Ok)
}

/// Unparks entries.
pub async fn unpark(args: &ParkedArgs, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    let entries = client.unpark(&chosen(args)?).await?;
    asked(entries, "queued to be sent again in order, once the sink's replica has nothing else in flight", output)
}

/// Discards parked entries.
pub async fn discard(args: &DiscardArgs, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    let entries = client.discard(&chosen(&args.which)?, &args.reason).await?;
    asked(entries, "discarded; the entries behind with the same key are sent", output)
}

fn asked(entries: u64, fate: &str, output: &Output) -> anyhow::Result<Exit> {
    if entries == 0 {
        let message = "no parked entry matches; `belfry parked list` shows all parked entries";
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
        let message = "select the entries: --sink, --topic, --key or --position, or else --all";
        return Err(Fault::new(Exit::Usage, message));
    }
    Ok(query)
}

fn query(ParkedChoice { sink, topic, key, position }: &ParkedChoice) -> ParkedQuery {
    ParkedQuery { sink: sink.clone(), topic: topic.clone(), key: key.clone(), position: *position }
}
