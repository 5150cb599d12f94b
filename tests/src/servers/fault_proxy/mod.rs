mod connection;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use connection::{connection, contains, reached};

use super::ports::free_port;

/// A direction through the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From client to server.
    ToServer,
    /// From server to client.
    ToClient,
}

/// A proxy in front of a server on 127.0.0.1 that forwards connections and injects network faults.
///
/// It runs on its own thread, so a test that blocks does not block it. A fault that waits for a condition happens once,
/// on the first connection that meets the condition; `tripped` counts these.
pub struct FaultProxy {
    port: u16,
    shared: Arc<Shared>,
    /// Taken on drop, since one runtime must not wait for another to shut down.
    runtime: Option<Runtime>,
}

struct Shared {
    server: watch::Sender<SocketAddr>,
    weather: watch::Sender<Weather>,
    /// Whether new connections are accepted; set after each change of `Weather::refuses`.
    listens: watch::Sender<bool>,
    trap: Mutex<Option<Trap>>,
    tripped: watch::Sender<u64>,
}

#[derive(Clone, Default)]
struct Weather {
    /// Incremented by each `cut` and `reset`: connections that began before are reset.
    cuts: u64,
    /// Incremented by each `silence`: connections that began before forward nothing more.
    silences: u64,
    refuses: bool,
    hangs: bool,
    delay: Duration,
}

#[derive(Clone)]
enum Trap {
    After { direction: Direction, bytes: usize },
    BeforeAnswer { asked: Vec<u8>, answer: Vec<u8> },
}

impl FaultProxy {
    /// Starts a proxy in front of the server at this port.
    ///
    /// # Errors
    /// Returns an error if no port is free.
    pub async fn start(server_port: u16) -> Result<Self> {
        Self::start_at(free_port()?, server_port).await
    }

