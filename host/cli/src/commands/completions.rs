//! `belfry completions`.

use clap::CommandFactory as _;

use crate::Exit;
use crate::args::{Cli, CompletionsArgs};
use crate::output::Output;

/// Writes a shell completion script.
pub fn run(args: &CompletionsArgs, output: &Output) -> anyhow::Result<Exit> {
    // Buffered, because the generator panics if the reader closes the pipe.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "belfry", &mut script);
    output.verbatim(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Ok)
}
