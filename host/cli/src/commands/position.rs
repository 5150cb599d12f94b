//! `belfry position`.

use belfry_service::config::Config;
use belfry_service::config::StartAt;
use belfry_service::ingest::kafka::{OperateError, OtherGroup, PositionChange, PositionRow, SourcePositions, Target};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::commands::serve::ConfigArgs;
use crate::direct;
use crate::exit::{Exit, Fault};
use crate::output::{Format, Output, counted, table};
use crate::when::{Span, When};

/// The commands of `position`.
#[derive(Debug, Subcommand)]
pub enum PositionCommand {
    /// Show the position of each partition: the offset of the next record to read
    Show(ShowArgs),
    /// Set the position of a partition, or adopt those of another consumer group
    Set(SetArgs),
}

/// Arguments of `position show`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  belfry position show
  belfry position show --beside notification-service

With --beside, the exit code is 3 unless that group has no members and its positions are the same as Belfry's, in each
partition in which it has committed an offset. It must have committed at least one.")]
pub struct ShowArgs {
    /// Consumer group to show alongside; checks whether Belfry can continue in its place
    #[arg(long, value_name = "GROUP")]
    pub beside: Option<String>,
    /// The source of the configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Arguments of `position set`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  belfry position set huleedu.ras.batch.results.ready.v1 0 earliest
  belfry position set huleedu.ras.batch.results.ready.v1 0 2026-03-02T09:00:00Z
  belfry position set --from-group notification-service

A replica that reads the partition continues at the new position at once. Events that are read again have no second
effect.")]
pub struct SetArgs {
    /// Name of the topic
    #[arg(required_unless_present = "from_group", conflicts_with = "from_group")]
    pub topic: Option<String>,
    /// Number of the partition
    #[arg(requires = "topic", required_unless_present = "from_group")]
    pub partition: Option<i32>,
    /// Next record to read: an offset, an end of the partition, or a time from which to read
    #[arg(
        requires = "partition",
        required_unless_present = "from_group",
        value_name = "OFFSET|earliest|latest|TIME|AGO",
        value_parser = target
    )]
    pub target: Option<Target>,
    /// Consumer group whose positions to adopt, in all topics that are read
    #[arg(long, value_name = "GROUP")]
    pub from_group: Option<String>,
    /// The source of the configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
}

fn target(text: &str) -> Result<Target, String> {
    match text.parse::<i64>() {
        Ok(offset) if offset >= 0 => Ok(Target::Offset(offset)),
        Ok(_) => Err("an offset cannot be negative".into()),
        Err(_) => match text.parse::<Span>() {
            Ok(Span(ago)) => Ok(Target::Start(StartAt::Time(When::Ago(ago).ms()))),
            Err(_) => text
                .parse()
                .map(Target::Start)
                .map_err(|error| format!("neither an offset nor an age such as 2h: {error}")),
        },
    }
}

/// Shows or sets positions.
pub async fn run(command: &PositionCommand, output: &Output) -> anyhow::Result<Exit> {
    match command {
        PositionCommand::Show(args) => show(args, output).await,
        PositionCommand::Set(args) => set(args, output).await,
    }
}

async fn open(config: &ConfigArgs) -> Result<SourcePositions, Fault> {
    let config: Config = config.load().map_err(|error| Fault::new(Exit::Configuration, error.to_string()))?.config;
    SourcePositions::open(&config).await.map_err(fault)
}

async fn show(args: &ShowArgs, output: &Output) -> anyhow::Result<Exit> {
    let positions = open(&args.config).await?;
    let other = match &args.beside {
        Some(group) => Some(positions.other_group(group).await.map_err(fault)?),
        None => None,
    };
    let rows = positions.show(other.as_ref()).await.map_err(fault)?;
    if output.format() == Format::Json {
        rows.iter().try_for_each(|row| output.json(&json_row(row, other.is_some())))?;
    } else if rows.is_empty() {
        output.note(format!("the group {} reads no topics; see kafka.topics", positions.group()));
    } else if other.is_some() {
        let header = ["topic", "partition", "position", "beside", "low", "high", "lag"];
        output.text(&table(header, rows.iter().map(text_row)))?;
    } else {
        let header = ["topic", "partition", "position", "low", "high", "lag"];
        let without =
            |[topic, partition, position, _, low, high, lag]: [String; 7]| [topic, partition, position, low, high, lag];
        output.text(&table(header, rows.iter().map(text_row).map(without)))?;
    }
    let (Some(group), Some(other)) = (&args.beside, &other) else { return Ok(Exit::Ok) };
    Ok(if is_where_we_are(group, other, &rows, output) { Exit::Ok } else { Exit::Check })
}

