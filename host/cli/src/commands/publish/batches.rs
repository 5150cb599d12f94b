use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::thread;

use anyhow::Context as _;
use tokio::sync::mpsc;

use crate::json_stream::{BrokenStream, for_each_line};

/// Less than the service accepts in one request, so that answers arrive steadily.
const MAX_LINES: usize = 1000;
const MAX_BYTES: usize = 8 << 20;

type Line = Result<String, BrokenStream>;

/// Groups the values of a file into batches, one per request.
///
/// A batch consists of the values that are available; it does not wait for more. The events of a slow source, such as a
/// pipe from a long-running program, are therefore sent at once.
pub(super) struct Batches {
    lines: mpsc::Receiver<Line>,
    /// Read, but not part of the last batch.
    held: Option<Line>,
    name: String,
}

impl Batches {
    /// Starts to read a file, or standard input for `-`.
    pub(super) fn open(source: &Path) -> anyhow::Result<Self> {
        let (name, stream): (String, Box<dyn Read + Send>) = if source == Path::new("-") {
            ("standard input".to_owned(), Box::new(io::stdin()))
        } else {
            let name = source.display().to_string();
            let file = File::open(source)
                .with_context(|| format!("cannot read {name}, specify a file, or - for standard input"))?;
            (name, Box::new(file))
        };
        let (sender, lines) = mpsc::channel(MAX_LINES);
        // A separate thread that is never joined: a read from standard input cannot be cancelled.
        thread::Builder::new()
            .name("read".into())
            .spawn(move || {
                if let Err(broken) = for_each_line(stream, |line| sender.blocking_send(Ok(line)).is_ok()) {
                    // If the receiver is gone, the command has failed already.
                    let _ = sender.blocking_send(Err(broken));
                }
            })
            .context("cannot start a thread for reading")?;
        Ok(Self { lines, held: None, name })
    }

    /// Returns the next lines to send together, or `None` at the end.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Vec<String>>> {
        let first = match self.held.take() {
            Some(line) => Some(line),
            None => self.lines.recv().await,
        };
        let Some(first) = first else { return Ok(None) };
        let first = first.with_context(|| format!("error in {}", self.name))?;
        let mut bytes = first.len();
        let mut batch = vec![first];
        while batch.len() < MAX_LINES {
            match self.lines.try_recv() {
                Ok(Ok(line)) if bytes + line.len() < MAX_BYTES => {
                    bytes += line.len() + 1;
                    batch.push(line);
                }
                Ok(line) => {
                    self.held = Some(line);
                    break;
                }
                Err(_) => break,
            }
        }
        Ok(Some(batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the batches of lines that are already available, and whether the last is followed by an error.
    async fn batches(lines: Vec<Line>) -> (Vec<Vec<String>>, bool) {
        let (sender, receiver) = mpsc::channel(lines.len() + 1);
        for line in lines {
            sender.send(line).await.expect("room for all");
        }
        drop(sender);
        let mut batches = Batches { lines: receiver, held: None, name: "test".into() };
        let mut all = Vec::new();
        loop {
            match batches.next().await {
                Ok(Some(batch)) => all.push(batch),
                Ok(None) => return (all, false),
                Err(_) => return (all, true),
            }
        }
    }

    fn sizes(batches: &[Vec<String>]) -> Vec<usize> {
        batches.iter().map(Vec::len).collect()
    }

    #[tokio::test]
    async fn batches_are_bounded_in_lines() {
        let (all, broken) = batches((0..2500).map(|number| Ok(number.to_string())).collect()).await;
        assert_eq!((sizes(&all), broken), (vec![1000, 1000, 500], false));
        let in_order = all.concat().iter().zip(0..).all(|(line, number)| *line == number.to_string());
        assert!(in_order);
    }

    #[tokio::test]
    async fn batches_are_bounded_in_bytes() {
        let line = |bytes| Ok("x".repeat(bytes));
        let (all, _) = batches(vec![line(5 << 20), line(5 << 20), line(1), line(20 << 20), line(1)]).await;
        assert_eq!(sizes(&all), [1, 2, 1, 1]);
    }

    #[tokio::test]
    async fn what_stands_before_an_error_is_sent() {
        let broken = for_each_line("}".as_bytes(), |_| true).expect_err("not JSON");
        let (all, is_broken) = batches(vec![Ok("1".into()), Err(broken)]).await;
        assert_eq!((sizes(&all), is_broken), (vec![1], true));
    }
}
