//! Room in the pools of instances for guests that no live event waits for.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use belfry_model::sabotaged;

/// Who waits for a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A sender, for its event. As many of these run at once as the executor of live events has threads, and the pools
    /// always have room for them.
    Live,
    /// Someone with patience: a replay, a shadow, a sample that is checked again, an upload that is tried. These share the
    /// rest of the pools and wait for each other there.
    Beside,
}

impl Caller {
    /// How often a call is tried when its failure is the host's fault. Each try has twice the time of the one before.
    pub(crate) const fn attempts(self) -> u32 {
        match self {
            Self::Live => 3,
            // Live events may keep all processors busy for seconds.
            Self::Beside => 7,
        }
    }
}

/// The instances that are not for live events.
pub(crate) struct Slots {
    free: Mutex<usize>,
    freed: Condvar,
}

/// Room for one instance, until it is dropped.
pub(crate) struct Slot {
    slots: Arc<Slots>,
}

impl Slots {
    pub(crate) fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { free: Mutex::new(count), freed: Condvar::new() })
    }

    /// Wait for room where the caller needs any. A guest's call has an end, and so has this wait.
    pub(crate) fn take(self: &Arc<Self>, caller: Caller) -> Option<Slot> {
        if caller == Caller::Live || sabotaged("live-events-first") {
            return None;
        }
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Some(Slot { slots: self.clone() })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *self.slots.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.slots.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_has_patience_waits_and_who_is_live_does_not() {
        let slots = Slots::new(1);
        let held = slots.take(Caller::Beside).expect("room");
        assert!(slots.take(Caller::Live).is_none(), "its room is elsewhere");
        let (taken, waits) = channel();
        let waiting = slots.clone();
        let thread = thread::spawn(move || {
            let slot = waiting.take(Caller::Beside);
            taken.send(slot.is_some()).expect("the test waits");
        });
        assert!(waits.recv_timeout(Duration::from_millis(50)).is_err(), "the only room is taken");
        drop(held);
        assert_eq!(waits.recv_timeout(Duration::from_secs(5)), Ok(true));
        thread.join().expect("it ended");
        assert!(slots.take(Caller::Beside).is_some(), "it was given back");
    }
}
