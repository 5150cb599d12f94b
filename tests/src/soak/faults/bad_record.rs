//! An invalid or unusual event at each place of a group, for each way in which a group arrives. The others are
//! accepted; the rejection is returned to the sender or recorded as a dead letter.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use fastrand::Rng;
use serde_json::Value;

use super::super::arrivals::Way;
use super::super::cluster::Cluster;
use super::{Length, work};

/// Number of events in a group.
const GROUP: usize = 5;
/// Time limit for an event to be read and rejected.
const PATIENCE: Duration = Duration::from_secs(30);

/// The kind of oddity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Odd {
    /// Not JSON.
    Undecodable,
    /// A field of the wrong type.
    Malformed,
    /// Another event under an id that was accepted before.
    Conflict,
    /// U+0000 in a text that no code interprets.
    NulInRemark,
    /// U+0000 in what becomes the recipient.
    NulInTeacher,
    /// U+0000 in what becomes a key.
    NulInBatch,
}

/// A rejection, as returned to the sender or recorded as a dead letter.
struct Refused {
    text: String,
    cause: &'static str,
}

impl Odd {
    /// Returns whether `belfry.submit` rejects it, which fails the transaction.
    fn fails_its_transaction(self) -> bool {
        matches!(self, Self::Undecodable | Self::NulInTeacher | Self::NulInBatch)
    }

    /// Returns the cause of its rejection; `None` if it is accepted.
    fn cause(self, way: Way) -> Option<&'static str> {
        match self {
            // The other ways report `malformed`.
            Self::Undecodable if way == Way::Kafka => Some("undecodable"),
            Self::Conflict => Some("conflict"),
            Self::NulInRemark => None,
            Self::Undecodable | Self::Malformed | Self::NulInTeacher | Self::NulInBatch => Some("malformed"),
        }
    }
}

/// Sends events that are malformed or contradict another.
pub(super) async fn poison(cluster: &mut Cluster, length: Length, random: &mut Rng) -> Result<()> {
    let odd = [Odd::Undecodable, Odd::Malformed, Odd::Conflict];
    for _ in 0..length.of(1, 4) {
        everywhere(cluster, &odd, random).await?;
    }
    Ok(())
}

/// Sends events with a character that PostgreSQL's type text cannot store.
pub(super) async fn nul(cluster: &mut Cluster, length: Length, random: &mut Rng) -> Result<()> {
    let odd = [Odd::NulInRemark, Odd::NulInTeacher, Odd::NulInBatch];
    for _ in 0..length.of(1, 4) {
        everywhere(cluster, &odd, random).await?;
    }
    Ok(())
}

async fn everywhere(cluster: &Cluster, kinds: &[Odd], random: &mut Rng) -> Result<()> {
    let mut letters = Vec::new();
    for way in [Way::Http, Way::Kafka, Way::Submit] {
        // An event that `belfry.submit` rejects would fail its service's transaction.
        for odd in kinds.iter().filter(|odd| way != Way::Submit || !odd.fails_its_transaction()) {
            for place in 0..GROUP {
                letters.extend(one_group(cluster, way, *odd, place, random).await?);
            }
            work(random, 100).await;
        }
    }
    for refused in letters {
        wait_for_letter(cluster, &refused).await?;
    }
    Ok(())
}

/// Sends a group whose event at this place is odd. Returns the dead letter that must follow, if any.
async fn one_group(cluster: &Cluster, way: Way, odd: Odd, place: usize, random: &mut Rng) -> Result<Option<Refused>> {
    let load = &cluster.load;
    let key = format!("{}-odd-{}", cluster.group, random.u64(..));
    let published = way != Way::Kafka;
    // An earlier event, for the odd one to contradict.
    let first = load.event(&key, 1);
    let mut good = vec![load.promise(&first, 1, published, true)?];
    send(cluster, way, &key, &[first.to_string()]).await?;

    let mut texts = Vec::with_capacity(GROUP);
    for number in 0..GROUP {
        let sequence = number as u64 + 2;
        let mut event = load.event(&key, sequence);
        if number == place {
            make_odd(&mut event, odd, &first, random);
        }
        match odd.cause(way) {
            Some(_) if number == place && odd == Odd::Undecodable => {
                texts.push(format!("no JSON {}", random.u64(..)));
                continue;
            }
            // The ledger already has its id, with another text.
            Some(_) if number == place && odd == Odd::Conflict => {}
            Some(_) if number == place => drop(load.forbid(&event)?),
            _ => good.push(load.promise(&event, sequence, published, true)?),
        }
        texts.push(event.to_string());
    }
    let answers = send(cluster, way, &key, &texts).await?;
    good.into_iter().for_each(|event_id| load.ledger().acknowledge(event_id));
    let Some(cause) = odd.cause(way) else { return Ok(None) };
    if way == Way::Http {
        let status = &answers[place]["status"];
        ensure!(status == cause, "{odd:?} at {place} was answered with {}", answers[place]);
        return Ok(None);
    }
    Ok(Some(Refused { text: texts.swap_remove(place), cause }))
}

fn make_odd(event: &mut Value, odd: Odd, first: &Value, random: &mut Rng) {
    match odd {
        Odd::Undecodable => {}
        Odd::Malformed => event["data"]["user_id"] = 10.into(),
        Odd::Conflict => {
            event["event_id"] = first["event_id"].clone();
            // Each conflicting event has different content.
            event["data"]["total_essays"] = random.u32(1_000_000..).into();
        }
        Odd::NulInRemark => event["data"]["remark"] = "a\0b".into(),
        Odd::NulInTeacher => event["data"]["user_id"] = "a\0b".into(),
        Odd::NulInBatch => event["data"]["batch_id"] = "a\0b".into(),
    }
}

/// Sends a group. Returns the answers, if there are any.
async fn send(cluster: &Cluster, way: Way, key: &str, texts: &[String]) -> Result<Vec<Value>> {
    match way {
        Way::Http => {
            let answers = cluster.load.post_lines(texts).await?;
            ensure!(answers.len() == texts.len(), "{} answers to {} lines", answers.len(), texts.len());
            return Ok(answers);
        }
        Way::Kafka => drop(cluster.load.produce(key, texts).await?),
        Way::Submit => cluster.load.transaction(key, texts, Duration::ZERO, true).await?,
    }
    Ok(Vec::new())
}

async fn wait_for_letter(cluster: &Cluster, refused: &Refused) -> Result<()> {
    let began = Instant::now();
    loop {
        let mut connection = cluster.connect().await?;
        let causes: Vec<String> = sqlx::query_scalar("SELECT cause FROM belfry.dead_letter WHERE payload = $1")
            .bind(refused.text.as_bytes())
            .fetch_all(&mut connection)
            .await?;
        if causes == [refused.cause] {
            return Ok(());
        }
        let in_time = causes.is_empty() && began.elapsed() < PATIENCE;
        ensure!(in_time, "one dead letter {} is expected, but there are {causes:?}: {}", refused.cause, refused.text);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
