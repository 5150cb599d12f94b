//! Checks topics before they are read. Whether a partition can be read at its position is determined only when it is read:
//! if it cannot, that partition alone is stopped.

use std::collections::BTreeSet;

use belfry_store::StoreError;

use super::positions::{Positions, Unplaced};
use crate::kafka::KafkaConfigError;

/// Why events cannot be read from Kafka.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A Kafka client cannot be created.
    #[error(transparent)]
    Config(#[from] KafkaConfigError),
    /// The position of a partition cannot be determined.
    #[error(transparent)]
    Unplaced(#[from] Unplaced),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another running replica has the same name.
    #[error(
        "replica.name: another replica named {0} is running; give each replica a unique name, for instance that of its pod"
    )]
    Twin(String),
    /// The check was aborted.
    #[error("the check of the source was aborted")]
    CutOff,
}

/// The result of checking topics.
#[derive(Default)]
pub(super) struct Checked {
    /// Topics that exist and have positions.
    pub(super) ready: BTreeSet<String>,
    /// Topics that exist but have no start position, with the reason.
    pub(super) refused: Vec<(String, Unplaced)>,
}

/// Checks topics before they are read: each must have a position, or gets one now. A cluster that does not answer is not an
/// error; the result then has no topics.
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
                tracing::warn!(topic, "the topic does not exist; it is read once it does, see `belfry topics check`");
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
