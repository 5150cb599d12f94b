//! Which events are projected again, and with what.

use std::sync::Arc;

use belfry_model::Envelope;
use belfry_store::Store;
use uuid::Uuid;

use super::ReplayError;
use super::report::Header;
use crate::lot::lot;
use crate::releases::{Active, Registry};

/// What somebody wants to know.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) projector: String,
    /// The release.
    pub(crate) candidate: i64,
    pub(crate) baseline: Baseline,
    /// The events recorded from this time on, and before that.
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
    /// About so many of them only, the same ones each time.
    pub(crate) sample: Option<u64>,
    /// Only what is about this subject.
    pub(crate) subject: Option<String>,
}

/// With what the candidate is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Baseline {
    /// The release that serves, projected again.
    Active,
    /// What was issued then, by whichever release.
    Recorded,
    /// Another release, projected again.
    Release(i64),
}

/// The same, with all that it takes to run.
pub(crate) struct Plan {
    pub(super) header: Header,
    pub(super) candidate: Arc<Active>,
    pub(super) baseline: Against,
    /// Positions: after the one, up to the other.
    pub(super) after: i64,
    pub(super) up_to: i64,
    /// Events between them.
    pub(super) events: u64,
    pub(super) choice: Choice,
    subject: Option<String>,
}

/// The side that is known.
pub(super) enum Against {
    Release(Arc<Active>),
    Recorded,
}

impl Against {
    /// The release's number; none of what was recorded.
    pub(super) fn release_id(&self) -> Option<i64> {
        match self {
            Self::Release(active) => Some(active.release_id),
            Self::Recorded => None,
        }
    }
}

/// Which events are chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    /// Of 2^64; none: all.
    share: Option<u64>,
}

impl Choice {
    /// About `sample` of `events`.
    fn of(sample: Option<u64>, events: u64) -> Self {
        let share = |sample: u64| (sample as f64 / events as f64 * u64::MAX as f64) as u64;
        Self { share: sample.filter(|sample| *sample < events).map(share) }
    }

    /// By the event's lot alone, so a larger sample has all of a smaller one's events.
    pub(super) fn takes(&self, event_id: &Uuid) -> bool {
        let Some(share) = self.share else { return true };
        lot(event_id) < share
    }
}

impl Plan {
    pub(super) async fn make(wanted: Wanted, store: &Store, registry: &Registry) -> Result<Self, ReplayError> {
        let Wanted { projector, candidate, baseline, from_ms, to_ms, sample, subject } = wanted;
        if from_ms >= to_ms {
            return Err(ReplayError::Wrong("from: must be before to".into()));
        }
        if sample == Some(0) {
            return Err(ReplayError::Wrong("sample: must be one event at least".into()));
        }
        let candidate = registry.loaded(candidate, &projector).await?;
        let baseline = match baseline {
            Baseline::Recorded => Against::Recorded,
            Baseline::Active => {
                let serving = registry.serving().of(&projector).cloned();
                Against::Release(serving.ok_or_else(|| {
                    ReplayError::Wrong(format!("baseline: no release of {projector} serves; name one, or say recorded"))
                })?)
            }
            Baseline::Release(release_id) => Against::Release(registry.loaded(release_id, &projector).await?),
        };
        let called = match &baseline {
            Against::Recorded => "recorded",
            Against::Release(release) => &release.label,
        };
        let (after, up_to) = (store.position_at(from_ms).await?, store.position_at(to_ms).await?);
        let events = store.count_events(after, up_to).await?;
        let (candidate_called, baseline_called) = (candidate.label.clone(), called.to_owned());
        let header = Header { projector, candidate: candidate_called, baseline: baseline_called, from_ms, to_ms };
        let choice = Choice::of(sample, events);
        Ok(Self { header, candidate, baseline, after, up_to, events, choice, subject })
    }

    /// Whether either side subscribes to a type. What was recorded came of what the candidate subscribes to, or of types
    /// that it no longer wants: those count as well.
    pub(super) fn wants(&self, event_type: &str) -> bool {
        let subscribes = |active: &Active| active.event_types().any(|wanted| wanted == event_type);
        match &self.baseline {
            Against::Release(baseline) => subscribes(&self.candidate) || subscribes(baseline),
            Against::Recorded => true,
        }
    }

    /// Whether only what is about one subject is taken.
    pub(super) fn is_of_one_subject(&self) -> bool {
        self.subject.is_some()
    }

    /// Whether an event is about the subject that was asked for, if any was.
    pub(super) fn is_about(&self, envelope: &Envelope) -> bool {
        let Some(wanted) = &self.subject else { return true };
        envelope.subject(self.candidate.subject_pointer(&envelope.event_type)) == *wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_about_so_many_and_a_larger_one_has_them_all() {
        let ids: Vec<Uuid> = (0..10_000u128).map(Uuid::from_u128).collect();
        let taken = |sample| {
            let choice = Choice::of(Some(sample), 10_000);
            ids.iter().filter(|id| choice.takes(id)).copied().collect::<Vec<_>>()
        };
        let (small, large) = (taken(500), taken(2000));
        assert!((400..600).contains(&small.len()), "{}", small.len());
        assert!((1800..2200).contains(&large.len()), "{}", large.len());
        assert!(small.iter().all(|id| large.contains(id)));
        assert_eq!(taken(10_000).len(), 10_000);
    }
}
