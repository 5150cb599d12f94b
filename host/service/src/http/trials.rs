//! Trials: releases that run as a shadow or canary alongside the active release.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::{Extension, Json};
use belfry_store::{Trial, TrialStep};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Api;
use super::auth::Caller;
use super::change::to_its_end;
use super::extract::{Document, Path};
use super::problem::Problem;
use super::reason::{MAX_REASON_BYTES, is_reason};
use super::wire::named;
use crate::clock::rfc3339;
use crate::diff::Difference;
use crate::releases::trial::{Limits, MaskedField, Mode, Plan, Sample, Side, Step, Tally, mode};

/// A request to begin a trial.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    release_id: i64,
    mode: ModeName,
    /// For a canary.
    steps: Option<Vec<Step>>,
    limits: Option<Limits>,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum ModeName {
    Shadow,
    Canary,
}

/// A request to end a trial.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct End {
    reason: String,
}

/// A trial, running or ended.
#[derive(Serialize)]
pub(crate) struct TrialView {
    projector: String,
    candidate: String,
    /// The label of the active release.
    beside: String,
    mode: ModeName,
    status: Status,
    /// Percentage of the subjects that a canary serves.
    percent: Option<f64>,
    /// All steps of a canary.
    steps: Vec<Step>,
    /// The current step of a canary, counted from 1.
    step: Option<usize>,
    limits: Option<Limits>,
    began_at: String,
    /// When the current state began.
    since: String,
    begun_by: String,
    ended_at: Option<String>,
    ended_by: Option<String>,
    /// Why it ended.
    reason: Option<String>,
    active: SideView,
    tried: SideView,
    /// The comparison of a shadow.
    compared: ComparedView,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Running,
    /// The candidate is the active release now.
    Promoted,
    /// The candidate was rolled back because it exceeded a limit or failed repeatedly.
    TakenBack,
    Ended,
}

/// The results of a release during the trial.
#[derive(Serialize)]
struct SideView {
    events: u64,
    notifications: u64,
    rejected: u64,
    failed: u64,
    outcomes: BTreeMap<String, u64>,
    notifications_per_event: f64,
    /// Median of the time to project an event, in microseconds.
    median_us: f64,
    /// 99th percentile of that time.
    p99_us: f64,
}

#[derive(Serialize)]
struct ComparedView {
    events: u64,
    passed_over: u64,
    same: u64,
    added: u64,
    removed: u64,
    changed: u64,
    fields: BTreeMap<String, u64>,
    samples: Vec<SampleView>,
}

/// An example of a difference. Strings are masked.
#[derive(Serialize)]
struct SampleView {
    difference: Difference,
    event_id: Uuid,
    notification_id: Uuid,
    recipient: String,
    notification_type: String,
    priority: String,
    fields: Vec<MaskedField>,
    seen_at: String,
}

pub(crate) async fn begin(
    State(api): State<Api>,
    Path(projector): Path<String>,
    Extension(Caller { name: by, .. }): Extension<Caller>,
    wanted: Document<Wanted>,
) -> Result<Json<TrialView>, Problem> {
    let Document(Wanted { release_id, mode, steps, limits }) = wanted;
    let plan = match (mode, steps, limits) {
        (ModeName::Shadow, None, None) => None,
        (ModeName::Shadow, ..) => return Err(Problem::bad_request("steps and limits apply to a canary only")),
        (ModeName::Canary, Some(steps), limits) => Some(Plan { steps, limits: limits.unwrap_or_default() }),
        (ModeName::Canary, None, _) => return Err(Problem::bad_request("steps: required for a canary")),
    };
    if let Some(fault) = plan.as_ref().and_then(Plan::fault) {
        return Err(Problem::bad_request(fault));
    }
    let (registry, name) = (api.registry.clone(), projector.clone());
    to_its_end(async move { registry.begin_trial(release_id, &name, plan.as_ref(), &by).await }).await?;
    api.heartbeat.look();
    view(&api, &projector).await
}

