//! `belfry compare`.

use std::time::Duration;

use belfry_service::parity::{CompareError, CompareSettings, Comparison, Difference, compare};
use clap::Args;

use crate::commands::serve::ConfigArgs;
use crate::direct::open_store;
use crate::exit::{Exit, Fault};
use crate::output::{Format, Output, counted, table};
use crate::when::{Span, When};

/// Arguments of `compare`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  belfry compare --config belfry.toml
  belfry compare --topic notifications.of-the-old-one.v1 --from 2026-03-02T00:00:00Z --grace 2m
  belfry --output json compare | jq 'select(.difference)'

Two notifications are paired if they have the same correlation id, recipient and type. The names of fields that differ are
shown, but neither their values nor recipients. The comparison changes nothing. With PostgreSQL it can run alongside the
service; with an SQLite store, stop the service first. The exit code is 3 if anything differs.")]
pub struct CompareArgs {
    /// The source of the configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Topic to which the other notifier publishes; default: notification.topic
    #[arg(long)]
    pub topic: Option<String>,
    /// Start of the range: a time, or its age such as 24h; default: the start of the log plus the grace period
    #[arg(long, value_name = "TIME|AGO")]
    pub from: Option<When>,
    /// End of the range: a time, or its age; default: now minus the grace period
    #[arg(long, value_name = "TIME|AGO")]
    pub to: Option<When>,
    /// Grace period: how much earlier or later the other notifier may have published the same; at most 1d
    #[arg(long, value_name = "SPAN", default_value = "1m", value_parser = grace)]
    pub grace: Span,
}

fn grace(text: &str) -> Result<Span, &'static str> {
    let span: Span = text.parse()?;
    if span.0 <= Duration::from_secs(86_400) { Ok(span) } else { Err("must be at most 1d") }
}

/// Compares the log with the notifications that another notifier has published.
pub async fn run(args: &CompareArgs, output: &Output) -> anyhow::Result<Exit> {
    let wrong = |message: String| Fault::new(Exit::Configuration, message);
    let config = args.config.load().map_err(|error| wrong(error.to_string()))?.config;
    if config.kafka.brokers.is_empty() {
        return Err(
            wrong("kafka.brokers: the other notifier's notifications are read from Kafka; set it".into()).into()
        );
    }
    let store = open_store(&config).await?;
    let settings = CompareSettings {
        topic: args.topic.clone(),
        from_ms: args.from.map(When::ms),
        to_ms: args.to.map(When::ms),
        grace: args.grace.0,
    };
    let compared = compare(&config, &store, &settings).await;
    store.close().await;
    let compared = compared.map_err(|error| match error {
        CompareError::NoTopic(_) => Fault::new(Exit::NotFound, error.to_string()),
        error => Fault::new(Exit::Failure, error.to_string()),
    })?;
    tell(&compared, output)
}

fn tell(compared: &Comparison, output: &Output) -> anyhow::Result<Exit> {
    match output.format() {
        Format::Json => {
            compared.differences.iter().try_for_each(|difference| output.json(difference))?;
            output.json(&serde_json::json!({ "summary": compared }))?;
        }
        Format::Text => {
            if !compared.differences.is_empty() {
                let header =
                    ["difference", "type", "correlation", "other's id", "partition/offset", "belfry's id", "fields"];
                output.text(&table(header, compared.differences.iter().map(row)))?;
            }
            output.text(&summary(compared))?;
        }
    }
    Ok(if compared.is_clean() { Exit::Ok } else { Exit::Check })
}

fn row(difference: &Difference) -> [String; 7] {
    let shown = |id: Option<uuid::Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
    let other = difference.other.as_ref();
    [
        difference.kind.as_str().to_owned(),
        difference.notification_type.clone(),
        shown(difference.correlation_id),
        shown(other.and_then(|other| other.event_id)),
        other.map(|other| format!("{}/{}", other.partition, other.offset)).unwrap_or_default(),
        shown(difference.belfry.as_ref().map(|belfry| belfry.event_id)),
        difference.fields.join(", "),
    ]
}

fn summary(compared: &Comparison) -> String {
    let verdict = if compared.is_clean() {
        "no difference".to_owned()
    } else {
        let counts = compared.counts.iter().map(|(kind, count)| format!("{count} {}", kind.as_str()));
        counts.collect::<Vec<_>>().join(", ")
    };
    let notes = [
        (compared.repeated, "repeated by the other notifier"),
        (compared.sent, "sent by belfry only"),
        (compared.of_belfry, "records published by belfry"),
        (compared.unreadable, "records that are not notifications"),
    ];
    let notes: Vec<String> =
        notes.iter().filter(|(count, _)| *count > 0).map(|(count, note)| format!("{count} {note}")).collect();
    let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
    format!(
        "{} to {}: {} of belfry against {} on {}{notes}: {} the same, {verdict}",
        compared.from,
        compared.to,
        counted(compared.belfry as usize, "notification"),
        compared.other,
        compared.topic,
        compared.same,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grace_is_a_span_of_a_day_at_most() {
        assert_eq!(grace("2m"), Ok(Span(Duration::from_secs(120))));
        assert_eq!(grace("24h"), Ok(Span(Duration::from_secs(86_400))));
        for text in ["25h", "60", "", "1 m"] {
            assert!(grace(text).is_err(), "{text}");
        }
    }
}
