//! A listener that no client can block. Each step of a client has a time limit, connections and memory are bounded, and at
//! the limit the client that is furthest behind is disconnected in favor of a new one.

mod body;
mod body_error;
mod budget;
mod connection;
mod connections;
mod stream;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use body::{Received, Sent};
pub(super) use body_error::BodyError;
pub(crate) use budget::Budget;
use budget::Held;
use connection::Connection;
use connections::{Connections, Place};
use stream::Watched;

/// Size of a connection's receive buffer and of its send buffer, in bytes; also the maximum size of a request's head.
const BUFFER_BYTES: usize = 64 << 10;
/// Interval at which the time limits of connections are checked.
const LOOK: Duration = Duration::from_millis(250);
/// Time that a new connection waits for a place before it is closed.
const PLACE: Duration = Duration::from_secs(5);
/// Pause after the system failed to accept a connection, for example because it is out of file descriptors.
const REFUSED: Duration = Duration::from_millis(20);

/// The limits of a listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListenerLimits {
    /// The listener's name in metrics.
    pub(crate) listener: &'static str,
    pub(crate) connections: usize,
    pub(crate) times: Times,
}

impl ListenerLimits {
    fn count_closed(&self, reason: &'static str) {
        let listener = self.listener;
        metrics::counter!("belfry_connections_closed_total", "listener" => listener, "reason" => reason).increment(1);
    }
}

/// The time limits of a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// To send the head of a request.
    pub(crate) head: Duration,
    /// To send a body, beyond the time that it takes at the minimum rate.
    pub(crate) body: Duration,
    /// To read a response, beyond the time that it takes at the minimum rate.
    pub(crate) read: Duration,
    /// To send another request on a connection.
    pub(crate) idle: Duration,
}

/// Serves requests until the service stops, and then finishes the requests in progress.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    bounds: ListenerLimits,
    budget: Arc<Budget>,
    stopping: CancellationToken,
) {
    let connections = Connections::new(bounds);
    let mut open = JoinSet::new();
    let mut look = interval(LOOK);
    loop {
        tokio::select! {
            accepted = accept(&listener, &bounds.times) => match accepted {
                Ok((stream, peer)) => {
                    let Some(place) = place(&bounds, &connections, &mut open).await else { continue };
                    let serving = Serving {
                        router: router.clone(),
                        budget: budget.clone(),
                        connections: connections.clone(),
                        stopping: stopping.clone(),
                    };
                    open.spawn(serving.connection(stream, peer, place));
                }
                Err(error) => {
                    tracing::warn!(listener = bounds.listener, %error, "cannot accept a connection");
                    connections.give_way();
                    tokio::time::sleep(REFUSED).await;
                }
            },
            _ = look.tick() => connections.close_overdue(),
            Some(_) = open.join_next() => {}
            () = stopping.cancelled() => break,
        }
    }
    // Accept no more connections, and free the address.
    drop(listener);
    loop {
        tokio::select! {
            _ = look.tick() => connections.close_overdue(),
            ended = open.join_next() => if ended.is_none() { return },
        }
    }
}

/// Accepts the next connection.
///
/// A client that disappears without closing its connection, for example because its network is down, acknowledges no data.
/// By default the system keeps such a connection for 15 minutes, and a quiet feed would occupy its place all that time. The
/// limit set here exceeds the time limits for reading and idling, which apply to clients that acknowledge but do not read.
async fn accept(listener: &TcpListener, times: &Times) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = listener.accept().await?;
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(times.read + times.idle))?;
    Ok((stream, peer))
}

/// Returns a place for a new connection. If none is free, closes the connection that is furthest behind. If none is behind,
/// all of them are being answered, and the new connection waits for up to [`PLACE`].
async fn place(bounds: &ListenerLimits, connections: &Connections, open: &mut JoinSet<()>) -> Option<Place> {
    let until = Instant::now() + PLACE;
    loop {
        if let Some(place) = connections.place() {
            return Some(place);
        }
        connections.give_way();
        if Instant::now() > until {
            bounds.count_closed("full");
            return None;
        }
        let _ = timeout(LOOK, open.join_next()).await;
        connections.close_overdue();
    }
}

/// The shared state that a connection needs. Cheap to clone.
#[derive(Clone)]
struct Serving {
    router: Router,
    budget: Arc<Budget>,
    connections: Connections,
    stopping: CancellationToken,
}

impl Serving {
    async fn connection(self, stream: TcpStream, peer: SocketAddr, place: Place) {
        let connection = place.connection().clone();
        let service = service_fn(|request| self.clone().answer(request, peer, connection.clone()));
        let stream = TokioIo::new(Watched::new(stream, connection.clone()));
        let mut builder = http1::Builder::new();
        // hyper's timeout is off: `Connection` keeps its own times, which distinguish idle clients from slow ones.
        builder.header_read_timeout(None).max_buf_size(BUFFER_BYTES);
        let mut served = std::pin::pin!(builder.serve_connection(stream, service));
        tokio::select! {
            // An error means that the client disconnected or does not speak HTTP. There is nothing to do.
            _ = served.as_mut() => return,
            () = connection.closed() => return,
            () = self.stopping.cancelled() => {}
        }
        if connection.waits_for_a_request() {
            return;
        }
        served.as_mut().graceful_shutdown();
        tokio::select! {
            _ = served => {}
            () = connection.closed() => {}
        }
    }

    async fn answer(
        mut self,
        request: Request<Incoming>,
        peer: SocketAddr,
        connection: Arc<Connection>,
    ) -> Result<Response<Sent>, Infallible> {
        connection.answers();
        let held = Held::new(self.budget, self.connections);
        let received = |body| Body::new(Received::new(body, connection.clone(), held.clone()));
        let mut request = request.map(received);
        request.extensions_mut().insert(ConnectInfo(peer));
        let response = self.router.call(request).await?;
        connection.answers();
        Ok(response.map(|body| Sent::new(body, connection, held)))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_must_acknowledge_what_is_sent_to_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("its address");
        let second = Duration::from_secs(1);
        let times = Times { head: second, body: second, read: second * 30, idle: second * 90 };
        let (client, accepted) = tokio::join!(TcpStream::connect(address), accept(&listener, &times));
        let (_client, (stream, _)) = (client.expect("a client"), accepted.expect("its connection"));
        let within = socket2::SockRef::from(&stream).tcp_user_timeout().expect("the option");
        assert_eq!(within, Some(second * 120));
    }
}
