//! `belfry trial`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::release::{ReleaseReference, find};
use crate::Exit;
use crate::client::{Client, Trial, TrialLimits, TrialSample, TrialSide, TrialStep};
use crate::escape::escape;
use crate::exit::Fault;
use crate::output::{Format, Output, counted, table};
use crate::when::Span;

/// The maximum number of examples of each difference in text output; JSON has all.
const SAMPLES: usize = 3;
/// How often --wait polls the trial.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The commands of `trial`.
#[derive(Debug, Subcommand)]
pub enum TrialCommand {
    /// Start a shadow: a release projects live events too, and its notifications are compared but not sent
    Shadow(ShadowArgs),
    /// Start a canary: a release serves a growing share of the subjects, and is rolled back if it does worse
    Canary(CanaryArgs),
    /// Show the results of a rule's last trial
    #[command(after_help = "\
Example:
  belfry trial show teacher-results")]
    Show(ShowArgs),
    /// End a rule's trial: the active release continues alone
    #[command(after_help = "\
Example:
  belfry trial end teacher-results")]
    End(EndArgs),
}

/// Arguments of `trial shadow`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  belfry trial shadow 8 && sleep 600 && belfry trial show teacher-results

The shadow uses at most a quarter of a processor on each replica; events that exceed this are skipped and counted. It
runs until it is ended, another trial starts, or a release is activated.")]
pub struct ShadowArgs {
    /// Number of the release, or its label such as teacher-results@1.2.0#8
    pub release: ReleaseReference,
}

/// Arguments of `trial canary`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  belfry trial canary 8
  belfry trial canary 8 --steps 5,25,100 --step-time 1h --step-events 1000 --wait
  belfry trial canary 8 --steps 10

A subject that the canary serves stays with it: a larger share only adds subjects. After a last step of 100, the release
serves all subjects; after a smaller one, it keeps its share until an operator decides. Events on which the canary fails
are projected by the active release, so no notification is missed. With --wait, the exit code is 3 if the canary is
rolled back or ended.")]
pub struct CanaryArgs {
    /// Number of the release, or its label such as teacher-results@1.2.0#8
    pub release: ReleaseReference,
    /// Growing shares of the subjects, in percent
    #[arg(long, value_name = "PERCENT,…", value_delimiter = ',', default_value = "1,10,50,100")]
    pub steps: Vec<f64>,
    /// Minimum duration of each step
    #[arg(long, value_name = "SPAN", default_value = "10m")]
    pub step_time: Span,
    /// Minimum number of events that it projects in each step
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub step_events: u64,
    /// Roll back if it fails on more than this percentage of events
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0)]
    pub max_failed: f64,
    /// Roll back if its percentage of rejected events exceeds the active release's by more than this
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    pub max_rejected: f64,
    /// Roll back if notifications per event differ by more than this factor
    #[arg(long, value_name = "FACTOR", default_value_t = 2.0)]
    pub max_notifications: f64,
    /// Roll back if the median or the 99th percentile of the projection time is longer by more than this factor
    #[arg(long, value_name = "FACTOR", default_value_t = 4.0)]
    pub max_time: f64,
    /// Wait until it serves all subjects, or is rolled back or ended
    #[arg(long)]
    pub wait: bool,
}

/// Arguments of `trial show`.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// Name of the rule
    pub projector: String,
}

