//! `belfry plugin show`.

use std::fmt::Write as _;

use belfry_sandbox::AdmissionReport;
use clap::Args;

use crate::Exit;
use crate::client::Client;
use crate::client::wire::Release;
use crate::commands::release::ReleaseReference;
use crate::commands::release::find;
use crate::escape::escape;
use crate::output::{Format, Output, table};

/// Arguments of `plugin show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  belfry plugin show teacher-results@1.2.0#7
  belfry --output json plugin show 7 | jq .admission.samples")]
pub struct ShowArgs {
    /// Number or label of the release
    #[arg(value_name = "RELEASE")]
    pub release: ReleaseReference,
}

/// Shows a release and its admission report.
pub async fn run(args: &ShowArgs, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    let release = find(&args.release, client).await?;
    match output.format() {
        Format::Json => output.json(&release)?,
        Format::Text => output.text(&text(&release))?,
    }
    Ok(Exit::Ok)
}

fn text(release: &Release) -> String {
    let mut text = format!("{}{}\n", escape(&release.label), if release.active { ", serves" } else { "" });
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {name:<12}{}", escape(value));
        }
    };
    line("created", &format!("{} by {}", release.created_at, release.created_by));
    line("note", &release.note);
    line("digest", &release.digest);
    line("signed by", release.signed_by.as_deref().unwrap_or("no trusted key"));
    line("settings", &release.config.as_ref().map(|config| config.get().to_owned()).unwrap_or_default());
    let Some(report) = &release.admission else {
        text.push_str("\nno admission report: it was uploaded to an older version");
        return text;
    };
    admission(report, &mut line);
    let samples = report.samples.iter().map(|sample| {
        let [first, second] = sample.project_us.map(|us| format!("{us:.1}"));
        let kibibytes = (sample.memory_bytes >> 10).to_string();
        [sample.sample.clone(), sample.outcome.to_string(), sample.notifications.to_string(), first, second, kibibytes]
    });
    let header = ["sample", "outcome", "notifications", "1st µs", "2nd µs", "memory KiB"];
    let _ = write!(text, "\n{}", table(header, samples));
    text
}

fn admission(report: &AdmissionReport, line: &mut impl FnMut(&str, &str)) {
    line("contract", &report.contract);
    let (memory, deadline) = (report.memory_limit_bytes >> 20, report.deadline_ms);
    line("class", &format!("{}: {memory} MiB of memory and {deadline} ms per event", report.class.as_str()));
    let (size, compiled) = (report.component_bytes >> 10, report.compiled_bytes >> 10);
    line("size", &format!("{size} KiB, compiled {compiled} KiB in {:.0} ms", report.compile_ms));
    line("events", &report.event_types.join(", "));
    line("imports", &report.imports.join(", "));
}
