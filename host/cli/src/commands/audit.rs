//! `belfry audit`.

use belfry_service::topic_audit::{AuditSettings, Bound, Finding, Progress, Report, audit};
use clap::Args;

use crate::commands::serve::ConfigArgs;
use crate::direct::open_store;
use crate::exit::{Exit, Fault};
use crate::output::{Format, Output, counted, table};
use crate::when::When;

/// Arguments of `audit`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  belfry audit --config belfry.toml
  belfry audit --from 24h --topic huleedu.notification.teacher.requested.v1
  belfry --output json audit --from 100000 --to 200000 | jq 'select(.finding)'

The audit only reads the log and the topics. With PostgreSQL it can run alongside the service; with an SQLite store, stop
the service first. The exit code is 3 if it finds a problem.")]
pub struct AuditArgs {
    /// The source of the configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Start of the range: a position in the log, a time, or its age such as 24h; default: the start of the log
    #[arg(long, value_name = "TIME|AGO|POSITION", value_parser = bound)]
    pub from: Option<Bound>,
    /// End of the range, in the same format; default: the end of the log
    #[arg(long, value_name = "TIME|AGO|POSITION", value_parser = bound)]
    pub to: Option<Bound>,
    /// Audit only this topic
    #[arg(long)]
    pub topic: Option<String>,
}

fn bound(text: &str) -> Result<Bound, &'static str> {
    if let Ok(position) = text.parse::<i64>() {
        return if position >= 0 { Ok(Bound::Position(position)) } else { Err("positions start at 1") };
    }
    let time = text.parse().map(|when: When| Bound::Time(when.ms()));
    time.map_err(|_| "must be a position, such as 4711, a time, such as 2026-03-02T09:15:00Z, or its age, such as 7d")
}

/// Compares the log with the topics.
pub async fn run(args: &AuditArgs, output: &Output) -> anyhow::Result<Exit> {
    let wrong = |message: String| Fault::new(Exit::Configuration, message);
    let config = args.config.load().map_err(|error| wrong(error.to_string()))?.config;
    if config.kafka.brokers.is_empty() {
        return Err(wrong("kafka.brokers: an audit compares the log with Kafka's topics; set it".into()).into());
    }
    let store = open_store(&config).await?;
    let settings = AuditSettings { from: args.from, to: args.to, topic: args.topic.clone() };
    let to = *output;
    let show = move |progress: Progress| match progress {
        Progress::Log(entries) => to.progress(&format!("log: {entries} entries")),
        Progress::Topics(records, total) => to.progress(&format!("topics: {records} of {total} records")),
    };
    let report = audit(&config, &store, &settings, show).await;
    output.progress("");
    store.close().await;
    tell(&report?, output)
}

fn tell(report: &Report, output: &Output) -> anyhow::Result<Exit> {
    match output.format() {
        Format::Json => {
            report.findings.iter().try_for_each(|finding| output.json(finding))?;
            output.json(&serde_json::json!({ "summary": report }))?;
        }
        Format::Text => {
            if !report.findings.is_empty() {
                let header = ["finding", "id", "position", "topic", "partition/offset", "detail"];
                output.text(&table(header, report.findings.iter().map(row)))?;
            }
            output.text(&summary(report))?;
        }
    }
    Ok(if report.is_clean() { Exit::Ok } else { Exit::Check })
}

fn row(finding: &Finding) -> [String; 6] {
    let place = match (finding.partition, finding.offset) {
        (Some(partition), Some(offset)) => format!("{partition}/{offset}"),
        _ => String::new(),
    };
    [
        finding.kind.as_str().to_owned(),
        finding.event_id.to_string(),
        finding.position.map(|position| position.to_string()).unwrap_or_default(),
        finding.topic.clone(),
        place,
        finding.detail.clone(),
    ]
}

fn summary(report: &Report) -> String {
    let verdict = if report.is_clean() {
        "nothing missing, duplicated, out of order or unknown".to_owned()
    } else {
        let counts = report.counts.iter().map(|(kind, count)| format!("{count} {}", kind.as_str()));
        format!("{}; in {}", counts.collect::<Vec<_>>().join(", "), counted(report.keys_with_findings as usize, "key"))
    };
    let notes = [
        (report.repeats, "repeated"),
        (report.parked, "parked"),
        (report.discarded, "discarded"),
        (report.expired, "expired"),
        (report.not_due, "not due"),
        (report.deleted, "deleted from their topics"),
        (report.outside, "outside the range"),
        (report.foreign, "of other producers"),
    ];
    let notes = notes.iter().filter(|(count, _)| *count > 0).map(|(count, note)| format!("{count} {note}"));
    let notes: Vec<String> = notes.collect();
    let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
    format!(
        "positions {} to {}: {} of {} against {}{notes}: {verdict}",
        report.from,
        report.to,
        match report.entries {
            1 => "1 entry".to_owned(),
            entries => format!("{entries} entries"),
        },
        counted(report.keys as usize, "key"),
        counted(report.records as usize, "record"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_given_by_positions_or_times() {
        assert_eq!(bound("12"), Ok(Bound::Position(12)));
        assert_eq!(bound("1970-01-01T00:00:01Z"), Ok(Bound::Time(1000)));
        assert!(matches!(bound("7d"), Ok(Bound::Time(ms)) if ms > 0));
        assert!(bound("yesterday").is_err());
        assert!(bound("-1").is_err());
    }
}
