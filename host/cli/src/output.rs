//! Results go to standard output, as text or as JSON; everything else goes to standard error.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write};

use clap::ValueEnum;
use comfy_table::{Table, presets};
use owo_colors::OwoColorize as _;
use serde::Serialize;

use crate::escape::escape;

/// The format of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people; coloured on a terminal.
    Text,
    /// For programs: one JSON value per line.
    Json,
}

/// A failure to write a result. Distinct from other errors because a closed reader is not a failure.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}; the command itself was carried out")]
pub struct OutputError(pub io::Error);

/// The destination of a command's results and messages.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    format: Format,
}

impl Output {
    /// Creates an output with this format of results.
    pub fn new(format: Format) -> Self {
        Self { format }
    }

    /// Returns the requested format of results.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Writes a text as a line of the result. Keeps its colours only on a terminal. Text from external sources must be
    /// escaped with [`escape`].
    pub fn text(&self, text: &str) -> Result<(), OutputError> {
        let mut stdout = anstream::stdout().lock();
        writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(OutputError)
    }

    /// Writes a value as one line of JSON.
    pub fn json(&self, value: &impl Serialize) -> Result<(), OutputError> {
        let text = serde_json::to_string(value).map_err(|error| OutputError(error.into()))?;
        self.verbatim(&text)
    }

    /// Writes a line unchanged.
    pub fn verbatim(&self, line: &str) -> Result<(), OutputError> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(OutputError)
    }

    /// Writes a message that is not part of the result to standard error. Ignores write errors: the message is dispensable.
    pub fn note(&self, text: impl Display) {
        let _ = writeln!(anstream::stderr().lock(), "{}", escape(&text.to_string()));
    }

    /// Shows the progress of long work in place of the previous progress. Does nothing unless standard error is a terminal
    /// and standard output is not: results on a terminal show the progress themselves. An empty text clears the line.
    pub fn progress(&self, text: &str) {
        if io::stderr().is_terminal() && !io::stdout().is_terminal() {
            // Not through `anstream`: it strips the sequence that clears the line where it strips colours.
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "\r\u{1b}[K{}", escape(text)).and_then(|()| stderr.flush());
        }
    }

    /// Reports on standard error why the command failed. Keeps line breaks: an error may quote another program's output.
    pub fn error(&self, error: &anyhow::Error) {
        let text = format!("{error:#}").lines().map(escape).collect::<Vec<_>>().join("\n");
        let _ = writeln!(anstream::stderr().lock(), "{} {text}", "belfry:".red().bold());
    }
}

/// Formats rows under a header, in columns as wide as their content. Escapes the cells.
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

/// Formats a number with its noun, such as `1 event` and `2 events`.
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
