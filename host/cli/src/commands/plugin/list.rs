//! `belfry plugin list`.

use belfry_sandbox::AdmissionReport;
use clap::Args;

use crate::Exit;
use crate::client::Client;
use crate::commands::release::SHORT_DIGEST;
use crate::output::{Format, Output, table};

/// Arguments of `release list` and `plugin list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// List only releases of this rule
    #[arg(long)]
    pub projector: Option<String>,
}

/// Lists the uploaded releases with the figures of their admission.
pub async fn run(args: &ListArgs, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    let releases = client.releases(args.projector.as_deref()).await?;
    if output.format() == Format::Json {
        releases.iter().try_for_each(|release| output.json(release))?;
        return Ok(Exit::Ok);
    }
    let rows = releases.into_iter().map(|release| {
        let [class, size, compiled, compile, project] =
            release.admission.as_ref().map_or_else(Default::default, figures);
        [
            release.label,
            if release.active { "serves".to_owned() } else { String::new() },
            class,
            size,
            compiled,
            compile,
            project,
            release.signed_by.unwrap_or_default(),
            release.digest.chars().take(SHORT_DIGEST).collect(),
        ]
    });
    let header = ["release", "", "class", "KiB", "compiled KiB", "compile ms", "project µs", "signed by", "digest"];
    output.text(&table(header, rows))?;
    Ok(Exit::Ok)
}

fn figures(report: &AdmissionReport) -> [String; 5] {
    let slowest = report.samples.iter().flat_map(|sample| sample.project_us).fold(0.0, f64::max);
    [
        report.class.as_str().to_owned(),
        (report.component_bytes >> 10).to_string(),
        (report.compiled_bytes >> 10).to_string(),
        format!("{:.0}", report.compile_ms),
        if report.samples.is_empty() { String::new() } else { format!("{slowest:.0}") },
    ]
}
