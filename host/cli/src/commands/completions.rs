//! `belfry completions`.

use clap::{Args, Command};

use crate::Exit;
use crate::output::Output;

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  belfry completions bash > ~/.local/share/bash-completion/completions/belfry")]
pub struct CompletionsArgs {
    /// Shell to write the script for
    pub shell: clap_complete::Shell,
}

/// Writes a shell completion script for the whole command.
pub fn run(args: &CompletionsArgs, mut command: Command, output: &Output) -> anyhow::Result<Exit> {
    // Buffered, because the generator panics if the reader closes the pipe.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "belfry", &mut script);
    output.verbatim(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Ok)
}
