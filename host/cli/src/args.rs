//! The command line: commands, arguments and help texts.

use clap::{Parser, Subcommand};

use crate::commands::audit::AuditArgs;
use crate::commands::audit_log::AuditLogArgs;
use crate::commands::compare::CompareArgs;
use crate::commands::compile_component::CompileArgs;
use crate::commands::completions::CompletionsArgs;
use crate::commands::config::ConfigCommand;
use crate::commands::dead_letter::DeadLetterCommand;
use crate::commands::demo::DemoArgs;
use crate::commands::doctor::DoctorArgs;
use crate::commands::explain::ExplainArgs;
use crate::commands::migrate::MigrateArgs;
use crate::commands::parked::ParkedCommand;
use crate::commands::pause::PauseCommand;
use crate::commands::plugin::PluginCommand;
use crate::commands::position::PositionCommand;
use crate::commands::publish::PublishArgs;
use crate::commands::release::ReleaseCommand;
use crate::commands::replay::ReplayArgs;
use crate::commands::serve::ConfigArgs;
use crate::commands::sink::SinkCommand;
use crate::commands::tail::TailArgs;
use crate::commands::token::TokenCommand;
use crate::commands::topics::TopicsCommand;
use crate::commands::trial::TrialCommand;
use crate::options::Options;

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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use std::path::PathBuf;

    use super::*;
    use crate::client::Start;
    use crate::output::Format;

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
