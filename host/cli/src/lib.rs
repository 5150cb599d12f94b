//! The `belfry` command as a library. The binary only parses the arguments and exits with an [`Exit`].
//!
//! - [`args`] defines the command line, [`commands`] implements it.
//! - [`client`] is the client of a running Belfry; it does not depend on a terminal.
//! - [`output`] writes results to standard output, as text or JSON, and everything else to standard error.

pub mod args;
pub mod client;
pub mod commands;
pub mod connection;
pub mod direct;
pub mod escape;
pub mod exit;
pub mod help;
pub mod json_stream;
pub mod options;
pub mod output;
pub mod priority;
pub mod when;

pub use args::Cli;
pub use exit::Exit;

use clap::CommandFactory as _;

use args::Command;
use commands::parked::ParkedCommand;
use commands::plugin::PluginCommand;
use commands::release::ReleaseCommand;
use output::Output;

/// Runs a command to completion. Reports errors on standard error.
pub async fn run(cli: Cli) -> Exit {
    let output = Output::new(cli.options.output);
    match dispatch(&cli, &output).await {
        Ok(exit) => exit,
        Err(error) => {
            let exit = Exit::of(&error);
            // `Exit::Ok` here means that the reader closed the output, as `head` does: not an error to report.
            if exit != Exit::Ok {
                output.error(&error);
            }
            exit
        }
    }
}

async fn dispatch(cli: &Cli, output: &Output) -> anyhow::Result<Exit> {
    let client = || connection::connect(&cli.options, output);
    match &cli.command {
        Command::Publish(args) => commands::publish::run(args, &client()?, output).await,
        Command::Tail(args) => commands::tail::run(args, &client()?, output).await,
        Command::Explain(args) => commands::explain::run(args, &client()?, output).await,
        Command::Plugin(PluginCommand::Inspect(args)) => commands::plugin::inspect::run(args, output),
        Command::Plugin(PluginCommand::Test(args)) => commands::plugin::test::run(args, output),
        Command::Plugin(PluginCommand::Bench(args)) => commands::plugin::bench::run(args, output),
        Command::Plugin(PluginCommand::Push(args)) => commands::plugin::push::run(args, &client()?, output).await,
        Command::Plugin(PluginCommand::List(args)) => commands::plugin::list::run(args, &client()?, output).await,
        Command::Plugin(PluginCommand::Show(args)) => commands::plugin::show::run(args, &client()?, output).await,
        Command::Plugin(PluginCommand::Diff(args)) => commands::plugin::diff::run(args, &client()?, output).await,
        Command::Plugin(PluginCommand::Keygen(args)) => commands::plugin::keys::generate(args, output),
        Command::Plugin(PluginCommand::Sign(args)) => commands::plugin::keys::sign(args, output),
        Command::Release(ReleaseCommand::List(args)) => commands::release::list(args, &client()?, output).await,
        Command::Release(ReleaseCommand::Activate(args)) => commands::release::activate(args, &client()?, output).await,
        Command::Release(ReleaseCommand::Rollback(args)) => {
            commands::release::roll_back(args, &client()?, output).await
        }
        Command::Release(ReleaseCommand::Retire(args)) => commands::release::retire(args, &client()?, output).await,
        Command::Replay(args) => commands::replay::run(args, &client()?, output).await,
        Command::AuditLog(args) => commands::audit_log::run(args, &client()?, output).await,
        Command::DeadLetter(command) => commands::dead_letter::run(command, &client()?, output).await,
        Command::Sink(command) => commands::sink::run(command, &client()?, output).await,
        Command::Parked(ParkedCommand::List(args)) => commands::parked::list(args, &client()?, output).await,
        Command::Parked(ParkedCommand::Unpark(args)) => commands::parked::unpark(args, &client()?, output).await,
        Command::Parked(ParkedCommand::Discard(args)) => commands::parked::discard(args, &client()?, output).await,
        Command::Audit(args) => commands::audit::run(args, output).await,
        Command::Compare(args) => commands::compare::run(args, output).await,
        Command::Doctor(args) => commands::doctor::run(args, output).await,
        Command::Serve(args) => commands::serve::run(args).await,
        Command::Migrate(args) => commands::migrate::run(args, output).await,
        Command::Demo(args) => commands::demo::run(args, output).await,
        Command::Trial(command) => commands::trial::run(command, &client()?, output).await,
        Command::Pause(command) => commands::pause::run(command, &client()?, output).await,
        Command::Token(command) => commands::token::run(command, &cli.options, output).await,
        Command::Position(command) => commands::position::run(command, output).await,
        Command::Topics(command) => commands::topics::run(command, output).await,
        Command::Config(command) => commands::config::run(command, output),
        Command::Completions(args) => commands::completions::run(args, Cli::command(), output),
        Command::CompileComponent(args) => commands::compile_component::run(args),
    }
}
