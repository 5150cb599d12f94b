//! Releases: upload, list, activate, roll back and retire.

use std::collections::HashMap;

use axum::extract::multipart::{Field, MultipartError, MultipartRejection};
use axum::extract::{Multipart, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use belfry_model::JsonObject;
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::Api;
use super::auth::Caller;
use super::change::to_its_end;
use super::extract::{Document, Path, Query, broken, document};
use super::pauses::PauseReason;
use super::problem::Problem;
use super::reason::{MAX_REASON_BYTES, is_reason};
use super::wire::{Activation, Activations, HaltView, ProjectorView, ReleaseView};
use crate::releases::{RolledOut, Upload};

/// Maximum sizes of the parts of an upload, in bytes.
const MAX_COMPONENT_BYTES: usize = 64 << 20;
const MAX_CONFIG_BYTES: usize = 64 << 10;
const MAX_NOTE_BYTES: usize = 4096;
const MAX_SIGNATURE_BYTES: usize = 4096;
/// Maximum number of releases that are activated together.
const MAX_ACTIVATIONS: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    projector: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct Releases {
    releases: Vec<ReleaseView>,
}

#[derive(Serialize)]
pub(crate) struct Projectors {
    projectors: Vec<ProjectorView>,
}

pub(crate) async fn list(State(api): State<Api>, parameters: Query<Parameters>) -> Result<Json<Releases>, Problem> {
    let Query(Parameters { projector }) = parameters;
    let releases = api.store.releases(projector.as_deref()).await?;
    let signers = api.registry.signers().await?;
    let view = |release| ReleaseView::of(release, &api.registry, &signers);
    Ok(Json(Releases { releases: releases.into_iter().map(view).collect() }))
}

pub(crate) async fn one(State(api): State<Api>, release_id: Path<i64>) -> Result<Json<ReleaseView>, Problem> {
    let Path(release_id) = release_id;
    let release = api.store.release(release_id).await?;
    let unknown =
        || Problem::new("unknown-release", "Unknown release", StatusCode::NOT_FOUND, "the release does not exist");
    Ok(Json(ReleaseView::of(release.ok_or_else(unknown)?, &api.registry, &api.registry.signers().await?)))
}

pub(crate) async fn projectors(State(api): State<Api>) -> Result<Json<Projectors>, Problem> {
    let mut releases: HashMap<i64, _> =
        api.store.releases(None).await?.into_iter().map(|release| (release.id, release)).collect();
    let signers = api.registry.signers().await?;
    let view = |rollout: belfry_store::Rollout| {
        let release = releases.remove(&rollout.release_id)?;
        Some(ProjectorView {
            halted: halted(&api, &rollout.projector),
            candidate: candidate(&api, &rollout.projector),
            name: rollout.projector,
            active: ReleaseView::of(release, &api.registry, &signers),
            previous_release_id: rollout.previous_release_id,
            suspended_release_id: rollout.suspended_release_id,
            reason: rollout.reason,
            retired: rollout.retired,
        })
    };
    Ok(Json(Projectors { projectors: api.store.rollouts().await?.into_iter().filter_map(view).collect() }))
}

pub(crate) async fn upload(
    State(api): State<Api>,
    Extension(Caller { name: created_by, .. }): Extension<Caller>,
    form: Result<Multipart, MultipartRejection>,
) -> Result<(StatusCode, Json<ReleaseView>), Problem> {
    let mut form = form.map_err(|_| Problem::media_type("send multipart/form-data with a part named component"))?;
    let mut upload = Upload {
        component: Bytes::new(),
        config: JsonObject::default(),
        note: String::new(),
        created_by,
        signature: None,
    };
    let mut seen = Vec::new();
    while let Some(field) = form.next_field().await.map_err(not_a_form)? {
        let name = field.name().unwrap_or_default().to_owned();
        if seen.contains(&name) {
            return Err(Problem::bad_request(
                "a part occurs twice; send component, config, note and signature once each",
            ));
        }
        add(&mut upload, &name, field).await?;
        seen.push(name);
    }
    if upload.component.is_empty() {
        return Err(Problem::bad_request("the part named component is missing or empty"));
    }
    let registry = api.registry.clone();
    let pushed = to_its_end(async move { registry.push(upload).await }).await?;
    let status = if pushed.new { StatusCode::CREATED } else { StatusCode::OK };
    let signers = api.registry.signers().await?;
    Ok((status, Json(ReleaseView::of(pushed.release, &api.registry, &signers))))
}

async fn add(upload: &mut Upload, name: &str, field: Field<'_>) -> Result<(), Problem> {
    match name {
        "component" => upload.component = part(field, name, MAX_COMPONENT_BYTES).await?,
        "config" => {
            let config = part(field, name, MAX_CONFIG_BYTES).await?;
            upload.config = document(&config).map_err(|problem| problem.about("config: must be a JSON object"))?;
        }
        "note" => upload.note = text(part(field, name, MAX_NOTE_BYTES).await?, name)?,
        "signature" => {
            let text = text(part(field, name, MAX_SIGNATURE_BYTES).await?, name)?;
            let signature = text.parse().map_err(|error| Problem::bad_request(format!("signature: {error}")))?;
            upload.signature = Some(signature);
        }
        _ => return Err(Problem::bad_request("unknown part; send component, config, note and signature")),
    }
    Ok(())
}

/// Reads a part, up to a limit in bytes.
async fn part(mut field: Field<'_>, name: &str, limit: usize) -> Result<Bytes, Problem> {
    let mut whole = BytesMut::new();
    while let Some(chunk) = field.chunk().await.map_err(not_a_form)? {
        if whole.len() + chunk.len() > limit {
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            let detail = format!("{name}: too large; send at most {limit} bytes");
            return Err(Problem::new("bad-request", "Part too large", status, detail));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

fn text(bytes: Bytes, name: &str) -> Result<String, Problem> {
    let text = String::from_utf8(bytes.into()).ok().filter(|text| !text.contains('\0'));
    text.ok_or_else(|| Problem::bad_request(format!("{name}: must be UTF-8 without the character U+0000")))
}

fn not_a_form(error: MultipartError) -> Problem {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new("bad-request", "Upload too large", error.status(), "send at most 65 MiB at once")
        }
        _ => broken(&error, error.body_text()),
    }
}

pub(crate) async fn activate(
    State(api): State<Api>,
    Path(name): Path<String>,
    Extension(Caller { name: by, .. }): Extension<Caller>,
    activation: Document<Activation>,
) -> Result<Json<ProjectorView>, Problem> {
    let Document(Activation { release_id }) = activation;
    let (registry, projector) = (api.registry.clone(), name.clone());
    let change = async move { registry.activate(release_id, Some(&projector), &by).await };
    view(name, to_its_end(change).await?, &api).await
}

/// Activates several releases, starting with the same event.
pub(crate) async fn activate_all(
    State(api): State<Api>,
    Extension(Caller { name: by, .. }): Extension<Caller>,
    activation: Document<Activations>,
) -> Result<Json<Projectors>, Problem> {
    let Document(Activations { release_ids }) = activation;
    if release_ids.is_empty() || release_ids.len() > MAX_ACTIVATIONS {
        return Err(Problem::bad_request(format!("release_ids: must be 1 to {MAX_ACTIVATIONS} releases")));
    }
    let registry = api.registry.clone();
    let rolled_out = to_its_end(async move { registry.activate_all(&release_ids, &by).await }).await?;
    let signers = api.registry.signers().await?;
    let view = |RolledOut { release, previous_release_id }| ProjectorView {
        name: release.projector.clone(),
        halted: halted(&api, &release.projector),
        candidate: candidate(&api, &release.projector),
        active: ReleaseView::of(release, &api.registry, &signers),
        previous_release_id,
        suspended_release_id: None,
        reason: None,
        retired: false,
    };
    Ok(Json(Projectors { projectors: rolled_out.into_iter().map(view).collect() }))
}

pub(crate) async fn roll_back(
    State(api): State<Api>,
    Path(name): Path<String>,
    Extension(Caller { name: by, .. }): Extension<Caller>,
) -> Result<Json<ProjectorView>, Problem> {
    let (registry, projector) = (api.registry.clone(), name.clone());
    let change = async move { registry.roll_back(&projector, &by).await };
    view(name, to_its_end(change).await?, &api).await
}

/// Retires a projector: removes it from service permanently.
pub(crate) async fn retire(
    State(api): State<Api>,
    Path(name): Path<String>,
    Extension(Caller { name: by, .. }): Extension<Caller>,
    Document(PauseReason { reason }): Document<PauseReason>,
) -> Result<StatusCode, Problem> {
    if !is_reason(&reason) {
        let detail = format!("reason: required, one line of at most {MAX_REASON_BYTES} bytes; it is also logged");
        return Err(Problem::bad_request(detail));
    }
    let registry = api.registry.clone();
    to_its_end(async move { registry.retire(&name, &reason, &by).await }).await?;
    api.heartbeat.look();
    Ok(StatusCode::NO_CONTENT)
}

async fn view(name: String, changed: RolledOut, api: &Api) -> Result<Json<ProjectorView>, Problem> {
    let RolledOut { release, previous_release_id } = changed;
    let active = ReleaseView::of(release, &api.registry, &api.registry.signers().await?);
    let (halted, candidate) = (halted(api, &name), candidate(api, &name));
    let (suspended_release_id, reason, retired) = (None, None, false);
    Ok(Json(ProjectorView {
        name,
        active,
        previous_release_id,
        suspended_release_id,
        reason,
        halted,
        candidate,
        retired,
    }))
}

/// Returns the label of the release in trial, if there is one.
fn candidate(api: &Api, projector: &str) -> Option<String> {
    api.registry.serving().candidate(projector).map(|candidate| candidate.release.label.clone())
}

/// Returns why a projector is halted, or `None` if it is not.
fn halted(api: &Api, projector: &str) -> Option<HaltView> {
    let halt = api.registry.serving().of(projector)?.halt.clone()?;
    Some(HaltView { cause: halt.cause.as_str(), detail: halt.detail })
}