/// Arguments of `trial end`.
#[derive(Args, Debug)]
pub struct EndArgs {
    /// Name of the rule
    pub projector: String,
    /// Reason, in one line
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// Starts, shows or ends a trial.
pub async fn run(command: &TrialCommand, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    match command {
        TrialCommand::Shadow(args) => {
            let release = find(&args.release, client).await?;
            let trial = client.shadow(&release.projector, release.release_id).await?;
            begun(&trial, output)
        }
        TrialCommand::Canary(args) => canary(args, client, output).await,
        TrialCommand::Show(args) => show(&client.trial(&args.projector).await?, output),
        TrialCommand::End(args) => show(&client.end_trial(&args.projector, &args.reason).await?, output),
    }
}

async fn canary(args: &CanaryArgs, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    let release = find(&args.release, client).await?;
    let (seconds, events) = (args.step_time.0.as_secs(), args.step_events);
    let steps: Vec<TrialStep> =
        args.steps.iter().map(|percent| TrialStep { percent: *percent, seconds, events }).collect();
    let limits = TrialLimits {
        failed_percent: args.max_failed,
        rejected_percent: args.max_rejected,
        notifications_factor: args.max_notifications,
        time_factor: args.max_time,
    };
    let trial = client.canary(&release.projector, release.release_id, &steps, &limits).await?;
    if !args.wait {
        return begun(&trial, output);
    }
    let ended = wait(&release.projector, client, output).await?;
    show(&ended, output)?;
    match ended.status.as_str() {
        "promoted" => Ok(Exit::Ok),
        _ => {
            let reason = ended.reason.as_deref().unwrap_or("it was ended");
            Err(Fault::new(Exit::Check, format!("{} was not promoted: {reason}", ended.candidate)).into())
        }
    }
}

async fn wait(projector: &str, client: &Client, output: &Output) -> anyhow::Result<Trial> {
    loop {
        let trial = client.trial(projector).await?;
        if trial.status != "running" {
            output.progress("");
            return Ok(trial);
        }
        output.progress(&format!(
            "{} serves {} % since {}: {}, {} failed",
            trial.candidate,
            trial.percent.unwrap_or_default(),
            trial.since,
            counted(trial.tried.events, "event"),
            trial.tried.failed
        ));
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn begun(trial: &Trial, output: &Output) -> anyhow::Result<Exit> {
    if output.format() == Format::Json {
        output.json(trial)?;
        return Ok(Exit::Ok);
    }
    let does = match trial.percent {
        None => "runs as a shadow, without sending notifications".to_owned(),
        Some(percent) => format!("serves {percent} % of the subjects"),
    };
    let Trial { candidate, beside, projector, .. } = trial;
    let text = format!("{candidate} {does}, alongside {beside}; see belfry trial show {projector}");
    output.text(&escape(&text))?;
    Ok(Exit::Ok)
}

fn show(trial: &Trial, output: &Output) -> anyhow::Result<Exit> {
    match output.format() {
        Format::Json => output.json(trial)?,
        Format::Text => output.text(&text(trial))?,
    }
    Ok(Exit::Ok)
}

fn text(trial: &Trial) -> String {
    let mut parts = vec![story(trial).iter().map(|line| escape(line)).collect::<Vec<_>>().join("\n")];
    let row = |name: &str, side: &TrialSide| {
        [
            name.to_owned(),
            side.events.to_string(),
            side.notifications.to_string(),
            format!("{:.2}", side.notifications_per_event),
            side.rejected.to_string(),
            side.failed.to_string(),
            format!("{:.0} µs", side.median_us),
            format!("{:.0} µs", side.p99_us),
        ]
    };
    let header = ["release", "events", "notifications", "per event", "rejected", "failed", "median", "p99"];
    parts.push(table(header, [row(&trial.beside, &trial.active), row(&trial.candidate, &trial.tried)]));
    if trial.mode == "shadow" {
        parts.push(compared(trial));
    }
    parts.join("\n\n")
}

fn story(trial: &Trial) -> Vec<String> {
    let Trial { candidate, beside, mode, begun_by, began_at, since, .. } = trial;
    let mut story = vec![format!("{mode} of {candidate} alongside {beside}, started by {begun_by} at {began_at}")];
    if let (Some(percent), Some(step)) = (trial.percent, trial.step) {
        story.push(format!("step {step} of {}: {percent} % of the subjects since {since}", trial.steps.len()));
    }
    let status = match trial.status.as_str() {
        "promoted" => "promoted",
        "taken_back" => "ROLLED BACK",
        "ended" => "ended",
        _ => return story,
    };
    let by = trial.ended_by.as_deref().unwrap_or("an unknown user");
    let reason = trial.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
    story.push(format!("{status}, by {by} at {}{reason}", trial.ended_at.as_deref().unwrap_or("an unknown time")));
    story
}

fn compared(trial: &Trial) -> String {
    let of = &trial.compared;
    let mut parts = vec![format!(
        "notifications: {} the same, {} changed, {} added, {} removed; of {} ({} skipped)",
        of.same,
        of.changed,
        of.added,
        of.removed,
        counted(of.events, "event"),
        of.passed_over
    )];
    if !of.fields.is_empty() {
        let fields = of.fields.iter().map(|(field, count)| [field.clone(), count.to_string()]);
        parts.push(table(["field", "differs"], fields));
    }
    if !of.samples.is_empty() {
        let kinds = ["added", "changed", "removed"];
        let of_kind = |kind| of.samples.iter().filter(move |sample| sample.difference == kind).take(SAMPLES);
        let rows = kinds.into_iter().flat_map(of_kind).map(|sample| {
            [
                sample.difference.clone(),
                sample.event_id.clone(),
                sample.recipient.clone(),
                sample.notification_type.clone(),
                sample.priority.clone(),
                changes(sample),
            ]
        });
        parts.push(table(["for example", "event", "to", "type", "priority", "fields"], rows));
    }
    parts.join("\n\n")
}

fn changes(sample: &TrialSample) -> String {
    let change = |field: &serde_json::Value| match field["field"].as_str().unwrap_or_default() {
        // The values of payload fields are masked, so showing them is of little use.
        name if name.starts_with("payload.") => name.to_owned(),
        name => format!("{name}: {} → {}", field["before"], field["after"]),
    };
    sample.fields.iter().map(change).collect::<Vec<_>>().join("; ")
}
