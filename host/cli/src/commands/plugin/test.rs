//! `belfry plugin test`.

use std::path::PathBuf;

use belfry_sandbox::LogLine;
use belfry_testkit::{CaseReport, Difference, Verdict, update_requested};
use clap::Args;
use owo_colors::{OwoColorize as _, Style};
use serde::Serialize;

use super::{load, read_component};
use crate::Exit;
use crate::output::{Format, Output, counted};

/// Arguments of `plugin test`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  belfry plugin test my_rule.wasm
  belfry plugin test my_rule.wasm --filter failures
  belfry plugin test my_rule.wasm --update

A case is a file: {\"event\": envelope or \"file.json\", \"config\": {}, \"expect\": {\"notifications\": []}}.
It may also expect {\"rejection\": {\"code\": \"…\"}} or {\"outcome\": \"timed-out\"}.")]
pub struct TestArgs {
    /// File of the component
    pub file: PathBuf,
    /// Directory of the case files
    #[arg(long, value_name = "DIR", default_value = "cases")]
    pub cases: PathBuf,
    /// Rewrite failing cases to expect the actual output, as BELFRY_UPDATE=1 does
    #[arg(long)]
    pub update: bool,
    /// Run only cases whose name contains this text
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
}

/// The report of a case as JSON.
#[derive(Serialize)]
struct CaseResult<'a> {
    name: &'a str,
    verdict: &'static str,
    duration_ms: f64,
    differences: &'a [Difference],
    problem: Option<&'a str>,
    log: &'a [LogLine],
}

impl<'a> CaseResult<'a> {
    fn of(report: &'a CaseReport) -> Self {
        let (differences, problem): (&[Difference], _) = match &report.verdict {
            Verdict::Failed(differences) => (differences, None),
            Verdict::Broken(problem) => (&[], Some(problem.as_str())),
            Verdict::Passed | Verdict::Updated => (&[], None),
        };
        Self {
            name: &report.name,
            verdict: report.verdict.as_str(),
            duration_ms: report.duration.as_secs_f64() * 1e3,
            differences,
            problem,
            log: &report.log,
        }
    }
}

/// Runs a component's test cases in Belfry's sandbox.
pub fn run(args: &TestArgs, output: &Output) -> anyhow::Result<Exit> {
    let suite = load(&args.file, &read_component(&args.file)?)?;
    let update = args.update || update_requested();
    let reports = suite.run_dir(&args.cases, update, args.filter.as_deref())?;
    for report in &reports {
        match output.format() {
            Format::Json => output.json(&CaseResult::of(report))?,
            Format::Text => output.text(&coloured(report))?,
        }
    }
    output.note(summary(&reports));
    let failed = reports.iter().any(|report| report.verdict.is_failure());
    Ok(if failed { Exit::Check } else { Exit::Ok })
}

/// Returns the text of a report with its first word, the verdict, in colour.
fn coloured(report: &CaseReport) -> String {
    let style = match report.verdict {
        Verdict::Passed => Style::new().green(),
        Verdict::Updated => Style::new().yellow(),
        Verdict::Failed(_) | Verdict::Broken(_) => Style::new().red(),
    };
    let text = report.to_string();
    let (verdict, rest) = text.split_at(report.verdict.as_str().len());
    format!("{}{rest}", verdict.style(style))
}

fn summary(reports: &[CaseReport]) -> String {
    let mut summary = counted(reports.len(), "case");
    for verdict in ["passed", "updated", "failed", "broken"] {
        let count = reports.iter().filter(|report| report.verdict.as_str() == verdict).count();
        if count > 0 {
            summary.push_str(&format!(", {count} {verdict}"));
        }
    }
    if reports.iter().any(|report| matches!(report.verdict, Verdict::Failed(_))) {
        summary.push_str("; if the actual output is right, accept it with --update");
    }
    summary
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn report(verdict: Verdict) -> CaseReport {
        CaseReport { name: "a_case".into(), duration: Duration::from_micros(1500), verdict, log: Vec::new() }
    }

    #[test]
    fn a_report_begins_with_its_verdict() {
        let text = coloured(&report(Verdict::Broken("no event".into())));
        assert_eq!(anstream::adapter::strip_str(&text).to_string(), "broken  a_case (1.5 ms)\n        no event");
    }

    #[test]
    fn the_summary_counts_verdicts() {
        assert_eq!(summary(&[report(Verdict::Passed), report(Verdict::Passed)]), "2 cases, 2 passed");
        let failed = report(Verdict::Failed(Vec::new()));
        assert!(summary(&[failed, report(Verdict::Passed)]).starts_with("2 cases, 1 passed, 1 failed; if"));
    }
}
