//! `belfry plugin push`.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use belfry_model::JsonObject;
use belfry_service::releases::signature::Signature;
use clap::Args;

use super::read_component;
use crate::Exit;
use crate::client::{Client, Pushed, Upload};
use crate::commands::release::show_rollout;
use crate::escape::escape;
use crate::output::{Format, Output};

/// Arguments of `plugin push`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  belfry plugin push my_rule.wasm
  belfry plugin push my_rule.wasm --config eager.json --note \"notify sooner\" --activate

The same component with the same configuration is the same release: pushing it again changes nothing.")]
pub struct PushArgs {
    /// File of the component
    pub file: PathBuf,
    /// File with the release's configuration, a JSON object; default: the rule's defaults
    #[arg(long, value_name = "FILE.json")]
    pub config: Option<PathBuf>,
    /// Reason for the release
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// File with the component's signature, as `plugin sign` writes it
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
    /// Activate the release after the upload
    #[arg(long)]
    pub activate: bool,
}

/// Uploads a component as a new release.
pub async fn run(args: &PushArgs, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    let upload = Upload {
        component: read_component(&args.file)?,
        config: args.config.as_deref().map(read_config).transpose()?,
        note: args.note.clone(),
        signature: args.signature.as_deref().map(read_signature).transpose()?,
    };
    let pushed = client.push(upload).await?;
    match output.format() {
        Format::Json if args.activate => {}
        Format::Json => output.json(&pushed.release)?,
        Format::Text => output.text(&escape(&confirmation(&pushed, args.activate)))?,
    }
    if !args.activate {
        return Ok(Exit::Ok);
    }
    let rollout = client.activate(&pushed.release.projector, pushed.release.release_id).await?;
    show_rollout(&rollout, output)
}

/// Reads the text of a configuration. Checks here that it is a JSON object, so that the error names the file.
fn read_config(file: &Path) -> anyhow::Result<String> {
    let name = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("cannot read the configuration {name}"))?;
    text.parse::<JsonObject>().map_err(|error| anyhow!("the configuration {name}: {error}"))?;
    Ok(text)
}

/// Reads the text of a signature. Checks only its format; the service verifies it.
fn read_signature(file: &Path) -> anyhow::Result<String> {
    let name = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("cannot read the signature {name}"))?;
    text.parse::<Signature>().with_context(|| format!("the signature {name}"))?;
    Ok(text)
}

fn confirmation(pushed: &Pushed, activate: bool) -> String {
    let release = &pushed.release;
    let was = if pushed.is_new { "is a new release" } else { "already exists" };
    let next = if activate || release.active {
        String::new()
    } else {
        format!("; to activate it: belfry release activate {}", release.release_id)
    };
    format!("{} {was}{next}", release.label)
}
