//! What is known of one connection: what its client has to do next, and since when.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::{Bounds, Times};

/// Bytes a second that a client has to send or to read at least, once its time is over.
const LEAST_RATE: u32 = 64 << 10;

/// What a client has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Send another request, or not.
    Request,
    /// Send the rest of a request's head.
    Head,
    /// Wait until other bodies leave memory to its own.
    Memory,
    /// Send the rest of a request's body.
    Body,
    /// Read what was sent.
    Read,
}

impl Wanted {
    /// Why a connection is closed whose client does not do it.
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

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    bounds: Bounds,
    state: Mutex<State>,
    close: Notify,
}

#[derive(Debug)]
struct State {
    /// What the client has to do, and since when it has been due; later by what it has done since. None while it waits for
    /// us.
    wanted: Option<(Wanted, Instant)>,
    /// Whether a request is being answered.
    answering: bool,
}

impl Connection {
    pub(super) fn new(bounds: Bounds) -> Self {
        let state = State { wanted: Some((Wanted::Head, Instant::now())), answering: false };
        Self { bounds, state: Mutex::new(state), close: Notify::new() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request's head is here: its client waits for us.
    pub(super) fn answers(&self) {
        *self.state() = State { wanted: None, answering: true };
    }

    /// The last byte of an answer is on its way.
    pub(super) fn answered(&self) {
        let mut state = self.state();
        state.answering = false;
        if !matches!(state.wanted, Some((Wanted::Read, _))) {
            state.wanted = Some((Wanted::Request, Instant::now()));
        }
    }

    /// A part of a body is wanted, or memory for it, and has been since then.
    pub(super) fn wants(&self, wanted: Wanted, since: Instant) {
        self.state().wanted = Some((wanted, since));
    }

    /// A part of a body is here.
    pub(super) fn has_body(&self) {
        self.state().wanted = None;
    }

    /// How long a client may be behind with a body.
    pub(super) fn body_time(&self) -> Duration {
        self.bounds.times.body
    }

    /// Bytes came.
    pub(super) fn received(&self) {
        let mut state = self.state();
        if matches!(state.wanted, Some((Wanted::Request, _))) {
            state.wanted = Some((Wanted::Head, Instant::now()));
        }
    }

    /// The client does not read what was sent.
    pub(super) fn is_unread(&self) {
        let mut state = self.state();
        if !matches!(state.wanted, Some((Wanted::Read, _))) {
            state.wanted = Some((Wanted::Read, Instant::now()));
        }
    }

    /// The client has read some of it.
    pub(super) fn has_read(&self, bytes: usize) {
        if let Some((Wanted::Read, since)) = &mut self.state().wanted {
            *since = caught_up(*since, bytes);
        }
    }

    /// The client has read, or will find in its own buffers, all of it.
    pub(super) fn has_read_all(&self) {
        let mut state = self.state();
        if matches!(state.wanted, Some((Wanted::Read, _))) {
            state.wanted = (!state.answering).then(|| (Wanted::Request, Instant::now()));
        }
    }

    /// Whether no request is under way.
    pub(super) fn waits_for_a_request(&self) -> bool {
        matches!(self.state().wanted, Some((Wanted::Request | Wanted::Head, _)))
    }

    /// What the client has to do, and for how long it has not done it.
    pub(super) fn behind(&self) -> Option<(Wanted, Duration)> {
        self.state().wanted.map(|(wanted, since)| (wanted, since.elapsed()))
    }

    /// What the client has had to do for longer than it may.
    pub(super) fn overdue(&self) -> Option<Wanted> {
        self.behind().filter(|(wanted, behind)| *behind > wanted.time(&self.bounds.times)).map(|(wanted, _)| wanted)
    }

    /// Close it, and count why.
    pub(super) fn close(&self, reason: &'static str) {
        // It is on its way out, so it need not be closed again.
        self.state().wanted = None;
        self.close.notify_one();
        self.bounds.count_closed(reason);
    }

    /// A body came too slowly, and that is the answer.
    pub(super) fn count_slow_body(&self) {
        self.bounds.count_closed(Wanted::Body.reason());
    }

    /// Wait until it is to be closed.
    pub(super) async fn closed(&self) {
        self.close.notified().await;
    }
}

/// Since when a client is behind after it has done something: at the least rate it is never more behind than before.
pub(super) fn caught_up(since: Instant, bytes: usize) -> Instant {
    let earned = Duration::from_secs(bytes as u64) / LEAST_RATE;
    (since + earned).min(Instant::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
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
        assert_eq!(caught_up_with(1), 10.0, "a byte now and then is not enough");
        assert_eq!(caught_up_with(3 * LEAST_RATE as usize), 7.0);
        assert_eq!(caught_up_with(1 << 30), 0.0, "a fast beginning is no credit for later");
    }

    #[test]
    fn each_step_has_its_time() {
        let connection = Connection::new(BOUNDS);
        assert_eq!(connection.overdue(), None);
        connection.state().wanted = Some((Wanted::Head, ago(2)));
        assert_eq!(connection.overdue(), Some(Wanted::Head));
        connection.answers();
        assert_eq!(connection.overdue(), None, "now the client waits for us");
        connection.wants(Wanted::Body, ago(3));
        assert_eq!(connection.overdue(), Some(Wanted::Body));
        connection.has_body();
        connection.is_unread();
        connection.answered();
        assert!(!connection.waits_for_a_request(), "the answer is not read");
        connection.has_read_all();
        assert!(connection.waits_for_a_request());
        connection.received();
        assert!(matches!(connection.behind(), Some((Wanted::Head, _))));
    }
}
