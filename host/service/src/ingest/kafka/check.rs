//! What has to be true of topics before they are read. Whether a partition can be read at its position is found when it is
//! read: one that cannot is stopped, and nothing else.

use std::collections::BTreeSet;

use belfry_store::StoreError;

use super::positions::{Positions, Unplaced};
use crate::kafka::KafkaConfigError;

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
    /// Another replica has the name.
    #[error(
        "replica.name: another replica named {0} is running; give each a name of its own, for instance that of its pod"
    )]
    Twin(String),
    /// The check was cut off.
    #[error("the check of the source was cut off")]
    CutOff,
}

/// What was found of topics.
#[derive(Default)]
pub(super) struct Checked {
    /// Those that are there and have positions.
    pub(super) ready: BTreeSet<String>,
    /// Those that are there and have no place to begin, with the reason.
    pub(super) refused: Vec<(String, Unplaced)>,
}

/// Look at topics before they are read: each must have a position, or begins now. Where the cluster does not answer,
/// nothing is wrong yet, and none is there.
pub(super) fn check(positions: &Positions, wanted: &BTreeSet<String>) -> Result<Checked, SourceError> {
    match look(positions, wanted) {
        Err(Unplaced::Kafka(error)) => {
            match positions.client.refusal() {
                Some(refusal) => tracing::error!(%refusal, "nothing is read from Kafka until this is corrected"),
                None => tracing::warn!(%error, "kafka does not answer; its topics are read as soon as it does"),
            }
            Ok(Checked::default())
        }
        looked => Ok(looked?),
    }
}

fn look(positions: &Positions, wanted: &BTreeSet<String>) -> Result<Checked, Unplaced> {
    let cluster = positions.client.cluster()?;
    let there = cluster.topics()?;
    let mut checked = Checked::default();
    for topic in wanted {
        let Some(found) = there.get(topic) else {
            if positions.missing(topic) {
                tracing::warn!(topic, "there is no such topic; it is read once there is, see `belfry topics check`");
            }
            continue;
        };
        match positions.begin(&cluster, topic, &found.partitions) {
            Ok(_) => {
                checked.ready.insert(topic.clone());
            }
            Err(error @ Unplaced::NoStart { .. }) => checked.refused.push((topic.clone(), error)),
            Err(error) => return Err(error),
        }
    }
    Ok(checked)
}
