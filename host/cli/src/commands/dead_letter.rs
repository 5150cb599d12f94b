//! `belfry dead-letter`.

use clap::{Args, Subcommand};

use super::release::{ReleaseReference, find};
use crate::Exit;
use crate::client::{Client, DeadLetter, DeadLetterQuery, RedriveSummary};
use crate::escape::escape;
use crate::output::{Format, Output, counted, table};
use crate::when::When;

/// The commands of `dead-letter`.
#[derive(Debug, Subcommand)]
pub enum DeadLetterCommand {
    /// List unsettled dead letters, in groups or with --each one by one
    #[command(after_help = "\
Examples:
  belfry dead-letter list
  belfry dead-letter list --each --projector teacher-results --since 2h")]
    List(ListArgs),
    /// Show a dead letter with its event, or with the bytes of its record
    #[command(after_help = "\
Example:
  belfry dead-letter show 17")]
    Show(ShowArgs),
    /// Redrive dead letters: project their events again with the active release
    Redrive(RedriveArgs),
    /// Discard dead letters without projecting their events again
    Discard(DiscardArgs),
}

/// The criteria by which dead letters are selected. A dead letter matches if all that are given apply.
#[derive(Args, Debug)]
pub struct DeadLetterSelection {
    /// Number of the dead letter
    #[arg(long, value_name = "NUMBER")]
    pub id: Option<i64>,
    /// Only dead letters of this rule
    #[arg(long, value_name = "NAME")]
    pub projector: Option<String>,
    /// Only dead letters of this release
    #[arg(long, value_name = "RELEASE")]
    pub release: Option<ReleaseReference>,
    /// Only dead letters of this cause, such as trapped or rejected
    #[arg(long)]
    pub cause: Option<String>,
    /// Only rejected events with this code
    #[arg(long)]
    pub code: Option<String>,
    /// Only dead letters recorded since a time, given as such or by its age such as 12h
    #[arg(long, value_name = "TIME|AGO")]
    pub since: Option<When>,
}

/// The dead letters to redrive or discard.
#[derive(Args, Debug)]
pub struct Chosen {
    /// The criteria.
    #[command(flatten)]
    pub which: DeadLetterSelection,
    /// Select all unsettled dead letters
    #[arg(long)]
    pub all: bool,
    /// Only report how many dead letters match
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `dead-letter list`.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// The criteria.
    #[command(flatten)]
    pub which: DeadLetterSelection,
    /// List dead letters one by one, in the order in which their events were recorded
    #[arg(long)]
    pub each: bool,
    /// Maximum number to list
    #[arg(long, value_name = "N", default_value_t = 100, requires = "each")]
    pub limit: u32,
}

/// Arguments of `dead-letter show`.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// Number of the dead letter
    pub id: i64,
}

/// Arguments of `dead-letter redrive`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  belfry dead-letter redrive --projector teacher-results --dry-run
  belfry dead-letter redrive --projector teacher-results --since 2h
  belfry dead-letter redrive --id 17

Events are projected in the order in which they were recorded. A notification that was issued before is not issued again.
A dead letter stays unsettled if the active release cannot project its event either.")]
pub struct RedriveArgs {
    /// The dead letters.
    #[command(flatten)]
    pub chosen: Chosen,
}

