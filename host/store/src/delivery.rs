//! What is known of a log entry beyond the log: how far each sink came with it, and who had let its release serve.

use crate::submission::WITHHELD_OFF;
use crate::{Store, StoreError};

/// How far a sink came with an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The sink.
    pub sink: String,
    /// How far.
    pub state: DeliveryState,
    /// By when the sink had acknowledged it, or when it was withheld or discarded; none where that is not known.
    pub at_ms: Option<i64>,
    /// Why the sink refused it, or who discarded it and why.
    pub detail: Option<String>,
}

/// What became of an entry at a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// The sink has it.
    Acknowledged,
    /// Its time had passed by when the sink came to it.
    Expired,
    /// Its turn has not come.
    Waiting,
    /// The sink refused it, or it stands behind one that the sink refused.
    Parked,
    /// An operator decided that it is never sent.
    Discarded,
    /// It was recorded before the sink was there, or while it was off.
    BeforeTheSink,
}

impl DeliveryState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::Expired => "expired",
            Self::Waiting => "waiting",
            Self::Parked => "parked",
            Self::Discarded => "discarded",
            Self::BeforeTheSink => "before-the-sink",
        }
    }
}

/// Who let a release serve, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    /// Who.
    pub by: String,
    /// When.
    pub at_ms: i64,
    /// To a share of the subjects only, as a canary, and not to all since.
    pub canary: bool,
}

/// A sink's row with what is known of one entry there.
pub(crate) struct DeliveryRow {
    pub(crate) sink: String,
    pub(crate) reached: bool,
    pub(crate) before_the_sink: bool,
    /// By when it was acknowledged, or when it was withheld; none where that is not known.
    pub(crate) settled_ms: Option<i64>,
    /// Why it was not sent, if it was not.
    pub(crate) withheld: Option<String>,
    pub(crate) parked: Option<String>,
    pub(crate) discarded_ms: Option<i64>,
    pub(crate) discarded_by: Option<String>,
    pub(crate) reason: Option<String>,
}

impl From<DeliveryRow> for Delivery {
    fn from(row: DeliveryRow) -> Self {
        let DeliveryRow { sink, reached, before_the_sink, settled_ms, withheld, parked, .. } = row;
        let said = |state, at_ms, detail| Self { sink, state, at_ms, detail };
        if row.discarded_ms.is_some() {
            let by = row.discarded_by.unwrap_or_else(|| "somebody".to_owned());
            let detail = row.reason.map_or_else(|| format!("by {by}"), |reason| format!("by {by}: {reason}"));
            return said(DeliveryState::Discarded, row.discarded_ms, Some(detail));
        }
        let before_the_sink = before_the_sink || withheld.as_deref() == Some(WITHHELD_OFF);
        match (parked, before_the_sink, reached) {
            (Some(error), ..) => said(DeliveryState::Parked, None, Some(error)),
            (None, true, _) => said(DeliveryState::BeforeTheSink, None, None),
            (None, false, true) if withheld.is_some() => said(DeliveryState::Expired, settled_ms, None),
            (None, false, true) => said(DeliveryState::Acknowledged, settled_ms, None),
            (None, false, false) => said(DeliveryState::Waiting, None, None),
        }
    }
}

impl Store {
    /// How far each sink came with the entry at a position.
    pub async fn deliveries(&self, position: i64) -> Result<Vec<Delivery>, StoreError> {
        let rows = match self {
            Self::Sqlite(sqlite) => sqlite.deliveries(position).await?,
            Self::Postgres(postgres) => postgres.deliveries(position).await?,
        };
        Ok(rows.into_iter().map(Delivery::from).collect())
    }

    /// Whether a release ever served all of its projector's events.
    pub async fn has_served(&self, release_id: i64) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.has_served(release_id).await,
            Self::Postgres(postgres) => postgres.has_served(release_id).await,
        }
    }

    /// The last time until `at_ms` that a release began to serve, all or a share.
    pub async fn activation(&self, release_id: i64, at_ms: i64) -> Result<Option<Activation>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.activation(release_id, at_ms).await,
            Self::Postgres(postgres) => postgres.activation(release_id, at_ms).await,
        }
    }
}