pub(crate) async fn end(
    State(api): State<Api>,
    Path(projector): Path<String>,
    Extension(Caller { name: by, .. }): Extension<Caller>,
    end: Document<End>,
) -> Result<Json<TrialView>, Problem> {
    let Document(End { reason }) = end;
    if !is_reason(&reason) {
        return Err(Problem::bad_request(format!("reason: required, one line of at most {MAX_REASON_BYTES} bytes")));
    }
    let (registry, name) = (api.registry.clone(), projector.clone());
    to_its_end(async move { registry.end_trial(&name, &reason, &by).await }).await?;
    api.heartbeat.look();
    view(&api, &projector).await
}

pub(crate) async fn show(State(api): State<Api>, Path(projector): Path<String>) -> Result<Json<TrialView>, Problem> {
    view(&api, &projector).await
}

async fn view(api: &Api, projector: &str) -> Result<Json<TrialView>, Problem> {
    let trial = api.store.trial(projector).await?;
    let trial = trial.ok_or_else(|| Problem::not_found(format!("{projector} has never had a trial")))?;
    let ids: Vec<i64> =
        trial.steps.iter().flat_map(|step| [Some(step.rollout.release_id), candidate_id(step)]).flatten().collect();
    api.registry.learn(ids).await?;
    TrialView::of(&trial, |release_id| named(&api.registry, release_id).1)
        .map(Json)
        .ok_or_else(|| Problem::overloaded("the plan of this trial was written by another version of belfry"))
}

fn candidate_id(step: &TrialStep) -> Option<i64> {
    step.rollout.candidate.as_ref().map(|candidate| candidate.release_id)
}

impl TrialView {
    /// Returns `None` if another version of Belfry wrote the trial's plan in a form that this one cannot read.
    fn of(trial: &Trial, label: impl Fn(i64) -> String) -> Option<Self> {
        let (first, last) = (trial.steps.first()?, trial.steps.last()?);
        let candidate_id = candidate_id(last)?;
        let (mode, plan, step) = match mode(&last.rollout)? {
            Mode::Shadow => (ModeName::Shadow, None, None),
            Mode::Canary { plan, step } => (ModeName::Canary, Some(plan), Some(step)),
        };
        let status = match &trial.end {
            None => Status::Running,
            Some(end) if end.release_id == candidate_id => Status::Promoted,
            Some(end) if end.suspended_release_id == Some(candidate_id) => Status::TakenBack,
            Some(_) => Status::Ended,
        };
        let Tally { active, candidate, compared } = Tally::of(trial);
        let end = trial.end.as_ref();
        Some(Self {
            projector: last.rollout.projector.clone(),
            candidate: label(candidate_id),
            beside: label(last.rollout.release_id),
            mode,
            status,
            percent: plan.as_ref().zip(step).map(|(plan, step)| plan.steps[step].percent),
            limits: plan.as_ref().map(|plan| plan.limits),
            steps: plan.map(|plan| plan.steps).unwrap_or_default(),
            step: step.map(|step| step + 1),
            began_at: rfc3339(first.rollout.created_at_ms),
            since: rfc3339(last.rollout.created_at_ms),
            begun_by: first.rollout.created_by.clone(),
            ended_at: end.map(|end| rfc3339(end.created_at_ms)),
            ended_by: end.map(|end| end.created_by.clone()),
            reason: end.and_then(|end| end.reason.clone()),
            active: SideView::of(active),
            tried: SideView::of(candidate),
            compared: ComparedView {
                events: compared.events,
                passed_over: compared.passed_over,
                same: compared.same,
                added: compared.added,
                removed: compared.removed,
                changed: compared.changed,
                fields: compared.fields,
                samples: compared.samples.into_iter().map(SampleView::of).collect(),
            },
        })
    }
}

impl SideView {
    fn of(side: Side) -> Self {
        Self {
            notifications_per_event: side.notifications_per_event(),
            median_us: side.median_us(),
            p99_us: side.p99_us(),
            events: side.events,
            notifications: side.notifications,
            rejected: side.rejected,
            failed: side.failed,
            outcomes: side.outcomes,
        }
    }
}

impl SampleView {
    fn of(sample: Sample) -> Self {
        Self {
            difference: sample.difference,
            event_id: sample.event_id,
            notification_id: sample.notification_id,
            recipient: sample.recipient,
            notification_type: sample.notification_type,
            priority: sample.priority,
            fields: sample.fields,
            seen_at: rfc3339(sample.seen_at_ms),
        }
    }
}
