//! Selects the events that are projected again, and the releases that project them.

use std::sync::Arc;

use belfry_model::Envelope;
use belfry_store::Store;
use uuid::Uuid;

use super::ReplayError;
use super::findings::Header;
use crate::releases::{LoadedRelease, Registry};
use crate::sampling::lot;

/// A request for a replay.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) projector: String,
    /// The release's id.
    pub(crate) candidate: i64,
    pub(crate) baseline: Baseline,
    /// Events recorded from this time on, and before `to_ms`.
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
    /// The approximate number of events to take, the same ones each time; `None`: all of them.
    pub(crate) sample: Option<u64>,
    /// If given, only events about this subject are replayed.
    pub(crate) subject: Option<String>,
}

/// What the candidate is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Baseline {
    /// The serving release, projected again.
    Active,
    /// The notifications that were issued then, by any release.
    Recorded,
    /// Another release, projected again.
    Release(i64),
}

/// A request with everything that it takes to run.
pub(crate) struct Plan {
    pub(super) header: Header,
    pub(super) candidate: Arc<LoadedRelease>,
    pub(super) baseline: Against,
    /// The range of positions: after this one, up to `up_to`.
    pub(super) after: i64,
    pub(super) up_to: i64,
    /// The number of events in the range.
    pub(super) events: u64,
    pub(super) choice: Choice,
    subject: Option<String>,
}

/// The baseline, loaded.
pub(super) enum Against {
    Release(Arc<LoadedRelease>),
    Recorded,
}

impl Against {
    /// Returns the release's id; `None` for recorded notifications.
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
    /// The share of the events, in units of 2^-64; `None`: all of them.
    share: Option<u64>,
}

impl Choice {
    /// Chooses about `sample` of `events`.
    fn of(sample: Option<u64>, events: u64) -> Self {
        let share = |sample: u64| (sample as f64 / events as f64 * u64::MAX as f64) as u64;
        Self { share: sample.filter(|sample| *sample < events).map(share) }
    }

    /// Returns whether an event is chosen. Only its lot decides, so a larger sample has all events of a smaller one.
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
            return Err(ReplayError::Wrong("sample: must be at least one event".into()));
        }
        let candidate = registry.loaded(candidate, &projector).await?;
        let baseline = match baseline {
            Baseline::Recorded => Against::Recorded,
            Baseline::Active => {
                let serving = registry.serving().of(&projector).cloned();
                Against::Release(serving.ok_or_else(|| {
                    ReplayError::Wrong(format!(
                        "baseline: no release of {projector} serves; name a release, or use recorded"
                    ))
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

    /// Returns whether either side subscribes to a type. Recorded notifications may also come from types that the candidate
    /// no longer subscribes to, so with them every type counts.
    pub(super) fn wants(&self, event_type: &str) -> bool {
        let subscribes = |active: &LoadedRelease| active.event_types().any(|wanted| wanted == event_type);
        match &self.baseline {
            Against::Release(baseline) => subscribes(&self.candidate) || subscribes(baseline),
            Against::Recorded => true,
        }
    }

    /// Returns whether only events about one subject are replayed.
    pub(super) fn is_of_one_subject(&self) -> bool {
        self.subject.is_some()
    }

    /// Returns whether an event is about the requested subject; true if none was requested.
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
