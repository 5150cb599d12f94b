use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::{Direction, Shared};

const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks that wait for their time, in each direction of a connection.
const CHUNKS_DELAYED: usize = 256;
/// After a server began to answer, it has answered once it is silent for this long.
const SILENCE: Duration = Duration::from_millis(50);

/// How long a server keeps a session whose network fell silent. Its keepalives end it; here they do so a little sooner, so that
/// the sessions of two silences do not take all connections.
const NOTICED_AFTER: Duration = Duration::from_secs(10);

/// How a connection ends.
#[derive(PartialEq)]
enum End {
    /// In good order, by its two ends.
    Closed,
    Reset,
    /// The network fell silent, and the server noticed.
    Silent,
    /// By a fault that waited for something.
    Tripped,
}

/// Bytes and the time they are due; none for the end of what is sent.
type Chunk = (Instant, Vec<u8>);

/// Forward what this client and the server send each other.
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
        // What the server's answer must contain, once the client has asked.
        let swallow = watch::Sender::new(None);
        let up = forward(&shared, Direction::ToServer, from_client, to_server, &swallow);
        let down = forward(&shared, Direction::ToClient, from_server, to_client, &swallow);
        let both = async {
            tokio::pin!(up, down);
            // One side may close its half and still wait for the rest of the other.
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
        // What ends without lingering ends by a reset.
        let (_, _) = (client.set_zero_linger(), server.set_zero_linger());
    }
    drop(server);
    if end == End::Silent {
        // The client still learns nothing.
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

/// Wait until the network falls silent, and the server has noticed.
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
    // What was read before the end is still written.
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
                // Before the bytes go on, so that no answer slips through.
                swallow.send_replace(Some(answer));
            }
        }
        let due = Instant::now() + shared.weather.borrow().delay;
        // No bytes mean the end, so what a reset leaves of a chunk may be none, but is not sent then.
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

/// Write what is due; gives whether all was written.
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

/// Take what the server answers, for nobody.
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

/// Whether these bytes have those in them.
pub(super) fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    !wanted.is_empty() && bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// Wait for a change; false if none will come any more.
pub(super) async fn reached<T: Send + Sync>(
    receiver: &mut watch::Receiver<T>,
    wanted: impl FnMut(&T) -> bool + Send,
) -> bool {
    receiver.wait_for(wanted).await.is_ok()
}
