//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use uuid::Uuid;

use crate::client::Start;
use crate::commands::audit::AuditArgs;
use crate::commands::audit_log::AuditLogArgs;
use crate::commands::compare::CompareArgs;
use crate::commands::compile_component::CompileArgs;
use crate::commands::config::ConfigCommand;
use crate::commands::dead_letter::DeadLetterCommand;
use crate::commands::demo::DemoArgs;
use crate::commands::doctor::DoctorArgs;
use crate::commands::migrate::MigrateArgs;
use crate::commands::parked::ParkedCommand;
use crate::commands::pause::PauseCommand;
use crate::commands::position::PositionCommand;
use crate::commands::release::ReleaseReference;
use crate::commands::replay::ReplayArgs;
use crate::commands::serve::ConfigArgs;
use crate::commands::sink::SinkCommand;
use crate::commands::token::TokenCommand;
use crate::commands::topics::TopicsCommand;
use crate::commands::trial::TrialCommand;
use crate::output::Format;

const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   failed
  2   the command was typed wrongly
  3   a check failed: an event was refused, a case did not pass
  4   not found
  5   refused
  78  the configuration is wrong

Environment:
  BELFRY_URL     as --url
  BELFRY_TOKEN   the token itself, where no --token-file is given
  NO_COLOR       no colours";

/// Turns domain events into notifications, by rules that are WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "belfry", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub options: Options,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Options {
    /// Where Belfry listens; without it, what BELFRY_URL says, else http://127.0.0.1:7341
    #[arg(long, global = true, value_name = "URL")]
    pub url: Option<String>,
    /// A file that holds the token to identify with; without it, the token in BELFRY_TOKEN
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// How results are written: for people, or as one JSON value a line
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve: take events, run the rules, deliver notifications
    Serve(ConfigArgs),
    /// Show everything that Belfry does, in a minute, on a service of its own
    Demo(DemoArgs),
    /// Send events and show what became of each
    Publish(PublishArgs),
    /// Show notifications as they arrive
    Tail(TailArgs),
    /// Tell where a notification comes from, or what became of an event
    Explain(ExplainArgs),
    /// Work on a rule: inspect, test, measure, upload
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Choose which release of a rule serves
    #[command(subcommand)]
    Release(ReleaseCommand),
    /// See what a release would have made of recorded events
    Replay(ReplayArgs),
    /// Try a release beside the one that serves
    #[command(subcommand)]
    Trial(TrialCommand),
    /// Bring a rule, a sink or all notifications to a halt, and let them go on
    #[command(subcommand)]
    Pause(PauseCommand),
    /// Say who may call Belfry, and as what
    #[command(subcommand)]
    Token(TokenCommand),
    /// Show who changed what: releases, trials, pauses, tokens, dead letters, positions
    AuditLog(AuditLogArgs),
    /// How far Kafka's topics have been read
    #[command(subcommand)]
    Position(PositionCommand),
    /// Whether Kafka's topics are as declared
    #[command(subcommand)]
    Topics(TopicsCommand),
    /// Bring the store's schema up to date, or install belfry.submit for another service
    Migrate(MigrateArgs),
    /// Look at events that rules could not project, try them again or discard them
    #[command(subcommand)]
    DeadLetter(DeadLetterCommand),
    /// Look at what a sink refused, send it again or discard it
    #[command(subcommand)]
    Parked(ParkedCommand),
    /// Look at the sinks that are known, forget one, or let one go on behind a gap
    #[command(subcommand)]
    Sink(SinkCommand),
    /// Compare the log with Kafka's topics: is anything missing, doubled or out of order?
    Audit(AuditArgs),
    /// Compare the log with what another notifier has published: do both tell the same?
    Compare(CompareArgs),
    /// Check everything that Belfry depends on, and say what to do
    Doctor(DoctorArgs),
    /// Look at the configuration, or check it
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Write a shell's completion script to standard output
    Completions(CompletionsArgs),
    /// Compile a component, for the service that starts this
    #[command(hide = true)]
    CompileComponent(CompileArgs),
}

