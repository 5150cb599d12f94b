use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::BoxError;
use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep_until};

use super::body_error::BodyError;
use super::budget::Held;
use super::connection::{Connection, Wanted, caught_up};

/// Bodies up to this size do not count against the memory budget: the limit on connections bounds them too.
const SMALL_BYTES: usize = 64 << 10;

type Room = Pin<Box<dyn Future<Output = Result<(), BodyError>> + Send>>;

/// A request body. It acquires memory from the budget before it is read, and fails if the client is too slow.
pub(super) struct Received {
    body: Incoming,
    connection: Arc<Connection>,
    held: Held,
    /// The pending acquisition of memory.
    room: Option<Room>,
    /// When the body began to wait for memory.
    queued: Option<Instant>,
    /// Number of bytes for which memory is acquired or being acquired.
    allowed: usize,
    /// A frame that waits for memory.
    kept: Option<Frame<Bytes>>,
    bytes: usize,
    /// While waiting for the client: the start of the wait, moved back by the delay from earlier waits.
    waits: Option<Instant>,
    behind: Duration,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Received {
    pub(super) fn new(body: Incoming, connection: Arc<Connection>, held: Held) -> Self {
        let mut received = Self {
            connection,
            held,
            room: None,
            queued: None,
            allowed: SMALL_BYTES,
            kept: None,
            bytes: 0,
            waits: None,
            behind: Duration::ZERO,
            alarm: None,
            body,
        };
        // Acquires memory for the announced length in one step: two bodies with half of their memory each would deadlock.
        let announced = received.body.size_hint().exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        received.allow(announced.unwrap_or(0));
        received
    }

    /// Starts to acquire memory if `bytes` exceeds what is allowed so far.
    fn allow(&mut self, bytes: usize) {
        if bytes > self.allowed {
            // A body of unknown length acquires memory in steps.
            let more = (bytes - self.allowed).max(SMALL_BYTES);
            self.allowed = self.allowed.saturating_add(more);
            self.room = Some(Box::pin(self.held.clone().take(more)));
        }
    }

    /// Waits for the client. Ready once the client has been behind for longer than allowed.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<BodyError> {
        let now = Instant::now();
        let since = *self.waits.get_or_insert_with(|| now.checked_sub(self.behind).unwrap_or(now));
        self.connection.wants(Wanted::Body, since);
        let until = (since + self.connection.body_time()).into();
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if alarm.deadline() != until {
            alarm.as_mut().reset(until);
        }
        ready!(alarm.as_mut().poll(context));
        self.connection.has_body();
        self.connection.count_slow_body();
        Poll::Ready(BodyError::TooSlow)
    }

    fn note(&mut self, bytes: usize) {
        self.bytes += bytes;
        if let Some(since) = self.waits.take() {
            self.connection.has_body();
            self.behind = caught_up(since, bytes).elapsed();
        }
    }
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let Some(room) = self.room.as_mut() {
                let Poll::Ready(taken) = room.as_mut().poll(context) else {
                    // The connection may be closed to make room for a new one meanwhile.
                    let since = *self.queued.get_or_insert_with(Instant::now);
                    self.connection.wants(Wanted::Memory, since);
                    return Poll::Pending;
                };
                self.room = None;
                if self.queued.take().is_some() {
                    self.connection.has_body();
                }
                if let Err(no_body) = taken {
                    return Poll::Ready(Some(Err(no_body.into())));
                }
            }
            if let Some(frame) = self.kept.take() {
                return Poll::Ready(Some(Ok(frame)));
            }
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Pending => {
                    let no_body = ready!(self.wait(context));
                    return Poll::Ready(Some(Err(no_body.into())));
                }
                Poll::Ready(frame) => {
                    let bytes = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref().map(Bytes::len));
                    self.note(bytes.unwrap_or(0));
                    let Some(Ok(frame)) = frame else {
                        return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
                    };
                    self.kept = Some(frame);
                    let bytes = self.bytes;
                    self.allow(bytes);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.kept.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Does not include a kept frame. A frame is kept only within `poll_frame`, so no caller sees the difference.
        self.body.size_hint()
    }
}

/// A response body. When it is dropped, the connection waits for the next request.
pub(super) struct Sent {
    body: Body,
    connection: Arc<Connection>,
    _held: Held,
}

impl Sent {
    pub(super) fn new(body: Body, connection: Arc<Connection>, held: Held) -> Self {
        Self { body, connection, _held: held }
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.connection.answered();
    }
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