/// Returns true if Belfry can continue in place of the other group. Reports the reasons if it cannot.
fn is_where_we_are(group: &str, other: &OtherGroup, rows: &[PositionRow], output: &Output) -> bool {
    let elsewhere = rows.iter().filter(|row| row.beside.is_some() && row.beside != row.position).count();
    let nowhere = rows.iter().all(|row| row.beside.is_none());
    if other.members > 0 {
        output.note(format!("{group} has {}: it is still running", counted(other.members, "member")));
    }
    if elsewhere > 0 {
        output.note(format!("{group} has another position in {}", counted(elsewhere, "partition")));
    }
    if nowhere {
        output.note(format!("{group} has committed no offsets in these topics"));
    }
    other.members == 0 && elsewhere == 0 && !nowhere
}

fn json_row(row: &PositionRow, beside: bool) -> serde_json::Value {
    let mut value = json!({
        "topic": row.topic, "partition": row.partition, "position": row.position,
        "low": row.watermarks.map(|watermarks| watermarks.low),
        "high": row.watermarks.map(|watermarks| watermarks.high),
        "lag": lag(row),
    });
    if beside {
        value["beside"] = row.beside.into();
    }
    value
}

fn text_row(row: &PositionRow) -> [String; 7] {
    let shown = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    [
        row.topic.clone(),
        row.partition.to_string(),
        shown(row.position),
        shown(row.beside),
        shown(row.watermarks.map(|watermarks| watermarks.low)),
        shown(row.watermarks.map(|watermarks| watermarks.high)),
        shown(lag(row)),
    ]
}

/// Returns the number of records that were not read yet.
fn lag(row: &PositionRow) -> Option<i64> {
    Some(row.watermarks?.high - row.position?)
}

async fn set(args: &SetArgs, output: &Output) -> anyhow::Result<Exit> {
    let positions = open(&args.config).await?;
    let moved = match (args, &args.from_group) {
        (_, Some(group)) => positions.set_from_group(group, &direct::by()).await.map_err(fault)?,
        (SetArgs { topic: Some(topic), partition: Some(partition), target: Some(target), .. }, None) => {
            vec![positions.set(topic, *partition, *target, &direct::by()).await.map_err(fault)?]
        }
        _ => return Err(Fault::new(Exit::Usage, "no partition or position; see `belfry position set --help`").into()),
    };
    if output.format() == Format::Json {
        for PositionChange { topic, partition, was, is } in &moved {
            output.json(&json!({ "topic": topic, "partition": partition, "was": was, "is": is }))?;
        }
        return Ok(Exit::Ok);
    }
    let rows = moved.iter().map(|PositionChange { topic, partition, was, is }| {
        let was = was.map_or_else(|| "-".to_owned(), |was| was.to_string());
        [topic.clone(), partition.to_string(), was, is.to_string()]
    });
    output.text(&table(["topic", "partition", "was", "is"], rows))?;
    Ok(Exit::Ok)
}

fn fault(error: OperateError) -> Fault {
    let exit = match &error {
        OperateError::NotFound(_) => Exit::NotFound,
        OperateError::OutOfRange { .. } | OperateError::Refused(_) => Exit::Refused,
        OperateError::Open(error) => direct::exit_for(error),
        OperateError::NoBrokers | OperateError::Config(_) | OperateError::Secret(_) => Exit::Configuration,
        _ => Exit::Failure,
    };
    Fault::new(exit, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_offset_or_a_start() {
        assert_eq!(target("12"), Ok(Target::Offset(12)));
        assert_eq!(target("latest"), Ok(Target::Start(StartAt::Latest)));
        assert_eq!(target("1970-01-01T00:00:01Z"), Ok(Target::Start(StartAt::Time(1000))));
        assert!(matches!(target("2h"), Ok(Target::Start(StartAt::Time(ms))) if ms > 0));
        assert!(target("-1").is_err());
        assert!(target("tomorrow").is_err());
    }
}
