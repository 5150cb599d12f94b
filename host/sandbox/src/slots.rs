//! Room in the instance pools for guests that no live event waits for.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use belfry_model::sabotaged;

/// The caller that waits for a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The sender of an event, which waits for the result. As many of these calls run at once as the executor of live
    /// events has threads, and the pools always have room for them.
    Live,
    /// A caller that can wait: a replay, a shadow, a sample that is checked again, an upload that is tested. These
    /// callers share the rest of the pools and wait for each other.
    Beside,
}

impl Caller {
    /// Returns the maximum number of attempts of a call whose failure is the host's fault. Each attempt has twice the
    /// time of the one before.
    pub(crate) const fn attempts(self) -> u32 {
        match self {
            Self::Live => 3,
            // Live events may keep all processors busy for seconds.
            Self::Beside => 7,
        }
    }
}

/// The instances that are not reserved for live events.
pub(crate) struct Slots {
    free: Mutex<usize>,
    freed: Condvar,
}

/// Room for one instance, released when this is dropped.
pub(crate) struct Slot {
    slots: Arc<Slots>,
}

impl Slots {
    pub(crate) fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { free: Mutex::new(count), freed: Condvar::new() })
    }

    /// Waits for room, if the caller needs any. Every call of a guest ends, so this wait does too.
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
        let held = slots.take(Caller::Beside).expect("a free slot");
        assert!(slots.take(Caller::Live).is_none(), "a live caller needs no slot");
        let (taken, waits) = channel();
        let waiting = slots.clone();
        let thread = thread::spawn(move || {
            let slot = waiting.take(Caller::Beside);
            taken.send(slot.is_some()).expect("the test waits");
        });
        assert!(waits.recv_timeout(Duration::from_millis(50)).is_err(), "the only slot is taken");
        drop(held);
        assert_eq!(waits.recv_timeout(Duration::from_secs(5)), Ok(true));
        thread.join().expect("the thread ended");
        assert!(slots.take(Caller::Beside).is_some(), "the slot was released");
    }
}
