use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, interval_at, timeout};

use super::body_error::BodyError;
use super::connections::Connections;

/// The unit of the memory budget: one permit is 1 KiB.
const KIB: usize = 1 << 10;
/// Time that a body waits for memory before the request is rejected as overloaded.
const PATIENCE: Duration = Duration::from_secs(5);
/// Interval at which a waiting body checks whether another is so far behind that it can be closed.
const LOOK: Duration = Duration::from_millis(250);

/// The memory that the bodies of all requests may use together.
pub(crate) struct Budget {
    free: Arc<Semaphore>,
    all_kib: usize,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        let all_kib = (bytes / KIB).clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self { free: Arc::new(Semaphore::new(all_kib)), all_kib })
    }
}

/// The memory that one request has acquired. It is released when the response is sent.
#[derive(Clone)]
pub(super) struct Held {
    budget: Arc<Budget>,
    connections: Connections,
    taken: Arc<Mutex<Vec<OwnedSemaphorePermit>>>,
}

impl Held {
    pub(super) fn new(budget: Arc<Budget>, connections: Connections) -> Self {
        Self { budget, connections, taken: Arc::default() }
    }

    /// Acquires memory for `bytes` additional bytes. Waiting bodies are served in order, each with its full amount.
    pub(super) async fn take(self, bytes: usize) -> Result<(), BodyError> {
        let kib = bytes.div_ceil(KIB).min(self.budget.all_kib);
        let permits = u32::try_from(kib).unwrap_or(u32::MAX);
        let acquire = self.budget.free.clone().acquire_many_owned(permits);
        let taken = timeout(PATIENCE, async {
            tokio::select! {
                biased;
                taken = acquire => taken.ok(),
                () = self.slow_bodies_give_way() => None,
            }
        });
        let permit = taken.await.ok().flatten().ok_or(BodyError::NoMemory)?;
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).push(permit);
        Ok(())
    }

    async fn slow_bodies_give_way(&self) {
        let mut look = interval_at(Instant::now() + LOOK, LOOK);
        loop {
            look.tick().await;
            self.connections.body_gives_way();
        }
    }
}