/// What to do with a rule.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Load a component here, as Belfry would, and show what it says of itself
    Inspect(InspectArgs),
    /// Run a component's cases in Belfry's own sandbox
    Test(TestArgs),
    /// Measure what a component costs for each event
    Bench(BenchArgs),
    /// Upload a component as a new release
    Push(PushArgs),
    /// List what was uploaded, and what was found out about it
    List(ListArgs),
    /// Show a release, and what was found out about it before it was taken
    Show(ShowArgs),
    /// Show in what two releases differ
    Diff(DiffArgs),
    /// Make a key to sign components with
    Keygen(KeygenArgs),
    /// Sign a component
    Sign(SignArgs),
}

/// What to do with releases.
#[derive(Debug, Subcommand)]
pub enum ReleaseCommand {
    /// List the releases, oldest first
    List(ListArgs),
    /// Let a release serve its rule from now on
    Activate(ActivateArgs),
    /// Go back to the release that served before
    Rollback(RollbackArgs),
    /// Take a rule out for good: nothing is projected with it any more
    Retire(RetireArgs),
}

/// Arguments of `publish`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  belfry publish event.json
  cat *.json | belfry publish -
  belfry --output json publish events.ndjson | jq 'select(.status != \"accepted\")'

An event that was taken before is a duplicate and has no second effect, so that publishing again is harmless.")]
pub struct PublishArgs {
    /// A file of JSON values, one behind the other, each an event's envelope; - reads standard input
    #[arg(value_name = "FILE|-")]
    pub source: PathBuf,
}

/// Arguments of `tail`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  belfry tail
  belfry tail --recipient teacher-anna --from beginning
  belfry --output json tail --count 1

After a lost connection it goes on where it was.")]
pub struct TailArgs {
    /// Only notifications to this recipient
    #[arg(long)]
    pub recipient: Option<String>,
    /// Only notifications of this rule
    #[arg(long)]
    pub projector: Option<String>,
    /// Where to start: `beginning`, `now`, or the position in the log after which to start
    #[arg(long, value_name = "beginning|now|POSITION", default_value_t = Start::Now)]
    pub from: Start,
    /// Stop after so many notifications
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  belfry explain fe17901f-b267-53fc-ab06-b54d181baae1
  belfry explain --rerun fe17901f-b267-53fc-ab06-b54d181baae1

With --rerun the exit code is 3 if something else comes of the event now.")]
pub struct ExplainArgs {
    /// The id of a notification or of an event
    #[arg(value_name = "ID")]
    pub id: Uuid,
    /// Project the event once more with the same releases, and say whether the same comes of it
    #[arg(long)]
    pub rerun: bool,
}

/// Arguments of `plugin inspect`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  belfry plugin inspect target/wasm32-wasip2/release/my_rule.wasm")]
pub struct InspectArgs {
    /// The component
    pub file: PathBuf,
}

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
    /// The component
    pub file: PathBuf,
    /// The folder with the case files
    #[arg(long, value_name = "DIR", default_value = "cases")]
    pub cases: PathBuf,
    /// Rewrite cases that fail to expect what came out; BELFRY_UPDATE=1 does the same
    #[arg(long)]
    pub update: bool,
    /// Only cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
}

/// Arguments of `plugin bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  belfry plugin bench my_rule.wasm --iterations 10000

Each call runs in a fresh instance, as in service.")]
pub struct BenchArgs {
    /// The component
    pub file: PathBuf,
    /// The folder with the case files whose events are used
    #[arg(long, value_name = "DIR", default_value = "cases")]
    pub cases: PathBuf,
    /// How many calls to measure for each case
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub iterations: u32,
}

/// Arguments of `plugin push`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  belfry plugin push my_rule.wasm
  belfry plugin push my_rule.wasm --config eager.json --note \"tell them sooner\" --activate

The same component with the same configuration is the same release: pushing it again changes nothing.")]
pub struct PushArgs {
    /// The component
    pub file: PathBuf,
    /// The release's configuration, a file that holds a JSON object
    #[arg(long, value_name = "FILE.json")]
    pub config: Option<PathBuf>,
    /// Why it is made
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// A signature of the component, as `plugin sign` writes it
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
    /// Let it serve at once
    #[arg(long)]
    pub activate: bool,
}

