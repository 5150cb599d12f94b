//! Bodies with one envelope per line: they go through the pipeline in chunks, and the answers are streamed.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::vec::IntoIter;

use belfry_store::BatchChain;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use uuid::Uuid;

use super::{Posted, count_refused, count_taken, permits, turn, weight};
use crate::http::problem::Problem;
use crate::http::{ANSWER, Api};
use crate::incoming::{Arrival, Incoming, NotAnEvent};
use crate::pipeline::{InFlight, IngestOutcome};

/// Maximum number of lines of one body.
pub(super) const MAX_LINES: usize = 10_000;
/// Maximum size of a chunk, in lines and in bytes. A longer line is a separate chunk.
const CHUNK: usize = 250;
const CHUNK_BYTES: usize = 1 << 20;
/// Maximum number of chunks of one request in flight: one is projected while the previous one is committed.
const CHUNKS_AHEAD: usize = 3;

/// A nonempty line with its number, counted from 1.
type Line = (usize, Bytes);

/// Returns the nonempty lines of a body.
pub(super) fn lines(body: &Bytes) -> Vec<Line> {
    let numbered = body.split(|byte| *byte == b'\n').enumerate();
    let not_empty = numbered.filter(|(_, line)| !line.trim_ascii().is_empty());
    // One line more than allowed is enough to reject the body.
    not_empty.take(MAX_LINES + 1).map(|(number, line)| (number + 1, body.slice_ref(line.trim_ascii()))).collect()
}

fn chunks(lines: Vec<Line>) -> Vec<Vec<Line>> {
    let mut chunks: Vec<Vec<Line>> = Vec::new();
    let mut bytes = 0;
    for line in lines {
        bytes += line.1.len();
        match chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK && bytes <= CHUNK_BYTES => chunk.push(line),
            _ => {
                bytes = line.1.len();
                chunks.push(vec![line]);
            }
        }
    }
    chunks
}

/// The lines of one body that have not been answered yet.
pub(super) struct Answers {
    api: Api,
    /// Whether the answers omit the notifications and dead letters.
    silent: bool,
    chunks: IntoIter<Vec<Line>>,
    /// Keeps the chunks in order: after a failed chunk, none is committed.
    run: BatchChain,
    under_way: VecDeque<Chunk>,
    /// Why a chunk failed. All lines after it fail too.
    failed: Option<Problem>,
}

/// Lines that go through the pipeline together.
struct Chunk {
    lines: Vec<(usize, Result<Uuid, NotAnEvent>)>,
    in_flight: Result<InFlight, Problem>,
    _permit: OwnedSemaphorePermit,
}

impl Answers {
    pub(super) fn new(api: Api, lines: Vec<Line>, silent: bool) -> Self {
        let chunks = chunks(lines).into_iter();
        Self { api, silent, chunks, run: BatchChain::default(), under_way: VecDeque::new(), failed: None }
    }

    /// Returns whether every line has been answered.
    pub(super) fn are_complete(&self) -> bool {
        self.under_way.is_empty() && self.chunks.len() == 0
    }

    /// Returns the answers to the next chunk, and the problem if the chunk failed.
    pub(super) async fn next(&mut self) -> (Vec<u8>, Option<Problem>) {
        self.fill().await;
        if !self.under_way.is_empty() {
            return self.finish_first().await;
        }
        let Some(problem) = self.failed.clone() else { return (Vec::new(), None) };
        let mut text = Vec::new();
        for (number, _) in self.chunks.next().unwrap_or_default() {
            write(&mut text, number, not_taken(None, &problem));
        }
        (text, Some(problem))
    }