/// Arguments of `dead-letter discard`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  belfry dead-letter discard --cause undecodable --reason \"a producer wrote text, it is fixed\"")]
pub struct DiscardArgs {
    /// The dead letters.
    #[command(flatten)]
    pub chosen: Chosen,
    /// Reason, in one line, to be kept with the dead letters
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// Lists, shows, redrives or discards dead letters.
pub async fn run(command: &DeadLetterCommand, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    match command {
        DeadLetterCommand::List(args) => list(args, client, output).await,
        DeadLetterCommand::Show(args) => show(&client.dead_letter(args.id).await?, output),
        DeadLetterCommand::Redrive(args) => redrive(args, client, output).await,
        DeadLetterCommand::Discard(args) => discard(args, client, output).await,
    }
}

async fn query(which: &DeadLetterSelection, client: &Client) -> anyhow::Result<DeadLetterQuery> {
    let release_id = match &which.release {
        Some(reference) => Some(find(reference, client).await?.release_id),
        None => None,
    };
    Ok(DeadLetterQuery {
        id: which.id,
        projector: which.projector.clone(),
        release_id,
        cause: which.cause.clone(),
        code: which.code.clone(),
        since: which.since.map(When::written).transpose()?,
        after: None,
    })
}

async fn list(args: &ListArgs, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    let query = query(&args.which, client).await?;
    if args.each {
        return list_each(&client.dead_letters(&query, args.limit).await?, output);
    }
    let groups = client.dead_letter_groups(&query).await?;
    if output.format() == Format::Json {
        groups.iter().try_for_each(|group| output.json(group))?;
        return Ok(Exit::Ok);
    }
    if groups.is_empty() {
        output.note("no dead letters");
        return Ok(Exit::Ok);
    }
    let rows = groups.into_iter().map(|group| {
        let by = group.release.or(group.projector).unwrap_or_else(|| "no rule".to_owned());
        let cause = group.code.map_or(group.cause.clone(), |code| format!("{}: {code}", group.cause));
        [group.count.to_string(), by, cause, group.first_at, group.last_at, group.last_id.to_string()]
    });
    output.text(&table(["count", "by", "cause", "first", "last", "for example"], rows))?;
    Ok(Exit::Ok)
}

fn list_each(letters: &[DeadLetter], output: &Output) -> anyhow::Result<Exit> {
    if output.format() == Format::Json {
        letters.iter().try_for_each(|letter| output.json(letter))?;
        return Ok(Exit::Ok);
    }
    let rows = letters.iter().map(|letter| {
        [
            letter.id.to_string(),
            letter.event_id.clone().or_else(|| letter.source.clone()).unwrap_or_default(),
            letter.release.clone().unwrap_or_default(),
            letter.cause.clone(),
            letter.recorded_at.clone(),
            letter.detail.clone(),
        ]
    });
    output.text(&table(["number", "event", "by", "cause", "recorded", "detail"], rows))?;
    Ok(Exit::Ok)
}

fn show(letter: &DeadLetter, output: &Output) -> anyhow::Result<Exit> {
    if output.format() == Format::Json {
        output.json(letter)?;
        return Ok(Exit::Ok);
    }
    let mut facts = vec![
        ("event", letter.event_id.clone()),
        ("read at", letter.source.clone()),
        ("by", letter.release.clone()),
        ("cause", Some(letter.cause.clone())),
        ("recorded", Some(letter.recorded_at.clone())),
    ];
    if let Some(settled) = &letter.settled {
        let reason = settled.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
        let notifications = counted(settled.notifications, "notification");
        facts.push((
            "settled",
            Some(format!("{} by {} at {}, {notifications}{reason}", settled.how, settled.by, settled.at)),
        ));
    }
    let facts = facts.into_iter().filter_map(|(name, value)| Some(format!("  {name:<10}{}", escape(&value?))));
    let mut lines = vec![format!("dead letter {}", letter.id)];
    lines.extend(facts);
    lines.extend(letter.detail.lines().map(|line| format!("  {}", escape(line))));
    if let Some(event) = &letter.event {
        let event = serde_json::to_string_pretty(event)?;
        lines.extend(event.lines().map(escape));
    }
    if let Some(bytes) = &letter.bytes {
        lines.extend(content(bytes));
    }
    output.text(&lines.join("\n"))?;
    Ok(Exit::Ok)
}

/// Shows the content of a record, given in hexadecimal: as text if it is text, else as hexadecimal.
fn content(hexadecimal: &str) -> Vec<String> {
    let bytes = (0..hexadecimal.len()).step_by(2).map(|at| u8::from_str_radix(hexadecimal.get(at..at + 2)?, 16).ok());
    match bytes.collect::<Option<Vec<u8>>>().map(String::from_utf8) {
        Some(Ok(text)) if !text.contains('\0') => {
            let mut lines = vec![format!("text, {}", counted(text.len() as u64, "byte"))];
            lines.extend(text.lines().map(|line| format!("  {}", escape(line))));
            lines
        }
        _ => vec![format!("bytes {hexadecimal}")],
    }
}

async fn redrive(args: &RedriveArgs, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    let Chosen { which, all, dry_run } = &args.chosen;
    let mut query = query(which, client).await?;
    let mut sum = RedriveSummary::default();
    loop {
        sum = sum.and(client.redrive(&query, *all, *dry_run).await?);
        output.progress(&format!("{} tried, {} redriven", sum.tried, sum.redriven));
        query.after = sum.next_after;
        if query.after.is_none() {
            break;
        }
    }
    output.progress("");
    if output.format() == Format::Json {
        output.json(&sum)?;
        return Ok(Exit::Ok);
    }
    let tried = counted(sum.tried, "dead letter");
    let text = if *dry_run {
        format!("{} would be tried, {} cannot be tried", tried, sum.passed_over)
    } else {
        format!(
            "{} tried: {} redriven, {} still dead, {} cannot be tried; {} notifications issued, {} withheld",
            tried, sum.redriven, sum.still_dead, sum.passed_over, sum.notifications, sum.withheld
        )
    };
    output.text(&text)?;
    Ok(Exit::Ok)
}

async fn discard(args: &DiscardArgs, client: &Client, output: &Output) -> anyhow::Result<Exit> {
    let Chosen { which, all, dry_run } = &args.chosen;
    let query = query(which, client).await?;
    let count = client.discard_dead_letters(&query, *all, &args.reason, *dry_run).await?;
    if output.format() == Format::Json {
        output.json(&serde_json::json!({ "dead_letters": count }))?;
        return Ok(Exit::Ok);
    }
    let letters = counted(count, "dead letter");
    output.text(&format!("{letters} {}", if *dry_run { "would be discarded" } else { "discarded" }))?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_shown_as_text_where_it_is_text() {
        let hexadecimal: String = "{\"å\":\n 1\u{1b}}".bytes().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(content(&hexadecimal), ["text, 11 bytes", "  {\"å\":", "   1\\u{1b}}"]);
        for bytes in ["fffe00", "610062", "6"] {
            assert_eq!(content(bytes), [format!("bytes {bytes}")]);
        }
    }
}