/// Arguments of `plugin show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  belfry plugin show teacher-results@1.2.0#7
  belfry --output json plugin show 7 | jq .admission.samples")]
pub struct ShowArgs {
    /// The release's number, or its label
    #[arg(value_name = "RELEASE")]
    pub release: ReleaseReference,
}

/// Arguments of `plugin diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  belfry plugin diff teacher-results@1.1.0#6 teacher-results@1.2.0#7")]
pub struct DiffArgs {
    /// A release's number, or its label
    #[arg(value_name = "RELEASE")]
    pub before: ReleaseReference,
    /// Another's
    #[arg(value_name = "RELEASE")]
    pub after: ReleaseReference,
}

/// Arguments of `plugin keygen`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  belfry plugin keygen ~/.belfry/release.key

Keep the file to yourself: whoever has it can sign. The public key is printed, and stands in FILE.pub; an operator adds it
to releases.trusted_keys.")]
pub struct KeygenArgs {
    /// Where the secret key is written to; it must not be there yet
    pub file: PathBuf,
}

/// Arguments of `plugin sign`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  belfry plugin sign my_rule.wasm --key ~/.belfry/release.key
  belfry plugin push my_rule.wasm --signature my_rule.wasm.sig

What is signed is the text belfry.component.v1: and the SHA-256 of the file in hexadecimal, with ed25519.")]
pub struct SignArgs {
    /// The component
    pub file: PathBuf,
    /// The secret key, as `plugin keygen` wrote it
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Where the signature is written to; without it, beside the component with .sig behind its name
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
}

/// Arguments of `release list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  belfry release list --projector teacher-results")]
pub struct ListArgs {
    /// Only releases of this rule
    #[arg(long)]
    pub projector: Option<String>,
}

/// Arguments of `release activate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  belfry release activate 7
  belfry release activate teacher-results@1.2.0#7
  belfry release activate teacher-results@1.2.0#7 failed-batches@2.0.0#9")]
pub struct ActivateArgs {
    /// The release's number, or its label, which ends in the number; several rules' are switched together
    #[arg(value_name = "RELEASE_ID", required = true)]
    pub releases: Vec<ReleaseReference>,
}

/// Arguments of `release rollback`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  belfry release rollback teacher-results")]
pub struct RollbackArgs {
    /// The rule's name
    pub projector: String,
}

/// Arguments of `release retire`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  belfry release retire first-rule --reason \"the feature is gone\"

Its releases and what it has issued stay. To let it serve again:
  belfry release rollback first-rule")]
pub struct RetireArgs {
    /// The rule's name
    pub projector: String,
    /// Why, in a line; it goes to the audit log
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  belfry completions bash > ~/.local/share/bash-completion/completions/belfry")]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_may_stand_anywhere() {
        for line in ["belfry --output json tail", "belfry tail --output json", "belfry release list --output json"] {
            let cli = Cli::try_parse_from(line.split(' ')).expect("a command");
            assert_eq!(cli.options.output, Format::Json, "{line}");
        }
    }

    #[test]
    fn standard_input_is_a_source() {
        let cli = Cli::try_parse_from(["belfry", "publish", "-"]).expect("a command");
        let Command::Publish(args) = cli.command else { panic!("publish") };
        assert_eq!(args.source, PathBuf::from("-"));
    }

    #[test]
    fn the_url_of_a_migration_is_a_database() {
        let line = ["belfry", "migrate", "--submit-only", "--url", "postgres://owner@host/grading"];
        let Command::Migrate(args) = Cli::try_parse_from(line).expect("a command").command else { panic!("migrate") };
        assert_eq!(args.url.as_deref(), Some("postgres://owner@host/grading"));
        assert!(args.submit_only);
    }

    #[test]
    fn a_start_is_checked() {
        let start = |text| match Cli::try_parse_from(["belfry", "tail", "--from", text]).map(|cli| cli.command) {
            Ok(Command::Tail(args)) => Some(args.from),
            _ => None,
        };
        assert_eq!(start("beginning"), Some(Start::Beginning));
        assert_eq!(start("12"), Some(Start::After(12)));
        assert_eq!(start("yesterday"), None);
        assert_eq!(start("-1"), None);
    }
}
