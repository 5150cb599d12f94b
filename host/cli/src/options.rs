//! Options common to all commands.

use std::path::PathBuf;

use clap::Args;

use crate::output::Format;

const GLOBAL: &str = "Global options";

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
