//! `belfry publish`.

mod batches;
mod tally;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use owo_colors::{OwoColorize as _, Style};

use crate::Exit;
use crate::client::Client;
use crate::client::wire::{PublishStatus, Published};
use crate::escape::escape;
use crate::output::{Format, Output, counted};
use batches::Batches;
use tally::Tally;

/// Arguments of `publish`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  belfry publish event.json
  cat *.json | belfry publish -
  belfry --output json publish events.ndjson | jq 'select(.status != \"accepted\")'

An event that was recorded before is reported as a duplicate and has no second effect, so publishing again is safe.")]
pub struct PublishArgs {
    /// File of event envelopes, as JSON values one after another; - reads standard input
    #[arg(value_name = "FILE|-")]
    pub source: PathBuf,
}

/// The maximum time to wait for an overloaded server, for each batch.
const PATIENCE: Duration = Duration::from_secs(60);
/// A command that takes longer shows its progress.
const LONG_WORK: Duration = Duration::from_secs(1);

/// Publishes events and shows the outcome of each.
pub async fn run(args: &PublishArgs, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    let mut batches = Batches::open(&args.source)?;
    let mut tally = Tally::default();
    let began = Instant::now();
    let published = publish_all(&mut batches, client, output, &mut tally, began).await;
    // Reports the published events even after an error.
    output.progress("");
    if published.is_ok() || tally.events() > 0 {
        output.note(format!("{tally}; {:.1} s", began.elapsed().as_secs_f64()));
    }
    published?;
    Ok(if tally.refused() == 0 { Exit::Ok } else { Exit::Check })
}

async fn publish_all(
    batches: &mut Batches,
    client: &Client,
    output: &Output,
    tally: &mut Tally,
    began: Instant,
) -> anyhow::Result<()> {
    while let Some(lines) = batches.next().await? {
        let waiting = |problem: &crate::client::Problem, wait: Duration| {
            output.note(format!("{problem}; retrying in {} s", wait.as_secs()));
        };
        let answers = client.publish_lines_patiently(&lines, PATIENCE, waiting).await?;
        for answer in answers {
            let first = tally.events() == 0;
            tally.count(&answer);
            let answer = Published { line: Some(tally.events() as u64), ..answer };
            show(&answer, first, output)?;
        }
        if began.elapsed() > LONG_WORK {
            output.progress(&format!("{} so far", counted(tally.events(), "event")));
        }
    }
    Ok(())
}

fn show(answer: &Published, first: bool, output: &Output) -> anyhow::Result<()> {
    match output.format() {
        Format::Json => output.json(answer)?,
        Format::Text => {
            if first {
                output.text(&format!("{:>6}  {:36}  {:9}  {:>8}  result", "event", "id", "status", "position"))?;
            }
            output.text(&row(answer))?;
        }
    }
    Ok(())
}

/// Formats an answer as a row of fixed widths: rows are shown as they arrive, so a later one cannot widen a column.
fn row(answer: &Published) -> String {
    let style = match answer.status {
        PublishStatus::Accepted => Style::new().green(),
        PublishStatus::Duplicate => Style::new().dimmed(),
        _ => Style::new().red(),
    };
    let number = answer.line.unwrap_or_default();
    let id = answer.event_id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let status = format!("{:9}", answer.status.as_str());
    let position = answer.position.map_or_else(|| "-".to_owned(), |position| position.to_string());
    format!("{number:>6}  {id:36}  {}  {position:>8}  {}", status.style(style), result(answer))
}

fn result(answer: &Published) -> String {
    if let Some(problem) = &answer.problem {
        return escape(&problem.to_string());
    }
    if answer.status == PublishStatus::Duplicate {
        return "recorded before, no second effect".to_owned();
    }
    let mut result = counted(answer.notifications.len(), "notification");
    for dead_letter in &answer.dead_letters {
        result.push_str(&escape(&format!("; {}: {}", dead_letter.projector, dead_letter.cause)));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Problem;
    use crate::client::wire::PublishedDeadLetter;

    fn published(status: PublishStatus) -> Published {
        Published {
            line: Some(3),
            event_id: Some("a25fb85b-a5b0-523c-993b-2dc42602b95d".parse().expect("a UUID")),
            status,
            position: Some(12),
            notifications: Vec::new(),
            dead_letters: Vec::new(),
            problem: None,
        }
    }

    #[test]
    fn a_result_says_what_follows() {
        let dead_letter = PublishedDeadLetter { id: 1, projector: "slow-rule".into(), cause: "timed-out".into() };
        let answer = Published { dead_letters: vec![dead_letter], ..published(PublishStatus::Accepted) };
        assert_eq!(result(&answer), "0 notifications; slow-rule: timed-out");
    }

    #[test]
    fn a_refusal_says_why_and_is_escaped() {
        let problem =
            Problem { type_urn: "urn:belfry:problem:x".into(), detail: "a\u{1b}b".into(), ..Problem::default() };
        let answer = Published { problem: Some(problem), ..published(PublishStatus::Malformed) };
        assert_eq!(result(&answer), "x: a\\u{1b}b");
        let text = anstream::adapter::strip_str(&row(&answer)).to_string();
        assert_eq!(text, "     3  a25fb85b-a5b0-523c-993b-2dc42602b95d  malformed        12  x: a\\u{1b}b");
    }
}
