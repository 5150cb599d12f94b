use std::sync::Arc;

use super::LoadedRelease;
use super::trial::Candidate;

/// The serving releases, and those on trial. The set is replaced as a whole, so each event sees one consistent set; events
/// in flight keep theirs.
#[derive(Default)]
pub(crate) struct Serving {
    /// Sorted by the projectors' names.
    pub(crate) active: Arc<Vec<Arc<LoadedRelease>>>,
    pub(crate) candidates: Vec<Arc<Candidate>>,
    /// The targets of rollbacks, ready to serve again: a rollback loads nothing.
    pub(super) before: Vec<Arc<LoadedRelease>>,
}

impl Serving {
    /// Returns the release that serves a projector.
    pub(crate) fn of(&self, projector: &str) -> Option<&Arc<LoadedRelease>> {
        self.active.iter().find(|active| active.name == projector)
    }

    /// Returns the release on trial for a projector.
    pub(crate) fn candidate(&self, projector: &str) -> Option<&Arc<Candidate>> {
        self.candidates.iter().find(|candidate| candidate.release.name == projector)
    }

    /// Returns a release if it is loaded.
    pub(super) fn loaded(&self, release_id: i64) -> Option<&Arc<LoadedRelease>> {
        let candidates = self.candidates.iter().map(|candidate| &candidate.release);
        let all = self.active.iter().chain(candidates).chain(&self.before);
        all.filter(|active| active.projector.is_some()).find(|active| active.release_id == release_id)
    }

    /// Returns the event types that the serving releases and those on trial subscribe to.
    pub(crate) fn event_types(&self) -> impl Iterator<Item = &str> {
        let candidates = self.candidates.iter().map(|candidate| &candidate.release);
        self.active.iter().chain(candidates).flat_map(|active| active.event_types())
    }
}
