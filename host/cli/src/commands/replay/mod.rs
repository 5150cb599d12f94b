//! `belfry replay`.

mod gate;
mod page;
mod table;

use std::io::Write as _;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use serde_json::Value;
use tempfile::NamedTempFile;

use super::release::{ReleaseReference, find};
use crate::client::{Client, ReplayProgress, ReplayQuery};
use crate::exit::{Exit, Fault};
use crate::output::{Format, Output};
use crate::when::When;

pub use gate::Gate;

/// Arguments of `replay`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  belfry replay teacher-results --candidate 8
  belfry replay teacher-results --candidate 8 --from 30d --html report.html
  belfry replay teacher-results --candidate 8 --baseline recorded --from 2026-03-02T00:00:00Z --to 2026-03-09T00:00:00Z
  belfry replay teacher-results --candidate 8 --fail-on 'removed>0' --fail-on 'changed>5%'

The events recorded in the range are projected again with the candidate and with the baseline, and their notifications are
compared: which would have been added, removed or changed, and for whom. Nothing is recorded or sent. Two notifications
are the same if they are about the same event and have the same recipient, type and key. Ctrl-C cancels the replay.

The figures for --fail-on are added, removed and changed (notifications; a percentage is of the baseline's), events (that
differ), failures and rejections (events that the candidate fails on or rejects). The exit code is 3 if a condition
holds.")]
pub struct ReplayArgs {
    /// Name of the rule
    pub projector: String,
    /// Release to replay the events with: its number, or its label such as teacher-results@1.2.0#8
    #[arg(long, value_name = "RELEASE")]
    pub candidate: ReleaseReference,
    /// What to compare with: `active`, the active release; `recorded`, the notifications issued then; or a release
    #[arg(long, value_name = "active|recorded|RELEASE", default_value = "active")]
    pub baseline: Baseline,
    /// Start of the range of recorded events: a time, or its age such as 12h or 7d
    #[arg(long, value_name = "TIME|AGO", default_value = "7d")]
    pub from: When,
    /// End of the range: a time, or its age
    #[arg(long, value_name = "TIME|AGO", default_value = "0s")]
    pub to: When,
    /// Approximate number of events to replay, the same ones each time; default: all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub sample: Option<u64>,
    /// Replay only events about this subject
    #[arg(long, value_name = "X")]
    pub subject: Option<String>,
    /// File to also write the report to, as an HTML page with charts
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Condition on which the exit code is 3, such as removed>0; may be repeated
    #[arg(long, value_name = "CONDITION")]
    pub fail_on: Vec<Gate>,
}

/// What the candidate is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// The active release.
    Active,
    /// The notifications issued then.
    Recorded,
    /// A release.
    Release(ReleaseReference),
}

impl FromStr for Baseline {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "active" => Ok(Self::Active),
            "recorded" => Ok(Self::Recorded),
            release => release
                .parse()
                .map(Self::Release)
                .map_err(|_| "must be active, recorded, or a release such as 7 or teacher-results@1.2.0#7"),
        }
    }
}

/// Replays recorded events with a release, and shows the comparison.
pub async fn run(args: &ReplayArgs, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    let candidate = find(&args.candidate, client).await?;
    let baseline: Value = match &args.baseline {
        Baseline::Active => "active".into(),
        Baseline::Recorded => "recorded".into(),
        Baseline::Release(reference) => find(reference, client).await?.release_id.into(),
    };
    let query = ReplayQuery {
        candidate: candidate.release_id,
        baseline,
        from: args.from.written()?,
        to: args.to.written()?,
        sample: args.sample,
        subject: args.subject.clone(),
    };
    let began = Instant::now();
    let show = |step: ReplayProgress| output.progress(&progress(step, began.elapsed()));
    let replayed = client.replay(&args.projector, &query, show).await;
    output.progress("");
    let (report, verbatim) = replayed?;
    match output.format() {
        Format::Json => output.json(&verbatim)?,
        Format::Text => output.text(&table::report(&report))?,
    }
    if let Some(path) = &args.html {
        write(path, &page::report(&report)).with_context(|| format!("cannot write {}", path.display()))?;
        output.note(format!("the report is in {}", path.display()));
    }
    let stopped: Vec<String> = args.fail_on.iter().filter_map(|gate| gate.stops(&report)).collect();
    if stopped.is_empty() {
        return Ok(Exit::Ok);
    }
    Err(Fault::new(Exit::Check, format!("the replay does not pass: {}", stopped.join("; "))).into())
}

/// Writes a file atomically: it has either its old content or the complete page.
fn write(path: &std::path::Path, page: &str) -> anyhow::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(std::path::Path::new("."));
    let mut file = NamedTempFile::new_in(directory)?;
    file.write_all(page.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

fn progress(step: ReplayProgress, elapsed: Duration) -> String {
    const WIDTH: usize = 24;
    let ReplayProgress { events, of, added, removed, changed } = step;
    let share = if of == 0 { 1.0 } else { (events as f64 / of as f64).min(1.0) };
    let full = (share * WIDTH as f64) as usize;
    let per_second = events as f64 / elapsed.as_secs_f64().max(0.001);
    let left = (of.saturating_sub(events)) as f64 / per_second.max(1.0);
    format!(
        "[{}{}] {events} of {of} events, {per_second:.0}/s, {left:.0} s left; {added} added, {removed} removed, {changed} changed",
        "#".repeat(full),
        "-".repeat(WIDTH - full)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_baseline_is_a_word_or_a_release() {
        assert_eq!("active".parse(), Ok(Baseline::Active));
        assert_eq!("recorded".parse(), Ok(Baseline::Recorded));
        assert!(matches!("#7".parse(), Ok(Baseline::Release(_))));
        assert!("yesterday".parse::<Baseline>().is_err());
    }

    #[test]
    fn the_progress_tells_what_is_left() {
        let step = ReplayProgress { events: 500, of: 1000, added: 1, removed: 2, changed: 3 };
        let text = progress(step, Duration::from_secs(1));
        assert!(text.starts_with("[############------------] 500 of 1000 events, 500/s, 1 s left; 1 added"), "{text}");
        progress(ReplayProgress { events: 0, of: 0, added: 0, removed: 0, changed: 0 }, Duration::ZERO);
    }
}