    /// Starts a proxy that listens on a given port.
    ///
    /// # Errors
    /// Returns an error if the port is taken.
    pub async fn start_at(port: u16, server_port: u16) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let shared = Arc::new(Shared {
            server: watch::Sender::new((Ipv4Addr::LOCALHOST, server_port).into()),
            weather: watch::Sender::default(),
            listens: watch::Sender::new(false),
            trap: Mutex::default(),
            tripped: watch::Sender::default(),
        });
        let accepting = runtime.spawn(accept(shared.clone(), port));
        let mut listens = shared.listens.subscribe();
        let proxy = Self { port, shared, runtime: Some(runtime) };
        tokio::select! {
            open = listens.wait_for(|listens| *listens) => { open?; }
            // The task ends only if it cannot listen.
            ended = accepting => ended?.with_context(|| format!("a proxy cannot listen on port {port}"))?,
        }
        Ok(proxy)
    }

    /// Returns a free port, for a server that needs its proxy's port before the proxy gets the server's.
    ///
    /// # Errors
    /// Returns an error if no port is free.
    pub fn free_port() -> Result<u16> {
        free_port()
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Forwards new connections to the server at another port.
    pub fn lead_to(&self, server_port: u16) {
        self.shared.server.send_replace((Ipv4Addr::LOCALHOST, server_port).into());
    }

    /// Resets all connections and refuses new ones, until `heal`.
    ///
    /// # Errors
    /// Returns an error if the proxy has ended.
    pub async fn cut(&self) -> Result<()> {
        self.change(|weather| {
            weather.cuts += 1;
            weather.refuses = true;
        });
        self.listens_is(false).await
    }

    /// Resets all connections; new ones are accepted.
    pub fn reset(&self) {
        self.change(|weather| weather.cuts += 1);
    }

    /// Forwards everything again. Connections that hung continue.
    ///
    /// # Errors
    /// Returns an error if another process has taken its port.
    pub async fn heal(&self) -> Result<()> {
        *self.shared.trap() = None;
        self.change(|weather| {
            *weather = Weather { cuts: weather.cuts, silences: weather.silences, ..Weather::default() };
        });
        self.listens_is(true).await
    }

    /// Delays all data by this duration, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.change(|weather| weather.delay = delay);
    }

    /// Accepts connections and keeps existing ones open, but forwards nothing, until `heal`.
    pub fn hang(&self) {
        self.change(|weather| weather.hangs = true);
    }

    /// Keeps existing connections open, but never forwards anything on them again; new ones work. Clients see the same
    /// when a server disappears with its machine and another takes over its address.
    pub fn silence(&self) {
        self.change(|weather| weather.silences += 1);
    }

    /// Forwards `bytes` more bytes in this direction, counted over all connections, then resets the connection that
    /// carried the last of them.
    pub fn reset_after(&self, direction: Direction, bytes: usize) {
        *self.shared.trap() = Some(Trap::After { direction, bytes });
    }

    /// Once a client has sent `asked`, which still reaches the server: waits for the server's answer, drops it, and
    /// resets the client's connection. The server has executed the request, and the client cannot know that. Cannot see
    /// into TLS.
    ///
    /// The answer ends at the first silence. Where earlier requests may still be unanswered, specify what the answer
    /// must contain with [`Self::cut_before_answer_with`].
    pub fn cut_before_answer(&self, asked: &[u8]) {
        self.cut_before_answer_with(asked, b"");
    }

    /// Does the same; the answer is complete when the server's bytes contain `answer`. PostgreSQL answers `COMMIT` with
    /// `COMMIT`.
    pub fn cut_before_answer_with(&self, asked: &[u8], answer: &[u8]) {
        *self.shared.trap() = Some(Trap::BeforeAnswer { asked: asked.to_owned(), answer: answer.to_owned() });
    }

    /// Returns the number of faults that waited for a condition and have happened.
    pub fn tripped(&self) -> u64 {
        *self.shared.tripped.borrow()
    }

    /// Waits until `count` of these faults have happened.
    ///
    /// # Errors
    /// Returns an error if they have not within `patience`.
    pub async fn wait_until_tripped(&self, count: u64, patience: Duration) -> Result<()> {
        let mut tripped = self.shared.tripped.subscribe();
        match tokio::time::timeout(patience, tripped.wait_for(|tripped| *tripped >= count)).await {
            Ok(reached) => reached.map(|_| ()).context("the proxy has ended"),
            Err(_) => bail!("{} faults, not {count}, happened within {patience:?}", self.tripped()),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Weather)) {
        self.shared.weather.send_modify(change);
    }

    async fn listens_is(&self, wanted: bool) -> Result<()> {
        let mut listens = self.shared.listens.subscribe();
        let reached = tokio::time::timeout(Duration::from_secs(10), listens.wait_for(|listens| *listens == wanted));
        reached.await.with_context(|| format!("the proxy cannot listen on port {} again", self.port))??;
        Ok(())
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn trap(&self) -> MutexGuard<'_, Option<Trap>> {
        self.trap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_tripped(&self) {
        self.tripped.send_modify(|tripped| *tripped += 1);
    }

    /// Returns how many of these bytes may pass, and whether the connection is reset after them.
    fn allowed(&self, now: Direction, length: usize) -> (usize, bool) {
        let mut trap = self.trap();
        match trap.as_mut() {
            Some(Trap::After { direction, bytes }) if *direction == now => {
                if length < *bytes {
                    *bytes -= length;
                    return (length, false);
                }
                let rest = *bytes;
                *trap = None;
                (rest, true)
            }
            _ => (length, false),
        }
    }

    /// Returns what the server's answer must contain, if the client has just sent the awaited request.
    fn asked(&self, recent: &[u8]) -> Option<Vec<u8>> {
        let mut trap = self.trap();
        match trap.as_ref() {
            Some(Trap::BeforeAnswer { asked, answer }) if contains(recent, asked) => {
                let answer = answer.clone();
                *trap = None;
                Some(answer)
            }
            _ => None,
        }
    }

    /// Returns how many of the preceding bytes are needed to recognize the awaited request.
    fn remembered(&self) -> usize {
        match self.trap().as_ref() {
            Some(Trap::BeforeAnswer { asked, .. }) => asked.len().saturating_sub(1),
            _ => 0,
        }
    }
}

async fn accept(shared: Arc<Shared>, port: u16) -> Result<()> {
    let mut weather = shared.weather.subscribe();
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        shared.listens.send_replace(true);
        loop {
            tokio::select! {
                biased;
                _ = reached(&mut weather, |weather| weather.refuses) => break,
                accepted = listener.accept() => {
                    if let Ok((client, _)) = accepted {
                        tokio::spawn(connection(shared.clone(), client));
                    }
                }
            }
        }
        // Without a listener, the system itself refuses connections, and resets those not yet accepted.
        drop(listener);
        shared.listens.send_replace(false);
        if !reached(&mut weather, |weather| !weather.refuses).await {
            return Ok(());
        }
    }
}