    /// Returns a stream of the first answers and all remaining ones. Lines of a failed chunk are answered with the problem.
    pub(super) fn rest(mut self, first: Vec<u8>) -> impl Stream<Item = Result<Vec<u8>, Infallible>> + use<> {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut text = first;
            loop {
                // A client that does not read must not hold permits that other requests wait for.
                while sender.capacity() == 0 && !self.under_way.is_empty() {
                    text.append(&mut self.finish_first().await.0);
                }
                if sender.send(text).await.is_err() || self.are_complete() {
                    return;
                }
                text = self.next().await.0;
            }
        });
        ReceiverStream::new(receiver).map(Ok)
    }

    /// Starts chunks while permits are available. Only the first chunk waits for permits: later ones could wait for permits
    /// that earlier chunks of the same request hold.
    async fn fill(&mut self) {
        while self.failed.is_none() && self.under_way.len() < CHUNKS_AHEAD {
            let Some(chunk) = self.chunks.as_slice().first() else { return };
            let events = chunk.iter().map(|(_, line)| weight(line)).sum();
            let permit = if self.under_way.is_empty() {
                turn(&self.api, events).await
            } else {
                let permit = self.api.in_flight.clone().try_acquire_many_owned(permits(&self.api, events));
                let Ok(permit) = permit else { return };
                Ok(permit)
            };
            match permit {
                Ok(permit) => self.begin(permit).await,
                Err(problem) => self.failed = Some(problem),
            }
        }
    }

    async fn begin(&mut self, permit: OwnedSemaphorePermit) {
        let chunk = self.chunks.next().unwrap_or_default();
        let mut lines = Vec::with_capacity(chunk.len());
        let mut events = Vec::with_capacity(chunk.len());
        for (number, line) in chunk {
            match Incoming::read(line, self.api.max_event_bytes, Arrival::Posted) {
                Ok(incoming) => {
                    lines.push((number, Ok(incoming.envelope.event_id)));
                    events.push(incoming);
                }
                Err(refused) => {
                    count_refused(&refused);
                    lines.push((number, Err(refused)));
                }
            }
        }
        let in_flight = match timeout(ANSWER, self.api.pipeline.begin(&self.run, events)).await {
            Ok(in_flight) => in_flight.map_err(Problem::from),
            Err(_) => Err(late()),
        };
        self.failed = in_flight.as_ref().err().cloned();
        self.under_way.push_back(Chunk { lines, in_flight, _permit: permit });
    }

    async fn finish_first(&mut self) -> (Vec<u8>, Option<Problem>) {
        let Some(Chunk { lines, in_flight, _permit }) = self.under_way.pop_front() else { return (Vec::new(), None) };
        let finished = match in_flight {
            Ok(in_flight) => match timeout(ANSWER, in_flight.finish()).await {
                Ok(fates) => fates.map_err(Problem::from),
                Err(_) => Err(late()),
            },
            Err(problem) => Err(problem),
        };
        let mut text = Vec::with_capacity(lines.len() * 256);
        let fates = match finished {
            Ok(fates) => fates,
            Err(problem) => {
                for (number, line) in lines {
                    write(&mut text, number, line.map_or_else(refused, |id| not_taken(Some(id), &problem)));
                }
                self.failed.get_or_insert_with(|| problem.clone());
                return (text, Some(problem));
            }
        };
        let positions = self.positions(&lines, &fates).await;
        let mut fates = fates.into_iter();
        for (number, line) in lines {
            let posted = line.map_or_else(refused, |event_id| {
                let posted = taken(event_id, fates.next().expect("a fate for every event"));
                Posted { position: posted.position.or_else(|| positions.get(&event_id).copied()), ..posted }
            });
            write(&mut text, number, if self.silent { posted.silent() } else { posted });
        }
        (text, None)
    }

    /// Returns the positions of the duplicates.
    async fn positions(
        &self,
        lines: &[(usize, Result<Uuid, NotAnEvent>)],
        fates: &[IngestOutcome],
    ) -> HashMap<Uuid, i64> {
        let ids = lines.iter().filter_map(|(_, line)| line.as_ref().ok());
        let known = ids.zip(fates).filter(|(_, fate)| matches!(fate, IngestOutcome::Duplicate)).map(|(id, _)| *id);
        let known: Vec<Uuid> = known.collect();
        if known.is_empty() {
            return HashMap::new();
        }
        self.api.store.positions_of(&known).await.unwrap_or_else(|error| {
            // The answer is complete without the position.
            tracing::warn!(%error, "cannot read the positions of duplicate events");
            HashMap::new()
        })
    }
}

fn write(text: &mut Vec<u8>, number: usize, posted: Posted) {
    let posted = Posted { line: Some(number), ..posted };
    serde_json::to_writer(&mut *text, &posted).expect("strings and numbers serialize to JSON");
    text.push(b'\n');
}

fn late() -> Problem {
    Problem::overloaded("the events were not committed in time; send them again, retrying is safe")
}

fn not_taken(event_id: Option<Uuid>, problem: &Problem) -> Posted {
    Posted { problem: Some(problem.clone()), ..Posted::without_effect(event_id, "overloaded") }
}

fn refused(refused: NotAnEvent) -> Posted {
    let status = if matches!(refused, NotAnEvent::TooLarge { .. }) { "too-large" } else { "malformed" };
    let event_id = refused.event_id();
    Posted { problem: Some(refused.into()), ..Posted::without_effect(event_id, status) }
}

fn taken(event_id: Uuid, taken: IngestOutcome) -> Posted {
    count_taken(&taken);
    match taken {
        IngestOutcome::Accepted(accepted) => Posted::accepted(event_id, accepted),
        IngestOutcome::Duplicate => Posted::without_effect(Some(event_id), "duplicate"),
        IngestOutcome::Conflict => {
            let problem = Some(Problem::conflict(event_id));
            Posted { problem, ..Posted::without_effect(Some(event_id), "conflict") }
        }
        IngestOutcome::Unstorable(reason) => {
            let problem = Some(Problem::unstorable(event_id, &reason));
            Posted { problem, ..Posted::without_effect(Some(event_id), "malformed") }
        }
        IngestOutcome::Failed => {
            let problem = Some(Problem::failed(event_id));
            Posted { problem, ..Posted::without_effect(Some(event_id), "failed") }
        }
        IngestOutcome::Unsendable(unsendable) => {
            let problem = Some(Problem::unsendable(event_id, &unsendable));
            Posted { problem, ..Posted::without_effect(Some(event_id), unsendable.outcome()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_bounded_in_lines_and_in_bytes() {
        let body = Bytes::from("x\n\n".repeat(600));
        assert_eq!(chunks(lines(&body)).iter().map(Vec::len).collect::<Vec<_>>(), [250, 250, 100]);
        let body = Bytes::from(format!("{}\n", "x".repeat(400 << 10)).repeat(3) + &"x".repeat(2 << 20) + "\nx\n");
        assert_eq!(chunks(lines(&body)).iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1, 1]);
    }
}
