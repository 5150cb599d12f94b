use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::oneshot;

/// The error for a call that found the queue full. Try again later.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the guests' queue is full")]
pub struct Overloaded;

/// Niceness of threads that yield to live events.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

type Task = Box<dyn FnOnce() + Send>;

/// A pool of dedicated threads that run guests, so that guests never block the service. No release can occupy all of
/// its threads, so a rule that is slow at every event does not block the other rules.
///
/// The threads end when the last clone is dropped and the queue is empty.
#[derive(Clone)]
pub struct Executor {
    handle: Arc<Handle>,
}

struct Handle {
    queue: Arc<Queue>,
}

struct Queue {
    state: Mutex<State>,
    ready: Condvar,
    capacity: usize,
    per_release: usize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(i64, Task)>,
    /// The releases that busy threads are running, one entry per thread.
    running: Vec<i64>,
    closed: bool,
}

impl Executor {
    /// Starts `threads` threads (at least two) with a queue for up to `capacity` calls.
    pub fn new(threads: usize, capacity: usize) -> Self {
        Self::start("guest", threads, capacity, || {})
    }

    /// Starts an executor for calls that no live event waits for. They get the processor time that live events leave.
    pub fn beside(threads: usize, capacity: usize) -> Self {
        Self::start("beside", threads, capacity, give_way)
    }

    fn start(name: &str, threads: usize, capacity: usize, at_start: fn()) -> Self {
        let threads = threads.max(2);
        let queue =
            Arc::new(Queue { state: Mutex::default(), ready: Condvar::new(), capacity, per_release: threads - 1 });
        for number in 0..threads {
            let queue = queue.clone();
            let work = move || {
                at_start();
                queue.work();
            };
            let name = format!("{name}-{number}");
            thread::Builder::new().name(name).spawn(work).expect("the system can start a thread");
        }
        Self { handle: Arc::new(Handle { queue }) }
    }

    /// Runs `call` on behalf of a release and returns its result.
    pub async fn run<T: Send + 'static>(
        &self,
        release_id: i64,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Overloaded> {
        let (sender, receiver) = oneshot::channel();
        let task = move || {
            // A caller that is gone no longer needs the result.
            if !sender.is_closed() {
                let _ = sender.send(call());
            }
        };
        self.handle.queue.push(release_id, Box::new(task))?;
        receiver.await.map_err(|_| Overloaded)
    }
}

/// Lowers the priority of this thread. Systems other than Linux would lower the priority of the whole process.
fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::warn!(%error, "cannot lower the priority of replays; they run at the priority of live events");
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.ready.notify_all();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, release_id: i64, task: Task) -> Result<(), Overloaded> {
        let mut state = self.lock();
        // One release may fill only half of the queue, so that a slow release cannot block the others.
        let of_release = || state.waiting.iter().filter(|(waiting, _)| *waiting == release_id).count();
        if state.waiting.len() >= self.capacity
            || (state.waiting.len() >= self.capacity / 2 && of_release() >= self.capacity / 2)
        {
            return Err(Overloaded);
        }
        state.waiting.push_back((release_id, task));
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    fn work(&self) {
        while let Some((release_id, task)) = self.next() {
            // A panic in the host's code around a guest must not end the thread; the caller gets an error because its
            // result is missing.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(task));
            let mut state = self.lock();
            if let Some(place) = state.running.iter().position(|running| *running == release_id) {
                state.running.swap_remove(place);
            }
            // A call of this release may have been skipped because the release had its maximum number of threads.
            if !state.waiting.is_empty() {
                self.ready.notify_one();
            }
        }
    }

    fn next(&self) -> Option<(i64, Task)> {
        let mut state = self.lock();
        loop {
            let State { waiting, running, .. } = &mut *state;
            let busy = |release: i64| running.iter().filter(|running| **running == release).count();
            if let Some(place) = waiting.iter().position(|(release, _)| busy(*release) < self.per_release) {
                let (release_id, task) = waiting.remove(place)?;
                running.push(release_id);
                return Some((release_id, task));
            }
            if state.closed && state.waiting.is_empty() {
                return None;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
