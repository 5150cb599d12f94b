//! The command line: commands, arguments and help texts.

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
  0   success
  1   failure
  2   usage error
  3   a check failed: an event was refused, a case did not pass
  4   not found
  5   refused
  78  invalid configuration

Environment:
  BELFRY_URL     address of the service, if --url is not given
  BELFRY_TOKEN   the token itself, if --token-file is not given
  NO_COLOR       disables colours";

const GLOBAL: &str = "Global options";

/// Turns domain events into notifications, with rules that are WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "belfry", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// Options common to all commands.
    #[command(flatten)]
    pub options: Options,
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// Options common to all commands.
#[derive(Debug, Args)]
pub struct Options {
    /// Address of the service; default: BELFRY_URL, or else http://127.0.0.1:7341
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "URL")]
    pub url: Option<String>,
    /// File that holds the authentication token; default: the token in BELFRY_TOKEN
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Format of results
    #[arg(long, global = true, help_heading = GLOBAL, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service: accept events, run rules, deliver notifications
    #[command(after_help = "\
Examples:
  belfry serve
  belfry serve --config /etc/belfry/belfry.toml
  belfry serve --set http.listen=127.0.0.1:8080 --set sink.stdout.enabled=true")]
    Serve(ConfigArgs),
    /// Demonstrate everything that Belfry does, in a minute, on a temporary service
    #[command(after_help = "\
Example:
  belfry demo")]
    Demo(DemoArgs),
    /// Publish events and show the outcome of each
    Publish(PublishArgs),
    /// Show notifications as they arrive
    Tail(TailArgs),
    /// Explain the origin of a notification, or the outcome of an event
    Explain(ExplainArgs),
    /// Inspect, test, measure and upload rules
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Choose the release that serves a rule
    #[command(subcommand)]
    Release(ReleaseCommand),
    /// Replay recorded events with a release, and compare the notifications
    Replay(ReplayArgs),
    /// Try a release alongside the active one
    #[command(subcommand)]
    Trial(TrialCommand),
    /// Pause or resume a rule, a sink or all notifications
    #[command(subcommand)]
    Pause(PauseCommand),
    /// Manage the tokens of clients and their roles
    #[command(subcommand)]
    Token(TokenCommand),
    /// List the changes to releases, trials, pauses and tokens, and who made them
    AuditLog(AuditLogArgs),
    /// Show or set the positions up to which Kafka's topics have been read
    #[command(subcommand)]
    Position(PositionCommand),
    /// Compare Kafka's topics with their declarations, or apply the declarations
    #[command(subcommand)]
    Topics(TopicsCommand),
    /// Migrate the store's schema, or install belfry.submit for another service
    Migrate(MigrateArgs),
    /// List, redrive or discard events that rules could not project
    #[command(subcommand)]
    DeadLetter(DeadLetterCommand),
    /// List, unpark or discard entries that a sink refused
    #[command(subcommand)]
    Parked(ParkedCommand),
    /// List the known sinks, forget one, or resume one after a gap
    #[command(subcommand)]
    Sink(SinkCommand),
    /// Find records that are missing, duplicated or out of order on Kafka's topics
    Audit(AuditArgs),
    /// Compare the log with the notifications that another notifier has published
    Compare(CompareArgs),
    /// Check everything that Belfry depends on, and suggest remedies
    Doctor(DoctorArgs),
    /// Show or check the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Write a shell completion script to standard output
    Completions(CompletionsArgs),
    /// Compile a component; the service runs this for each upload
    #[command(hide = true)]
    CompileComponent(CompileArgs),
}

/// The commands of `plugin`.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Load a component locally, as the service would, and show its description
    Inspect(InspectArgs),
    /// Run a component's test cases in Belfry's sandbox
    Test(TestArgs),
    /// Measure the time and memory that a component takes per event
    Bench(BenchArgs),
    /// Upload a component as a new release
    Push(PushArgs),
    /// List the uploaded releases with the figures of their admission
    #[command(after_help = "\
Example:
  belfry plugin list --projector teacher-results")]
    List(ListArgs),
    /// Show a release and its admission report
    Show(ShowArgs),
    /// Show the differences between two releases
    Diff(DiffArgs),
    /// Create a key for signing components
    Keygen(KeygenArgs),
    /// Sign a component
    Sign(SignArgs),
}

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

