//! `belfry compare`.

use std::time::Duration;

use belfry_model::parse_instant_ms;
use belfry_service::compare::{CompareError, CompareSettings, Comparison, Difference, compare};
use belfry_store::{OpenError, Store};
use clap::Args;

use crate::commands::serve::ConfigArgs;
use crate::exit::{Exit, Fault};
use crate::output::{Format, Output, counted, table};

/// Arguments of `compare`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  belfry compare --config belfry.toml
  belfry compare --topic notifications.of-the-old-one.v1 --from 2026-03-02T00:00:00Z
  belfry --output json compare | jq 'select(.difference)'

Two notifications belong together if they follow from the same correlation id, tell the same recipient, and are of the
same type. Fields that differ are named; what stands in them is not shown, and no recipient is. It changes nothing. With
PostgreSQL it runs beside the service; an SQLite store has to be let go of first. Ends with 3 if anything differs.")]
pub struct CompareArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Where the other notifier publishes; without it, notification.topic
    #[arg(long)]
    pub topic: Option<String>,
    /// Begin here; without it, the grace after the log's beginning
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub from: Option<i64>,
    /// End here; without it, the grace ago
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub to: Option<i64>,
    /// How much earlier or later the other notifier may have told the same
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(..=86_400))]
    pub grace: u32,
}

fn time(text: &str) -> Result<i64, &'static str> {
    parse_instant_ms(text).map_err(|_| "must be a time, such as 2026-03-02T09:15:00Z")
}

/// Compare the log with what another notifier has published.
pub async fn run(args: &CompareArgs, output: &Output) -> anyhow::Result<Exit> {
    let wrong = |message: String| Fault::new(Exit::Configuration, message);
    let config = args.config.load().map_err(|error| wrong(error.to_string()))?.config;
    if config.kafka.brokers.is_empty() {
        return Err(wrong("kafka.brokers: what the other notifier told is read from Kafka; set it".into()).into());
    }
    let settings = config.store.settings().map_err(|error| wrong(error.to_string()))?;
    let store = Store::open(&settings.beside_the_service()).await.map_err(|error| match error {
        OpenError::Locked(path) => {
            let message =
                format!("{} is in use; an SQLite store is compared while the service is stopped", path.display());
            Fault::new(Exit::Refused, message)
        }
        error => Fault::new(Exit::Failure, error.to_string()),
    })?;
    let settings = CompareSettings {
        topic: args.topic.clone(),
        from_ms: args.from,
        to_ms: args.to,
        grace: Duration::from_secs(args.grace.into()),
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
        (compared.repeated, "told again by the other"),
        (compared.sent, "sent by belfry alone"),
        (compared.of_belfry, "records of belfry's"),
        (compared.unreadable, "records that tell nobody"),
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
    fn a_range_is_given_by_times() {
        assert_eq!(time("1970-01-01T00:00:01Z"), Ok(1000));
        assert!(time("12").is_err());
    }
}
