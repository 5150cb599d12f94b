//! Asking a shadow what it would have told. On a thread of its own, with a bounded queue and a bounded share of time: what
//! does not fit is passed over and counted, and nobody waits.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use belfry_model::{MessageSettings, Outcome};

use crate::clock::now_ms;
use crate::comparison::{Made, project};
use crate::ingest::Incoming;
use crate::releases::trial::Candidate;

/// Events that wait for their turn.
const QUEUE: usize = 512;
/// After each event it rests this many times as long as it worked: it takes a quarter of a processor at most.
const REST: u32 = 3;
/// The longest rest.
const LONGEST_REST: Duration = Duration::from_secs(2);

/// Hands events to shadows. Cheap to clone; its thread ends with the last clone.
#[derive(Clone)]
pub(crate) struct Shadow {
    queue: SyncSender<Task>,
}

struct Task {
    candidate: Arc<Candidate>,
    event: Incoming,
    /// What the release made of it that serves.
    made: Made,
    took: Duration,
}

impl Shadow {
    pub(crate) fn start(messages: Arc<MessageSettings>) -> Self {
        let (queue, tasks) = sync_channel(QUEUE);
        let thread = thread::Builder::new().name("shadow".into());
        thread.spawn(move || work(&tasks, &messages)).expect("the system has threads to give");
        Self { queue }
    }

    /// Let a shadow project the event as well, if there is time.
    pub(super) fn offer(&self, candidate: &Arc<Candidate>, event: &Incoming, made: Made, took: Duration) {
        let task = Task { candidate: candidate.clone(), event: event.clone(), made, took };
        if self.queue.try_send(task).is_err() {
            candidate.note(|tally| tally.compared.passed_over += 1);
        }
    }
}

fn work(tasks: &Receiver<Task>, messages: &MessageSettings) {
    while let Ok(task) = tasks.recv() {
        let began = Instant::now();
        compare(task, messages);
        thread::sleep((began.elapsed() * REST).min(LONGEST_REST));
    }
}

fn compare(task: Task, messages: &MessageSettings) {
    let Task { candidate, event, made, took } = task;
    let release = &candidate.release;
    let began = Instant::now();
    let shadowed = match release.wants(&event.envelope) {
        true => project(release, &event.envelope, &event.event, messages),
        false => Ok(Vec::new()),
    };
    let shadow_took = began.elapsed();
    candidate.note(|tally| {
        tally.active.note(outcome(&made), count(&made), took);
        tally.candidate.note(outcome(&shadowed), count(&shadowed), shadow_took);
        tally.compared.note(event.envelope.event_id, &made, &shadowed, now_ms());
    });
}

fn outcome(made: &Made) -> Outcome {
    made.as_ref().err().copied().unwrap_or(Outcome::Notifications)
}

fn count(made: &Made) -> usize {
    made.as_ref().map_or(0, Vec::len)
}
