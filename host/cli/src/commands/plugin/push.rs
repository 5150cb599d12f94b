//! `belfry plugin push`.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use belfry_model::JsonObject;
use belfry_service::releases::signature::Signature;

use super::read_component;
use crate::Exit;
use crate::args::PushArgs;
use crate::client::{Client, Pushed, Upload};
use crate::commands::release::show_rollout;
use crate::escape::escape;
use crate::output::{Format, Output};

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
