//! `belfry parked`.

use serde_json::json;

use crate::Exit;
use crate::args::{DiscardArgs, ParkedArgs, ParkedChoice, ParkedListArgs};
use crate::client::wire::Parked;
use crate::client::{Client, ParkedQuery};
use crate::exit::Fault;
use crate::output::{Format, Output, table};

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
    let rows = parked.into_iter().map(|Parked { sink, position, topic, key, error, parked_at, request }| {
        [sink, position.to_string(), topic, key, parked_at, error, request.unwrap_or_default()]
    });
    output.text(&table(["sink", "position", "topic", "key", "since", "why", "asked for"], rows))?;
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
