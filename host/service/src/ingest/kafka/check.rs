//! What has to be true of positions and topics before anything is read.

use std::collections::BTreeSet;
use std::time::Duration;

use belfry_store::StoreError;

use super::positions::{Positions, Unplaced};
use crate::kafka::{Cluster, KafkaConfigError, Watermarks};

/// A broker that just came back may need a moment to know where its partitions end.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(500);

/// Why events cannot be read from Kafka.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Kafka's clients cannot be made.
    #[error(transparent)]
    Config(#[from] KafkaConfigError),
    /// It is not known where to read.
    #[error(transparent)]
    Unplaced(#[from] Unplaced),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There are fewer records than were read.
    #[error(
        "topic {topic} partition {partition}: its position {position} lies beyond its end {high}: the topic was made \
         anew, or this is another cluster, or it was restored from a backup; find out which, then say where to go on: \
         belfry position set {topic} {partition} earliest|latest|OFFSET"
    )]
    BeyondEnd {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Where it was to be read.
        position: i64,
        /// Where it ends.
        high: i64,
    },
    /// Records were removed that nobody has read.
    #[error(
        "topic {topic} partition {partition}: its position is {position}, and its oldest record is {low}: {} records were \
         removed before they were read, by retention or because the database was restored from an old backup; to go on \
         without them: belfry position set {topic} {partition} earliest",
        low - position
    )]
    Removed {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Where it was to be read.
        position: i64,
        /// Where it begins.
        low: i64,
    },
    /// Another replica has the name.
    #[error(
        "replica.name: another replica named {0} is running; give each a name of its own, for instance that of its pod"
    )]
    Twin(String),
    /// The check was cut off.
    #[error("the check of the source was cut off")]
    CutOff,
}

/// Whether a position can be read at all.
pub(super) fn in_range(topic: &str, partition: i32, position: i64, watermarks: Watermarks) -> Result<(), SourceError> {
    let topic = topic.to_owned();
    let Watermarks { low, high } = watermarks;
    if position > high {
        return Err(SourceError::BeyondEnd { topic, partition, position, high });
    }
    if position < low {
        return Err(SourceError::Removed { topic, partition, position, low });
    }
    Ok(())
}

/// Look at topics before they are read: each must have a position that can be read, or begins now. Gives those that are
/// there. Where the cluster does not answer, nothing is wrong yet, and none is there.
pub(super) fn check(positions: &Positions, wanted: &BTreeSet<String>) -> Result<BTreeSet<String>, SourceError> {
    match look(positions, wanted) {
        Err(SourceError::Unplaced(Unplaced::Kafka(error))) => {
            match positions.client.refusal() {
                Some(refusal) => tracing::error!(%refusal, "nothing is read from Kafka until somebody mends this"),
                None => tracing::warn!(%error, "kafka does not answer; its topics are read as soon as it does"),
            }
            Ok(BTreeSet::new())
        }
        looked => looked,
    }
}

fn look(positions: &Positions, wanted: &BTreeSet<String>) -> Result<BTreeSet<String>, SourceError> {
    let cluster = positions.client.cluster().map_err(Unplaced::Kafka)?;
    let there = cluster.topics().map_err(Unplaced::Kafka)?;
    let mut ready = BTreeSet::new();
    for topic in wanted {
        let Some(found) = there.get(topic) else {
            if positions.missing(topic) {
                tracing::warn!(topic, "there is no such topic; it is read once there is, see `belfry topics check`");
            }
            continue;
        };
        positions.begin(&cluster, topic, &found.partitions)?;
        for partition in &found.partitions {
            partition_in_range(positions, &cluster, topic, *partition)?;
        }
        ready.insert(topic.clone());
    }
    Ok(ready)
}

fn partition_in_range(
    positions: &Positions,
    cluster: &Cluster,
    topic: &str,
    partition: i32,
) -> Result<(), SourceError> {
    let mut attempt = 1;
    loop {
        // First the position: it only grows meanwhile, and so does the end.
        let Some(position) = positions.of_topic(topic)?.get(&partition).copied() else { return Ok(()) };
        let watermarks = cluster.watermarks(topic, partition).map_err(Unplaced::Kafka)?;
        match in_range(topic, partition, position, watermarks) {
            Err(_) if attempt < ATTEMPTS => {
                attempt += 1;
                std::thread::sleep(PAUSE);
            }
            checked => return checked,
        }
    }
}
