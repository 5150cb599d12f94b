//! The state of one connection: what its client has to do next, and since when.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::{ListenerLimits, Times};

/// Minimum rate at which a client has to send or read once its time limit is used up, in bytes per second.
const LEAST_RATE: u32 = 64 << 10;

/// What the client of a connection has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Send another request; optional.
    Request,
    /// Send the rest of a request's head.
    Head,
    /// Wait until memory for its body is free.
    Memory,
    /// Send the rest of a request's body.
    Body,
    /// Read the response.
    Read,
}

impl Wanted {
    /// Returns the reason for closing a connection whose client does not do it, as in the metric.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Request => "idle",
            Self::Head => "slow-head",
            Self::Memory => "crowded",
            Self::Body => "slow-body",
            Self::Read => "unread",
        }
    }

    const fn time(self, times: &Times) -> Duration {
        match self {
            Self::Request => times.idle,
            Self::Head => times.head,
            Self::Memory | Self::Body => times.body,
            Self::Read => times.read,
        }
    }
}

/// The state of one connection, shared by its stream, its bodies and the listener.
#[derive(Debug)]
pub(super) struct Connection {
    bounds: ListenerLimits,
    state: Mutex<State>,
    close: Notify,
}

#[derive(Debug)]
struct State {
    /// What the client has to do, and since when. Progress moves this time forward. `None` while the client waits for the
    /// service.
    wanted: Option<(Wanted, Instant)>,
    /// Whether a request is in progress.
    answering: bool,
}

impl Connection {
    pub(super) fn new(bounds: ListenerLimits) -> Self {
        let state = State { wanted: Some((Wanted::Head, Instant::now())), answering: false };
        Self { bounds, state: Mutex::new(state), close: Notify::new() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the head of a request has arrived: the client now waits for the service.
    pub(super) fn answers(&self) {
        *self.state() = State { wanted: None, answering: true };
    }

    /// Records that the last byte of a response has been passed on for sending.
    pub(super) fn answered(&self) {
        let mut state = self.state();
        state.answering = false;
        if !matches!(state.wanted, Some((Wanted::Read, _))) {
            state.wanted = Some((Wanted::Request, Instant::now()));
        }
    }

    /// Records that a part of a body, or memory for it, has been awaited since `since`.
    pub(super) fn wants(&self, wanted: Wanted, since: Instant) {
        self.state().wanted = Some((wanted, since));
    }

    /// Records that a part of a body has arrived.
    pub(super) fn has_body(&self) {
        self.state().wanted = None;
    }

    /// Returns how long a client may be behind with a body.
    pub(super) fn body_time(&self) -> Duration {
        self.bounds.times.body
    }

    /// Records that bytes have arrived.
    pub(super) fn received(&self) {
        let mut state = self.state();
        if matches!(state.wanted, Some((Wanted::Request, _))) {
            state.wanted = Some((Wanted::Head, Instant::now()));
        }
    }

    /// Records that the client does not read the response.
    pub(super) fn is_unread(&self) {
        let mut state = self.state();
        if !matches!(state.wanted, Some((Wanted::Read, _))) {
            state.wanted = Some((Wanted::Read, Instant::now()));
        }
    }

    /// Records that the client has read part of the response.
    pub(super) fn has_read(&self, bytes: usize) {
        if let Some((Wanted::Read, since)) = &mut self.state().wanted {
            *since = caught_up(*since, bytes);
        }
    }

    /// Records that the client has read the whole response, or has it in its buffers.
    pub(super) fn has_read_all(&self) {
        let mut state = self.state();
        if matches!(state.wanted, Some((Wanted::Read, _))) {
            state.wanted = (!state.answering).then(|| (Wanted::Request, Instant::now()));
        }
    }

    /// Returns whether no request is in progress.
    pub(super) fn waits_for_a_request(&self) -> bool {
        matches!(self.state().wanted, Some((Wanted::Request | Wanted::Head, _)))
    }

    /// Returns what the client has to do, and for how long it has been behind with it.
    pub(super) fn behind(&self) -> Option<(Wanted, Duration)> {
        self.state().wanted.map(|(wanted, since)| (wanted, since.elapsed()))
    }

    /// Returns what the client has to do if its time limit has passed.
    pub(super) fn overdue(&self) -> Option<Wanted> {
        self.behind().filter(|(wanted, behind)| *behind > wanted.time(&self.bounds.times)).map(|(wanted, _)| wanted)
    }

    /// Closes the connection, and counts the reason.
    pub(super) fn close(&self, reason: &'static str) {
        // It is being closed, so it must not be chosen for closing again.
        self.state().wanted = None;
        self.close.notify_one();
        self.bounds.count_closed(reason);
    }

    /// Counts a body that arrived too slowly. The response reports this; the connection is not closed here.
    pub(super) fn count_slow_body(&self) {
        self.bounds.count_closed(Wanted::Body.reason());
    }

    /// Waits until the connection is to be closed.
    pub(super) async fn closed(&self) {
        self.close.notified().await;
    }
}

/// Returns since when a client is behind after it has transferred `bytes`. At the minimum rate its delay does not grow.
pub(super) fn caught_up(since: Instant, bytes: usize) -> Instant {
    let earned = Duration::from_secs(bytes as u64) / LEAST_RATE;
    (since + earned).min(Instant::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: ListenerLimits = ListenerLimits {
        listener: "test",
        connections: 1,
        times: Times {
            head: Duration::from_secs(1),
            body: Duration::from_secs(2),
            read: Duration::from_secs(3),
            idle: Duration::from_secs(4),
        },
    };

    fn ago(seconds: u64) -> Instant {
        Instant::now().checked_sub(Duration::from_secs(seconds)).expect("the machine has been up for longer")
    }

    #[test]
    fn what_is_done_counts_but_no_more_than_to_now() {
        let caught_up_with = |bytes| caught_up(ago(10), bytes).elapsed().as_secs_f64().round();
        assert_eq!(caught_up_with(1), 10.0, "an occasional byte is not enough");
        assert_eq!(caught_up_with(3 * LEAST_RATE as usize), 7.0);
        assert_eq!(caught_up_with(1 << 30), 0.0, "a fast start earns no credit for later");
    }

    #[test]
    fn each_step_has_its_time() {
        let connection = Connection::new(BOUNDS);
        assert_eq!(connection.overdue(), None);
        connection.state().wanted = Some((Wanted::Head, ago(2)));
        assert_eq!(connection.overdue(), Some(Wanted::Head));
        connection.answers();
        assert_eq!(connection.overdue(), None, "the client waits for the service now");
        connection.wants(Wanted::Body, ago(3));
        assert_eq!(connection.overdue(), Some(Wanted::Body));
        connection.has_body();
        connection.is_unread();
        connection.answered();
        assert!(!connection.waits_for_a_request(), "the response has not been read");
        connection.has_read_all();
        assert!(connection.waits_for_a_request());
        connection.received();
        assert!(matches!(connection.behind(), Some((Wanted::Head, _))));
    }
}
