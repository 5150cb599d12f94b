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

/// A way through the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From client to server.
    ToServer,
    /// From server to client.
    ToClient,
}

/// Stands in front of a server on 127.0.0.1, forwards, and does to connections what networks do.
///
/// It runs on a thread of its own, so a test that blocks does not block it. A fault that waits for something on a
/// connection happens once, on the first connection where it comes about; `tripped` counts those.
pub struct FaultProxy {
    port: u16,
    shared: Arc<Shared>,
    /// Taken when this is dropped, since one runtime must not wait for the end of another.
    runtime: Option<Runtime>,
}

struct Shared {
    server: watch::Sender<SocketAddr>,
    weather: watch::Sender<Weather>,
    /// Whether new connections are let in; follows what is wanted.
    listens: watch::Sender<bool>,
    trap: Mutex<Option<Trap>>,
    tripped: watch::Sender<u64>,
}

#[derive(Clone, Default)]
struct Weather {
    /// Raised by each `cut`: connections that began before are reset.
    cuts: u64,
    /// Raised by each `silence`: connections that began before forward nothing any more.
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
    /// Start one in front of the server at this port.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start(server_port: u16) -> Result<Self> {
        Self::start_at(free_port()?, server_port).await
    }

    /// The same with a given port of its own.
    ///
    /// # Errors
    /// If the port is taken.
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
            // It ends only if it cannot listen.
            ended = accepting => ended?.with_context(|| format!("a proxy cannot listen on port {port}"))?,
        }
        Ok(proxy)
    }

    /// A free port, for a server that has to know its proxy's port before the proxy knows the server's.
    ///
    /// # Errors
    /// If none is free.
    pub fn free_port() -> Result<u16> {
        free_port()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Lead new connections to the server at another port.
    pub fn lead_to(&self, server_port: u16) {
        self.shared.server.send_replace((Ipv4Addr::LOCALHOST, server_port).into());
    }

    /// Reset all connections and refuse new ones, until `heal`.
    ///
    /// # Errors
    /// If the proxy has ended.
    pub async fn cut(&self) -> Result<()> {
        self.change(|weather| {
            weather.cuts += 1;
            weather.refuses = true;
        });
        self.listens_is(false).await
    }

    /// Reset all connections; new ones are let in.
    pub fn reset(&self) {
        self.change(|weather| weather.cuts += 1);
    }

    /// Let everything through again. What hung goes on.
    ///
    /// # Errors
    /// If somebody took its port.
    pub async fn heal(&self) -> Result<()> {
        *self.shared.trap() = None;
        self.change(|weather| {
            *weather = Weather { cuts: weather.cuts, silences: weather.silences, ..Weather::default() };
        });
        self.listens_is(true).await
    }

    /// Deliver everything this much later, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.change(|weather| weather.delay = delay);
    }

    /// Let connections in, and keep open those that are, but forward nothing, until `heal`.
    pub fn hang(&self) {
        self.change(|weather| weather.hangs = true);
    }

    /// Keep open the connections that are, but never forward anything on them again; new ones work. So it looks when a
    /// server is gone with its machine and another has its address.
    pub fn silence(&self) {
        self.change(|weather| weather.silences += 1);
    }

    /// Forward this many more bytes in this direction, counted over all connections, then reset the connection that
    /// brought the last of them.
    pub fn reset_after(&self, direction: Direction, bytes: usize) {
        *self.shared.trap() = Some(Trap::After { direction, bytes });
    }

    /// Once a client has sent `asked`, which still reaches the server: wait for the server's answer, drop it, and reset
    /// the client. The server has done what it was asked to, and the client cannot know. Cannot see into TLS.
    ///
    /// An answer is whatever comes until a silence; where earlier requests may still be unanswered, say what the answer
    /// must contain with [`Self::cut_before_answer_with`].
    pub fn cut_before_answer(&self, asked: &[u8]) {
        self.cut_before_answer_with(asked, b"");
    }

    /// The same; the answer has come when the server's bytes contain `answer`. PostgreSQL answers `COMMIT` to `COMMIT`.
    pub fn cut_before_answer_with(&self, asked: &[u8], answer: &[u8]) {
        *self.shared.trap() = Some(Trap::BeforeAnswer { asked: asked.to_owned(), answer: answer.to_owned() });
    }

    /// How many faults that wait for something have happened.
    pub fn tripped(&self) -> u64 {
        *self.shared.tripped.borrow()
    }

    /// Wait until that many have happened.
    ///
    /// # Errors
    /// If they have not by then.
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

    /// How many of these bytes may pass; whether the connection is reset after them.
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

    /// What the server's answer must contain, if the client just asked what was waited for.
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

    /// How much of what was sent before has to be remembered to find what is waited for.
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
        // Without a listener the system itself refuses, and resets what was not accepted yet.
        drop(listener);
        shared.listens.send_replace(false);
        if !reached(&mut weather, |weather| !weather.refuses).await {
            return Ok(());
        }
    }
}
