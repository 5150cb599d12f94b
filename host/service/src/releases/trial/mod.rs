//! Trials: releases that are tried next to the serving one.
//!
//! A **shadow** projects what the serving release projects; both answers are compared and the shadow's is never issued. A
//! **canary** serves a share of the subjects, which grows with the steps of its [`Plan`]. Each replica keeps a [`Tally`] of
//! its observations; [`watch`] stores it, adds up the tallies of all replicas, and advances the canary to its next step or
//! rolls it back.

mod plan;
mod sample;
mod tally;
mod transitions;
mod verdict;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};

use belfry_model::Envelope;
use belfry_sandbox::digest;
use belfry_store::Rollout;

use super::LoadedRelease;

pub(crate) use plan::{Limits, Plan, Step};
pub(crate) use sample::{MaskedField, Sample};
pub(crate) use tally::{Side, Tally};
pub(crate) use watch::watch;

/// The number of parts in which a share is counted.
const PARTS: u32 = 10_000;

/// How a candidate is tried.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Mode {
    Shadow,
    Canary {
        plan: Plan,
        /// The index of the plan's current step.
        step: usize,
    },
}

/// A release on trial, since the last change of it or of the serving release.
pub(crate) struct Candidate {
    pub(crate) release: Arc<LoadedRelease>,
    pub(crate) mode: Mode,
    /// The change that began this step of the trial.
    pub(crate) rollout_id: i64,
    noted: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    tally: Tally,
    /// Whether the tally has changed since it was last stored.
    grown: bool,
}

impl Candidate {
    /// Returns the candidate of a change; `None` if there is none, or its plan was written by another version.
    pub(crate) fn of(rollout: &Rollout, release: Arc<LoadedRelease>) -> Option<Self> {
        let mode = mode(rollout)?;
        Some(Self { release, mode, rollout_id: rollout.id, noted: Mutex::default() })
    }

    /// Returns whether it serves the subject of an event instead of the serving release.
    pub(crate) fn serves(&self, active: &LoadedRelease, envelope: &Envelope) -> bool {
        let Mode::Canary { plan, step } = &self.mode else { return false };
        let of_active = active.subject_pointer(&envelope.event_type);
        let pointer = of_active.or_else(|| self.release.subject_pointer(&envelope.event_type));
        place(&self.release, &envelope.subject(pointer)) < plan.steps[*step].parts()
    }

    pub(crate) fn is_shadow(&self) -> bool {
        self.mode == Mode::Shadow
    }

    /// Adds an observation to the tally.
    pub(crate) fn note(&self, add: impl FnOnce(&mut Tally)) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        add(&mut noted.tally);
        noted.grown = true;
    }

    /// Returns the tally, if it has changed since the last call.
    fn take_grown(&self) -> Option<Tally> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut noted.grown).then(|| noted.tally.clone())
    }

    /// Marks the tally as changed again, because it could not be stored.
    fn keep_grown(&self) {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).grown = true;
    }
}

/// Returns how the candidate of a change is tried; `None` if there is none, or its plan was written by another version.
pub(crate) fn mode(rollout: &Rollout) -> Option<Mode> {
    let candidate = rollout.candidate.as_ref()?;
    let Some(plan) = &candidate.plan else { return Some(Mode::Shadow) };
    let plan: Plan = serde_json::from_str(plan).ok()?;
    let step = candidate.step? as usize;
    (step < plan.steps.len()).then_some(Mode::Canary { plan, step })
}

/// Returns a subject's place, from 0 up to but not including [`PARTS`]. It is fixed for a release, so a growing share only
/// gains subjects. It differs for the next release, so that new releases do not always begin with the same subjects.
fn place(release: &LoadedRelease, subject: &str) -> u32 {
    let mut salted = release.release_id.to_be_bytes().to_vec();
    salted.extend(release.name.as_bytes());
    salted.push(0);
    salted.extend(subject.as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = digest(&salted).0;
    (u64::from_be_bytes([a, b, c, d, e, f, g, h]) % u64::from(PARTS)) as u32
}
