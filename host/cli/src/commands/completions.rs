//! `belfry completions`.

use clap::CommandFactory as _;

use crate::Exit;
use crate::args::{Cli, CompletionsArgs};
use crate::output::Output;

/// Write a shell's completion script.
pub fn run(args: &CompletionsArgs, output: &Output) -> anyhow::Result<Exit> {
    // Written in one go: the generator itself ends with a panic when the reader goes away.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "belfry", &mut script);
    output.verbatim(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Ok)
}
