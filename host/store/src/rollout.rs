/// The release that serves a projector, and the candidate in trial alongside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// The number of the change that established this.
    pub id: i64,
    /// The projector's name.
    pub projector: String,
    /// The release that serves it.
    pub release_id: i64,
    /// The release to roll back to: the last one that served before and has not been suspended since, if any.
    pub previous_release_id: Option<i64>,
    /// The release that this change suspended. If it equals `release_id`, no release serves the projector.
    pub suspended_release_id: Option<i64>,
    /// Whether the projector is retired: no release serves it, and a rollback activates `release_id` again.
    pub retired: bool,
    /// The candidate in trial alongside it.
    pub candidate: Option<Candidate>,
    /// Why the change was made.
    pub reason: Option<String>,
    /// Who made the change.
    pub created_by: String,
    /// When, in milliseconds since the Unix epoch.
    pub created_at_ms: i64,
}

impl Rollout {
    /// Returns the releases that project events: the one that serves, and the candidate.
    pub fn in_use(&self) -> impl Iterator<Item = i64> + use<> {
        let serves = (!self.retired).then_some(self.release_id);
        let tried = self.candidate.as_ref().map(|candidate| candidate.release_id);
        serves.into_iter().chain(tried)
    }

    /// Returns the releases that a rollback may activate.
    pub fn back_to(&self) -> impl Iterator<Item = i64> + use<> {
        self.previous_release_id.into_iter().chain(self.retired.then_some(self.release_id))
    }
}

/// A release in trial alongside the one that serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The release.
    pub release_id: i64,
    /// The number of subjects out of 10,000 that it serves. `None`: its notifications are compared and never issued.
    pub share: Option<u32>,
    /// The steps and limits, as JSON.
    pub plan: Option<String>,
    /// The current step of the plan, counted from 0.
    pub step: Option<u32>,
}
