use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::{Direction, Shared};

const CHUNK_BYTES: usize = 16 * 1024;
/// Maximum number of delayed chunks, in each direction of a connection.
const CHUNKS_DELAYED: usize = 256;
/// Silence after which an answer that has begun counts as complete.
const SILENCE: Duration = Duration::from_millis(50);

/// How long a server keeps a session after its network fell silent. Keepalives end the session; here they do so a
/// little sooner, so that the sessions of two silences do not use up all connections.
const NOTICED_AFTER: Duration = Duration::from_secs(10);

/// How a connection ends.
#[derive(PartialEq)]
enum End {
    /// Cleanly, by both ends.
    Closed,
    Reset,
    /// The network fell silent, and the server detected it.
    Silent,
    /// By a fault that waited for its condition.
    Tripped,
}

/// Bytes and the time at which they are due. Empty bytes mark the end of the stream.
type Chunk = (Instant, Vec<u8>);

/// Forwards bytes between this client and the server until the connection ends.
pub(super) async fn connection(shared: Arc<Shared>, mut client: TcpStream) {
    let mut weather = shared.weather.subscribe();
    let (cuts, silences) = (weather.borrow().cuts, weather.borrow().silences);
    let address = *shared.server.borrow();
    let Ok(mut server) = TcpStream::connect(address).await else {
        let _ = client.set_zero_linger();
        return;
    };
    let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
    let end = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        // Set once the client has sent the awaited request: the bytes that the server's answer must contain.
        let swallow = watch::Sender::new(None);
        let up = forward(&shared, Direction::ToServer, from_client, to_server, &swallow);
        let down = forward(&shared, Direction::ToClient, from_server, to_client, &swallow);
        let both = async {
            tokio::pin!(up, down);
            // One side may close its half and still read the rest of the other.
            tokio::select! {
                end = &mut up => if end == End::Closed { down.await } else { end },
                end = &mut down => if end == End::Closed { up.await } else { end },
            }
        };
        tokio::select! {
            _ = reached(&mut weather, |weather| weather.cuts > cuts) => End::Reset,
            () = noticed(&shared, silences) => End::Silent,
            end = both => end,
        }
    };
    if end != End::Closed {
        // Closing a socket without lingering resets the connection.
        let (_, _) = (client.set_zero_linger(), server.set_zero_linger());
    }
    drop(server);
    if end == End::Silent {
        // The client is not notified.
        let mut nowhere = tokio::io::sink();
        tokio::select! {
            _ = reached(&mut weather, |weather| weather.cuts > cuts) => {}
            _ = tokio::io::copy(&mut client, &mut nowhere) => {}
        }
    }
    drop(client);
    if end == End::Tripped {
        shared.note_tripped();
    }
}

/// Waits until the network has fallen silent and the server has detected it.
async fn noticed(shared: &Shared, silences: u64) {
    reached(&mut shared.weather.subscribe(), |weather| weather.silences > silences).await;
    tokio::time::sleep(NOTICED_AFTER).await;
}

async fn forward(
    shared: &Shared,
    direction: Direction,
    from: ReadHalf<'_>,
    to: WriteHalf<'_>,
    swallow: &watch::Sender<Option<Vec<u8>>>,
) -> End {
    let (delayed, due) = mpsc::channel(CHUNKS_DELAYED);
    let reading = read(shared, direction, from, delayed, swallow);
    let writing = write(shared, to, due);
    // Bytes read before the end are still written.
    let (end, written) = tokio::join!(reading, writing);
    if written { end } else { End::Reset }
}

async fn read(
    shared: &Shared,
    direction: Direction,
    mut from: ReadHalf<'_>,
    delayed: mpsc::Sender<Chunk>,
    swallow: &watch::Sender<Option<Vec<u8>>>,
) -> End {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut recent = Vec::new();
    let mut swallowing = swallow.subscribe();
    loop {
        let length = tokio::select! {
            biased;
            true = reached(&mut swallowing, Option::is_some), if direction == Direction::ToClient => {
                let answer = swallow.borrow().clone().unwrap_or_default();
                swallow_answer(from, &answer).await;
                return End::Tripped;
            }
            read = from.read(&mut buffer) => match read {
                Ok(length) => length,
                Err(_) => return End::Reset,
            },
        };
        let (allowed, is_last) = shared.allowed(direction, length);
        let chunk = buffer[..allowed].to_vec();
        if direction == Direction::ToServer {
            let forgotten = recent.len().saturating_sub(shared.remembered());
            recent.drain(..forgotten);
            recent.extend_from_slice(&chunk);
            if let Some(answer) = shared.asked(&recent) {
                // Before the bytes are forwarded, so that no answer slips through.
                swallow.send_replace(Some(answer));
            }
        }
        let due = Instant::now() + shared.weather.borrow().delay;
        // An empty chunk marks the end of the stream, so a chunk that a reset truncates to nothing is not queued.
        if (allowed > 0 || length == 0) && delayed.send((due, chunk)).await.is_err() {
            return End::Reset;
        }
        if is_last {
            return End::Tripped;
        }
        if length == 0 {
            return End::Closed;
        }
    }
}

/// Writes chunks when they are due. Returns whether all were written.
async fn write(shared: &Shared, mut to: WriteHalf<'_>, mut due: mpsc::Receiver<Chunk>) -> bool {
    let mut weather = shared.weather.subscribe();
    let silences = weather.borrow().silences;
    while let Some((time, chunk)) = due.recv().await {
        sleep_until(time).await;
        if !reached(&mut weather, |weather| !weather.hangs && weather.silences == silences).await {
            return false;
        }
        let written = if chunk.is_empty() { to.shutdown().await } else { to.write_all(&chunk).await };
        if written.is_err() {
            return false;
        }
    }
    true
}

/// Reads and discards the server's answer.
async fn swallow_answer(mut from: ReadHalf<'_>, answer: &[u8]) {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut said = Vec::new();
    loop {
        let begun = !said.is_empty();
        let read = if begun && answer.is_empty() {
            match tokio::time::timeout(SILENCE, from.read(&mut buffer)).await {
                Ok(read) => read,
                Err(_) => return,
            }
        } else {
            from.read(&mut buffer).await
        };
        match read {
            Ok(0) | Err(_) => return,
            Ok(length) => said.extend_from_slice(&buffer[..length]),
        }
        if !answer.is_empty() && contains(&said, answer) {
            return;
        }
    }
}

/// Returns whether `bytes` contains `wanted`; false if `wanted` is empty.
pub(super) fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    !wanted.is_empty() && bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// Waits until the value satisfies `wanted`. Returns false if the sender is gone.
pub(super) async fn reached<T: Send + Sync>(
    receiver: &mut watch::Receiver<T>,
    wanted: impl FnMut(&T) -> bool + Send,
) -> bool {
    receiver.wait_for(wanted).await.is_ok()
}
