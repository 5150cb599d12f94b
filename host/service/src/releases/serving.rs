use std::sync::Arc;

use super::Active;
use super::trial::Candidate;

/// What serves, and what is tried beside it. It is replaced as a whole, so each event sees one consistent set; events under
/// way keep theirs.
#[derive(Default)]
pub(crate) struct Serving {
    /// By projector's name.
    pub(crate) active: Arc<Vec<Arc<Active>>>,
    pub(crate) candidates: Vec<Arc<Candidate>>,
    /// What rollbacks go back to, ready to serve again: going back loads nothing.
    pub(super) before: Vec<Arc<Active>>,
}

impl Serving {
    /// What serves a projector.
    pub(crate) fn of(&self, projector: &str) -> Option<&Arc<Active>> {
        self.active.iter().find(|active| active.name == projector)
    }

    /// What is tried for a projector.
    pub(crate) fn candidate(&self, projector: &str) -> Option<&Arc<Candidate>> {
        self.candidates.iter().find(|candidate| candidate.release.name == projector)
    }

    /// A release that is loaded already.
    pub(super) fn loaded(&self, release_id: i64) -> Option<&Arc<Active>> {
        let candidates = self.candidates.iter().map(|candidate| &candidate.release);
        let all = self.active.iter().chain(candidates).chain(&self.before);
        all.filter(|active| active.projector.is_some()).find(|active| active.release_id == release_id)
    }

    /// The event types that a release subscribes to that serves or is tried.
    pub(crate) fn event_types(&self) -> impl Iterator<Item = &str> {
        let candidates = self.candidates.iter().map(|candidate| &candidate.release);
        self.active.iter().chain(candidates).flat_map(|active| active.event_types())
    }
}
