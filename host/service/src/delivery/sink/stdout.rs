//! Writes every published entry to standard output, one line of JSON each.

use belfry_model::without_whitespace;
use belfry_store::RelayEntry;
use tokio::io::{AsyncWriteExt, Stdout, stdout};
use tokio::sync::mpsc;

use super::{Ack, SinkError};

/// Size of the buffer for lines, in bytes.
const BUFFER_BYTES: usize = 256 << 10;

pub(crate) struct StdoutSink {
    output: Stdout,
    lines: Vec<u8>,
    written: Vec<usize>,
    pub(super) acks: mpsc::UnboundedSender<Ack>,
}

impl StdoutSink {
    pub(super) fn new(acks: mpsc::UnboundedSender<Ack>) -> Self {
        Self { output: stdout(), lines: Vec::new(), written: Vec::new(), acks }
    }

    pub(super) async fn send(&mut self, number: usize, entry: &RelayEntry) -> Result<(), SinkError> {
        // An event may span several lines.
        let line = without_whitespace(&String::from_utf8_lossy(&entry.payload));
        self.lines.extend_from_slice(line.as_bytes());
        self.lines.push(b'\n');
        self.written.push(number);
        if self.lines.len() >= BUFFER_BYTES { self.flush().await } else { Ok(()) }
    }

    pub(super) async fn flush(&mut self) -> Result<(), SinkError> {
        let away = |error: std::io::Error| SinkError::Unavailable(format!("standard output: {error}"));
        self.output.write_all(&self.lines).await.map_err(away)?;
        self.output.flush().await.map_err(away)?;
        self.lines.clear();
        for number in self.written.drain(..) {
            // If the session is gone, the next one starts from the stored position.
            let _ = self.acks.send(Ack { number, result: Ok(()) });
        }
        Ok(())
    }
}
