//! `belfry topics`.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use belfry_service::kafka::{Difference, TopicDifference, Topics, TopicsError};
use belfry_store::{NewChange, Store, now_ms};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::commands::serve::ConfigArgs;
use crate::direct::{self, open_store};
use crate::exit::{Exit, Fault};
use crate::output::{Format, Output, counted, table};

/// The time within which a change that a broker accepted becomes visible.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The commands of `topics`.
#[derive(Debug, Subcommand)]
pub enum TopicsCommand {
    /// Compare the topics declared in [kafka.declared] with the broker's; exit code 3 if they differ
    #[command(after_help = "\
Example:
  belfry topics check --config belfry.toml")]
    Check(CheckArgs),
    /// Apply the declarations: create missing topics, add partitions, change settings
    Apply(ApplyArgs),
}

/// Arguments of `topics check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Names of topics; default: all declared topics
    #[arg(value_name = "TOPIC")]
    pub topics: Vec<String>,
    /// The source of the configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Arguments of `topics apply`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  belfry topics apply --dry-run
  belfry topics apply --yes

Settings that are not declared are unchanged. Topics are never deleted, and partitions never removed.")]
pub struct ApplyArgs {
    /// The topics.
    #[command(flatten)]
    pub check: CheckArgs,
    /// Show the changes without applying them
    #[arg(long)]
    pub dry_run: bool,
    /// Skip the confirmation
    #[arg(long)]
    pub yes: bool,
}

/// Compares or changes topics.
pub async fn run(command: &TopicsCommand, output: &Output) -> anyhow::Result<Exit> {
    match command {
        TopicsCommand::Check(args) => {
            let topics = open(args)?;
            let differences = compare(&topics, output).await?;
            Ok(if differences.is_empty() { Exit::Ok } else { Exit::Check })
        }
        TopicsCommand::Apply(args) => apply(args, output).await,
    }
}

fn open(args: &CheckArgs) -> Result<Topics, Fault> {
    let config = args.config.load().map_err(|error| Fault::new(Exit::Configuration, error.to_string()))?.config;
    Topics::new(&config.kafka, &args.topics).map_err(fault)
}

/// Compares the topics with their declarations, and shows the differences.
async fn compare(topics: &Topics, output: &Output) -> anyhow::Result<Vec<TopicDifference>> {
    let differences = topics.compare().await.map_err(fault)?;
    if output.format() == Format::Json {
        differences.iter().try_for_each(|difference| output.json(&as_json(difference)))?;
    } else if !differences.is_empty() {
        output.text(&table(["topic", "what", "is", "declared"], differences.iter().map(row)))?;
    }
    if differences.is_empty() {
        output.note(format!("{} as declared", counted(topics.count(), "topic")));
    }
    Ok(differences)
}

async fn apply(args: &ApplyArgs, output: &Output) -> anyhow::Result<Exit> {
    let topics = open(&args.check)?;
    let differences = compare(&topics, output).await?;
    if differences.iter().any(|different| matches!(different.difference, Difference::Partitions { .. })) {
        output.note("more partitions: keys move to other partitions, so their order is briefly not guaranteed");
    }
    if differences.is_empty() || args.dry_run {
        return Ok(Exit::Ok);
    }
    let changes: Vec<_> = differences.iter().filter(|different| different.difference.can_be_applied()).collect();
    let store = if changes.is_empty() { None } else { audit_log(&args.check.config, output).await };
    if !args.yes && !confirmed(output) {
        return Err(Fault::new(Exit::Refused, "nothing was changed; pass --yes to skip the confirmation").into());
    }
    if let Some(store) = store {
        note(&store, &changes, output).await;
        store.close().await;
    }
    topics.apply(&differences).await.map_err(fault)?;
    let left = differences_left(&topics).await?;
    if left.is_empty() {
        output.note("all topics are now as declared");
        return Ok(Exit::Ok);
    }
    let names = left.iter().map(|different| row(different).join(" ")).collect::<Vec<_>>().join("; ");
    let (problem, unknown) = ("some differences remain", left.iter().any(|left| !left.difference.can_be_applied()));
    let hint = if unknown { "; use Kafka's own tools for replication factors and unknown settings" } else { "" };
    Err(Fault::new(Exit::Check, format!("{problem}: {names}{hint}")).into())
}

/// Opens the store with the audit log. The store may not exist yet, or be unavailable while topics have to be fixed: then
/// reports that, before anything is changed, and returns `None`.
async fn audit_log(config: &ConfigArgs, output: &Output) -> Option<Store> {
    let opening = async { anyhow::Ok(open_store(&config.load()?.config).await?) };
    let opened = opening.await;
    opened.inspect_err(|error| output.note(format!("the changes will not be in the audit log: {error}"))).ok()
}

async fn note(store: &Store, changes: &[&TopicDifference], output: &Output) {
    for different in changes {
        let [topic, what, is, declared] = row(different);
        let change = NewChange::topic(&topic, &what, &is, &declared, &direct::by());
        if let Err(error) = store.note_change(&change, now_ms()).await {
            return output.note(format!("the changes will not be in the audit log: {error}"));
        }
    }
}

/// Returns the differences that remain. Brokers take a moment to show changes that they have accepted.
async fn differences_left(topics: &Topics) -> anyhow::Result<Vec<TopicDifference>> {
    let began = Instant::now();
    loop {
        let left = topics.compare().await.map_err(fault)?;
        if began.elapsed() > SHOWN_WITHIN || !left.iter().any(|left| left.difference.can_be_applied()) {
            return Ok(left);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn confirmed(output: &Output) -> bool {
    if !io::stdin().is_terminal() {
        return false;
    }
    output.note("apply these changes? [y/N]");
    let _ = io::stderr().flush();
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

fn row(different: &TopicDifference) -> [String; 4] {
    let [what, is, declared] = match &different.difference {
        Difference::Missing => ["topic".into(), "missing".into(), "there".into()],
        Difference::Partitions { actual, declared } => ["partitions".into(), actual.to_string(), declared.to_string()],
        Difference::Copies { actual, declared } => {
            ["replication factor".into(), actual.to_string(), declared.to_string()]
        }
        Difference::Setting { name, actual, declared } => {
            [name.clone(), actual.clone().unwrap_or_else(|| "unknown to the broker".into()), declared.clone()]
        }
    };
    [different.topic.clone(), what, is, declared]
}

fn as_json(different: &TopicDifference) -> serde_json::Value {
    let [topic, what, is, declared] = row(different);
    json!({ "topic": topic, "what": what, "is": is, "declared": declared })
}

fn fault(error: TopicsError) -> Fault {
    let exit = match &error {
        TopicsError::NoBrokers | TopicsError::Config(_) => Exit::Configuration,
        TopicsError::NotDeclared(_) => Exit::NotFound,
        TopicsError::Refused { .. } | TopicsError::Hidden { .. } | TopicsError::Misconfigured(_) => Exit::Refused,
        TopicsError::Kafka(_) | TopicsError::CutOff => Exit::Failure,
    };
    Fault::new(exit, error.to_string())
}
