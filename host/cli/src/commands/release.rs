//! `belfry release`.

use std::str::FromStr;

use clap::{Args, Subcommand};

use crate::Exit;
use crate::client::Client;
use crate::client::wire::{Release, Rollout};
use crate::commands::plugin::list::ListArgs;
use crate::exit::Fault;
use crate::output::{Format, Output, table};

/// The commands of `release`.
#[derive(Debug, Subcommand)]
pub enum ReleaseCommand {
    /// List the releases, oldest first
    #[command(after_help = "\
Example:
  belfry release list --projector teacher-results")]
    List(ListArgs),
    /// Activate releases: each serves its rule from now on
    Activate(ActivateArgs),
    /// Roll back to the release that was active before
    Rollback(RollbackArgs),
    /// Retire a rule for good: it projects no more events
    Retire(RetireArgs),
}

/// Arguments of `release activate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  belfry release activate 7
  belfry release activate teacher-results@1.2.0#7
  belfry release activate teacher-results@1.2.0#7 failed-batches@2.0.0#9")]
pub struct ActivateArgs {
    /// Release numbers, or labels, which end in the number; several rules are switched together
    #[arg(value_name = "RELEASE_ID", required = true)]
    pub releases: Vec<ReleaseReference>,
}

/// Arguments of `release rollback`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  belfry release rollback teacher-results")]
pub struct RollbackArgs {
    /// Name of the rule
    pub projector: String,
}

/// Arguments of `release retire`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  belfry release retire first-rule --reason \"the feature is gone\"

Its releases and the notifications that it has issued are kept. To activate it again:
  belfry release rollback first-rule")]
pub struct RetireArgs {
    /// Name of the rule
    pub projector: String,
    /// Reason, in one line, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// The number of a digest's characters that are shown: enough to distinguish components at a glance.
pub(super) const SHORT_DIGEST: usize = 12;

/// A reference to a release: its number or its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseReference {
    id: i64,
    label: Option<String>,
}

/// A text that is not a reference to a release.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a release's number, such as 7, or its label, such as teacher-results@1.2.0#7")]
pub struct InvalidReference;

impl FromStr for ReleaseReference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let (name, number) = text.rsplit_once('#').unwrap_or(("", text));
        let id = number.parse().map_err(|_| InvalidReference)?;
        Ok(Self { id, label: (!name.is_empty()).then(|| text.to_owned()) })
    }
}

/// Lists releases, oldest first.
pub async fn list(args: &ListArgs, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    let releases = client.releases(args.projector.as_deref()).await?;
    if output.format() == Format::Json {
        releases.iter().try_for_each(|release| output.json(release))?;
        return Ok(Exit::Ok);
    }
    if releases.is_empty() {
        output.note("no releases; create one with `belfry plugin push FILE`");
        return Ok(Exit::Ok);
    }
    let rows = releases.into_iter().map(|release| {
        [
            release.label,
            if release.active { "serves".to_owned() } else { String::new() },
            release.created_at,
            release.created_by,
            release.digest.chars().take(SHORT_DIGEST).collect(),
            release.note,
        ]
    });
    output.text(&table(["release", "", "created", "by", "digest", "note"], rows))?;
    Ok(Exit::Ok)
}

/// Activates releases.
pub async fn activate(args: &ActivateArgs, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    let mut releases = Vec::with_capacity(args.releases.len());
    for reference in &args.releases {
        releases.push(find(reference, client).await?);
    }
    if let [release] = &releases[..] {
        return show_rollout(&client.activate(&release.projector, release.release_id).await?, output);
    }
    let ids: Vec<i64> = releases.iter().map(|release| release.release_id).collect();
    for rollout in client.activate_all(&ids).await? {
        show_rollout(&rollout, output)?;
    }
    Ok(Exit::Ok)
}

/// Returns the release for a reference. Returns an error if the number belongs to a release with another label.
pub(super) async fn find(reference: &ReleaseReference, client: &Client) -> anyhow::Result<Release> {
    let ReleaseReference { id, label } = reference;
    let release = client.release(*id).await?;
    if let Some(label) = label.as_ref().filter(|label| **label != release.label) {
        let message = format!("release {id} is {}, not {label}; see `belfry release list`", release.label);
        return Err(Fault::new(Exit::Refused, message).into());
    }
    Ok(release)
}

/// Rolls back to the release that was active before.
pub async fn roll_back(args: &RollbackArgs, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    show_rollout(&client.roll_back(&args.projector).await?, output)
}

/// Retires a rule for good.
pub async fn retire(args: &RetireArgs, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    client.retire(&args.projector, &args.reason).await?;
    let name = crate::escape::escape(&args.projector);
    output.note(format!("{name} is retired; to activate it again: belfry release rollback {name}"));
    Ok(Exit::Ok)
}

/// Shows which release is active now.
pub(super) fn show_rollout(rollout: &Rollout, output: &Output) -> anyhow::Result<Exit> {
    match output.format() {
        Format::Json => output.json(rollout)?,
        Format::Text => output.text(&crate::escape::escape(&serves(rollout)))?,
    }
    Ok(Exit::Ok)
}

fn serves(rollout: &Rollout) -> String {
    let before = match rollout.previous_release_id {
        Some(previous) => format!("it replaces #{previous}; to roll back: belfry release rollback {}", rollout.name),
        None => "no release was active before".to_owned(),
    };
    let tried = match &rollout.candidate {
        Some(candidate) => format!("; {candidate} is on trial alongside it"),
        None => String::new(),
    };
    format!("{} serves {} from now on; {before}{tried}", rollout.active.label, rollout.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_named_by_number_or_label() {
        let reference = |text: &str| text.parse::<ReleaseReference>();
        assert_eq!(reference("7"), Ok(ReleaseReference { id: 7, label: None }));
        assert_eq!(reference("#7"), Ok(ReleaseReference { id: 7, label: None }));
        let label = "teacher-results@1.2.0#7";
        assert_eq!(reference(label), Ok(ReleaseReference { id: 7, label: Some(label.into()) }));
        for text in ["", "teacher-results", "teacher-results@1.2.0", "#"] {
            assert_eq!(reference(text), Err(InvalidReference), "{text}");
        }
    }
}
