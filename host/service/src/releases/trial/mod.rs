//! A release that is tried beside the one that serves.
//!
//! A **shadow** projects what the serving release projects; both answers are compared and its own is never issued. A
//! **canary** serves a share of the subjects, which grows by the steps of its [`Plan`]. Each replica keeps a [`Tally`] of
//! what it sees; [`watch`] writes it down, adds up those of all replicas, and lets the canary go on to its next step, or
//! takes it back.

mod plan;
mod sample;
mod tally;
mod verdict;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};

use belfry_model::Envelope;
use belfry_sandbox::digest;
use belfry_store::Rollout;

use super::Active;

pub(crate) use plan::{Limits, Plan, Step};
pub(crate) use sample::{MaskedField, Sample};
pub(crate) use tally::{Side, Tally};
pub(crate) use watch::watch;

/// A share is counted in these parts.
const PARTS: u32 = 10_000;

/// How a candidate is tried.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Mode {
    Shadow,
    Canary {
        plan: Plan,
        /// Of the plan, from 0.
        step: usize,
    },
}

/// A release beside the one that serves, since the last change of either.
pub(crate) struct Candidate {
    pub(crate) release: Arc<Active>,
    pub(crate) mode: Mode,
    /// The change since which it has been so.
    pub(crate) rollout_id: i64,
    noted: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    tally: Tally,
    /// Whether it has grown since it was written down.
    grown: bool,
}

impl Candidate {
    /// As a change says it. None if there is none, or its plan is of another version.
    pub(crate) fn of(rollout: &Rollout, release: Arc<Active>) -> Option<Self> {
        let mode = mode(rollout)?;
        Some(Self { release, mode, rollout_id: rollout.id, noted: Mutex::default() })
    }

    /// Whether it serves the subject of an event, instead of the release beside it.
    pub(crate) fn serves(&self, active: &Active, envelope: &Envelope) -> bool {
        let Mode::Canary { plan, step } = &self.mode else { return false };
        let of_active = active.subject_pointer(&envelope.event_type);
        let pointer = of_active.or_else(|| self.release.subject_pointer(&envelope.event_type));
        place(&self.release, &envelope.subject(pointer)) < plan.steps[*step].parts()
    }

    pub(crate) fn is_shadow(&self) -> bool {
        self.mode == Mode::Shadow
    }

    /// Note what was seen.
    pub(crate) fn note(&self, add: impl FnOnce(&mut Tally)) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        add(&mut noted.tally);
        noted.grown = true;
    }

    /// What was seen, if it was not asked for since.
    fn take_grown(&self) -> Option<Tally> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut noted.grown).then(|| noted.tally.clone())
    }

    /// It could not be written down.
    fn keep_grown(&self) {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).grown = true;
    }
}

/// How the candidate of a change is tried. None if there is none, or its plan is of another version.
pub(crate) fn mode(rollout: &Rollout) -> Option<Mode> {
    let candidate = rollout.candidate.as_ref()?;
    let Some(plan) = &candidate.plan else { return Some(Mode::Shadow) };
    let plan: Plan = serde_json::from_str(plan).ok()?;
    let step = candidate.step? as usize;
    (step < plan.steps.len()).then_some(Mode::Canary { plan, step })
}

/// Where a subject stands, from 0 to [`PARTS`]: always at the same place for a release, so a share that grows only gains
/// subjects, and at another place for the next release, so it is not always the same ones who try what is new.
fn place(release: &Active, subject: &str) -> u32 {
    let mut salted = release.release_id.to_be_bytes().to_vec();
    salted.extend(release.name.as_bytes());
    salted.push(0);
    salted.extend(subject.as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = digest(&salted).0;
    (u64::from_be_bytes([a, b, c, d, e, f, g, h]) % u64::from(PARTS)) as u32
}