/// Arguments of `publish`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  belfry publish event.json
  cat *.json | belfry publish -
  belfry --output json publish events.ndjson | jq 'select(.status != \"accepted\")'

An event that was recorded before is reported as a duplicate and has no second effect, so publishing again is safe.")]
pub struct PublishArgs {
    /// File of event envelopes, as JSON values one after another; - reads standard input
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

After a lost connection it reconnects and continues where it stopped.")]
pub struct TailArgs {
    /// Show only notifications to this recipient
    #[arg(long)]
    pub recipient: Option<String>,
    /// Show only notifications made by this rule
    #[arg(long)]
    pub projector: Option<String>,
    /// Where to start: `beginning`, `now`, or after a position in the log
    #[arg(long, value_name = "beginning|now|POSITION", default_value_t = Start::Now)]
    pub from: Start,
    /// Number of notifications to show before exiting; default: no limit
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  belfry explain fe17901f-b267-53fc-ab06-b54d181baae1
  belfry explain --rerun fe17901f-b267-53fc-ab06-b54d181baae1

With --rerun, the exit code is 3 if the result is different now.")]
pub struct ExplainArgs {
    /// Id of a notification or an event
    #[arg(value_name = "ID", value_parser = uuid)]
    pub id: Uuid,
    /// Project the event again with the same releases, and report whether the result is the same
    #[arg(long)]
    pub rerun: bool,
}

/// Arguments of `plugin inspect`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  belfry plugin inspect target/wasm32-wasip2/release/my_rule.wasm")]
pub struct InspectArgs {
    /// File of the component
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
    /// File of the component
    pub file: PathBuf,
    /// Directory of the case files
    #[arg(long, value_name = "DIR", default_value = "cases")]
    pub cases: PathBuf,
    /// Rewrite failing cases to expect the actual output, as BELFRY_UPDATE=1 does
    #[arg(long)]
    pub update: bool,
    /// Run only cases whose name contains this text
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
}

/// Arguments of `plugin bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  belfry plugin bench my_rule.wasm --iterations 10000

Each call runs in a fresh instance, as in the service.")]
pub struct BenchArgs {
    /// File of the component
    pub file: PathBuf,
    /// Directory of the case files that supply the events
    #[arg(long, value_name = "DIR", default_value = "cases")]
    pub cases: PathBuf,
    /// Number of calls to measure per case
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub iterations: u32,
}

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

/// Arguments of `plugin diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  belfry plugin diff teacher-results@1.1.0#6 teacher-results@1.2.0#7")]
pub struct DiffArgs {
    /// Number or label of the first release
    #[arg(value_name = "RELEASE")]
    pub before: ReleaseReference,
    /// Number or label of the second release
    #[arg(value_name = "RELEASE")]
    pub after: ReleaseReference,
}

/// Arguments of `plugin keygen`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  belfry plugin keygen ~/.belfry/release.key

Keep the file secret: anyone who has it can sign. The public key is printed and written to FILE.pub; an operator adds it
to releases.trusted_keys.")]
pub struct KeygenArgs {
    /// File to write the secret key to; it must not exist
    pub file: PathBuf,
}

/// Arguments of `plugin sign`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  belfry plugin sign my_rule.wasm --key ~/.belfry/release.key
  belfry plugin push my_rule.wasm --signature my_rule.wasm.sig

The signature is ed25519, over the text belfry.component.v1: followed by the SHA-256 of the file in hexadecimal.")]
pub struct SignArgs {
    /// File of the component
    pub file: PathBuf,
    /// File with the secret key, as `plugin keygen` writes it
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// File to write the signature to; default: the component's file name followed by .sig
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
}

/// Arguments of `release list` and `plugin list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// List only releases of this rule
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

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  belfry completions bash > ~/.local/share/bash-completion/completions/belfry")]
pub struct CompletionsArgs {
    /// Shell to write the script for
    pub shell: clap_complete::Shell,
}

fn uuid(text: &str) -> Result<Uuid, &'static str> {
    Uuid::parse_str(text).map_err(|_| "must be a UUID, such as fe17901f-b267-53fc-ab06-b54d181baae1")
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
