//! `belfry audit-log`.

use clap::Args;
use serde_json::{Map, Value};

use crate::Exit;
use crate::client::{Change, ChangeQuery, Client};
use crate::output::{Format, Output, table};
use crate::when::When;

/// Arguments of `audit-log`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  belfry audit-log --since 24h
  belfry audit-log --action release --by anna
  belfry --output json audit-log --limit 1000 | jq -r .by | sort | uniq -c

Each change is recorded together with its entry in the audit log. Entries are never removed. `local` is any client of a
service without tokens, `direct:NAME` the user NAME with direct access to the database, and `belfry` Belfry itself.")]
pub struct AuditLogArgs {
    /// Only changes since a time, given as such or by its age such as 12h
    #[arg(long, value_name = "TIME|AGO")]
    pub since: Option<When>,
    /// Only changes made by the holder of the token with this name
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Only this action, such as release.activate, or kind of action, such as release, trial, pause or dead-letter
    #[arg(long)]
    pub action: Option<String>,
    /// Only changes of this object, such as teacher-results@1.2.0#7
    #[arg(long)]
    pub subject: Option<String>,
    /// Maximum number of changes to list
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
}

/// Lists changes and who made them, newest first.
pub async fn run(args: &AuditLogArgs, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    let AuditLogArgs { since, by, action, subject, limit } = args;
    let query = ChangeQuery {
        by: by.clone(),
        action: action.clone(),
        subject: subject.clone(),
        since: since.map(When::written).transpose()?,
        limit: *limit,
    };
    let changes = client.changes(&query).await?;
    if output.format() == Format::Json {
        changes.iter().try_for_each(|change| output.json(change))?;
        return Ok(Exit::Ok);
    }
    if changes.is_empty() {
        output.note("no changes match");
        return Ok(Exit::Ok);
    }
    let row = |Change { at, by, action, subject, detail, .. }: Change| [at, by, action, subject, details(&detail)];
    output.text(&table(["at", "by", "action", "subject", "detail"], changes.into_iter().map(row)))?;
    Ok(Exit::Ok)
}

/// Formats the details of a change in one line. Leaves out values that are null, false or empty.
fn details(detail: &Map<String, Value>) -> String {
    let details = |(name, value): (&String, &Value)| match value {
        Value::Null | Value::Bool(false) => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(format!("{name}: {text}")),
        other => Some(format!("{name}: {other}")),
    };
    detail.iter().filter_map(details).collect::<Vec<_>>().join(", ")
}
