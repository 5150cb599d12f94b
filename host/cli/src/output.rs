//! Results go to standard output, as text or as JSON; everything else goes to standard error.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write};

use clap::ValueEnum;
use comfy_table::{Table, presets};
use owo_colors::OwoColorize as _;
use serde::Serialize;

use crate::escape::escape;

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people; coloured on a terminal.
    Text,
    /// For programs: one JSON value a line.
    Json,
}

/// A result cannot be written. Told apart from other errors because a reader that went away is no failure.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}; what was asked for was done nevertheless")]
pub struct OutputError(pub io::Error);

/// Where a command writes.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    format: Format,
}

impl Output {
    /// Write in this format.
    pub fn new(format: Format) -> Self {
        Self { format }
    }

    /// The format in which results are asked for.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Write text as a line of the result; its colours are kept on terminals only. What comes from elsewhere must have
    /// been through [`escape`].
    pub fn text(&self, text: &str) -> Result<(), OutputError> {
        let mut stdout = anstream::stdout().lock();
        writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(OutputError)
    }

    /// Write a value as a line of JSON.
    pub fn json(&self, value: &impl Serialize) -> Result<(), OutputError> {
        let text = serde_json::to_string(value).map_err(|error| OutputError(error.into()))?;
        self.verbatim(&text)
    }

    /// Write a line exactly as it is.
    pub fn verbatim(&self, line: &str) -> Result<(), OutputError> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(OutputError)
    }

    /// Tell people something that is no result. If nobody can read it, nothing is lost.
    pub fn note(&self, text: impl Display) {
        let _ = writeln!(anstream::stderr().lock(), "{}", escape(&text.to_string()));
    }

    /// Show how far long work has come, in place of what was shown last, if somebody watches and the results do not show
    /// it themselves. An empty text clears it.
    pub fn progress(&self, text: &str) {
        if io::stderr().is_terminal() && !io::stdout().is_terminal() {
            // The sequence that clears the line is no colour, so it must pass where colours do not.
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "\r\u{1b}[K{}", escape(text)).and_then(|()| stderr.flush());
        }
    }

    /// Tell people why the command failed. The line ends are kept: an error may quote another program's output.
    pub fn error(&self, error: &anyhow::Error) {
        let text = format!("{error:#}").lines().map(escape).collect::<Vec<_>>().join("\n");
        let _ = writeln!(anstream::stderr().lock(), "{} {text}", "belfry:".red().bold());
    }
}

/// Rows under a header, in columns as wide as they need to be. The cells are escaped.
pub fn table<const COLUMNS: usize>(
    header: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    for row in rows {
        table.add_row(row.map(|cell| escape(&cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// A number with its noun, such as `1 event` and `2 events`.
pub fn counted<N: Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    if number == N::from(1) { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_cells_are_escaped() {
        let rows = [["1".to_owned(), "a\u{1b}b".to_owned()], ["22".to_owned(), "c".to_owned()]];
        assert_eq!(table(["n", "name"], rows), "n   name\n1   a\\u{1b}b\n22  c");
    }
}
