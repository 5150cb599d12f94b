use std::time::Duration;

use reqwest::StatusCode;
use reqwest::multipart::{Form, Part};
use serde::Deserialize;
use serde_json::json;

use super::wire::{Release, Rollout};
use super::{Client, ClientError};

/// The service compiles a component before it responds, which takes time for a large one.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(600);

/// A component to upload as a release.
#[derive(Clone, Debug, Default)]
pub struct Upload {
    /// The component's bytes.
    pub component: Vec<u8>,
    /// The configuration, the text of a JSON object; `None` for the rule's defaults.
    pub config: Option<String>,
    /// The reason for the release.
    pub note: Option<String>,
    /// The component's signature.
    pub signature: Option<String>,
}

/// The result of an upload.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// The release.
    pub release: Release,
    /// False if a release of the same component with the same configuration existed before.
    pub is_new: bool,
}

#[derive(Deserialize)]
struct Releases {
    releases: Vec<Release>,
}

#[derive(Deserialize)]
struct Projectors {
    projectors: Vec<Rollout>,
}

impl Client {
    /// Returns all releases, or only those of `projector`, oldest first.
    pub async fn releases(&self, projector: Option<&str>) -> Result<Vec<Release>, ClientError> {
        let mut url = self.url(&["v1", "releases"]);
        if let Some(projector) = projector {
            url.query_pairs_mut().append_pair("projector", projector);
        }
        self.get::<Releases>(url).await.map(|listed| listed.releases)
    }

    /// Returns a release by its number.
    pub async fn release(&self, release_id: i64) -> Result<Release, ClientError> {
        self.get(self.url(&["v1", "releases", &release_id.to_string()])).await
    }

    /// Uploads a component as a release, without activating it.
    pub async fn push(&self, upload: Upload) -> Result<Pushed, ClientError> {
        let part = |part: Part, media_type| part.mime_str(media_type).expect("a valid media type");
        let component = part(Part::bytes(upload.component).file_name("component.wasm"), "application/wasm");
        let mut form = Form::new().part("component", component);
        if let Some(config) = upload.config {
            form = form.part("config", part(Part::text(config), "application/json"));
        }
        if let Some(note) = upload.note {
            form = form.text("note", note);
        }
        if let Some(signature) = upload.signature {
            form = form.text("signature", signature);
        }
        let request = self.http.post(self.url(&["v1", "releases"])).multipart(form);
        let response = self.send(request.timeout(UPLOAD_TIMEOUT)).await?;
        let is_new = response.status() == StatusCode::CREATED;
        Ok(Pushed { release: self.decode(&self.body(response).await?)?, is_new })
    }

    /// Returns the rules with their active releases.
    pub async fn projectors(&self) -> Result<Vec<Rollout>, ClientError> {
        self.get::<Projectors>(self.url(&["v1", "projectors"])).await.map(|listed| listed.projectors)
    }

    /// Activates a release: it serves its rule from now on.
    pub async fn activate(&self, projector: &str, release_id: i64) -> Result<Rollout, ClientError> {
        let url = self.url(&["v1", "projectors", projector, "rollout"]);
        self.answer(self.http.post(url).json(&json!({ "release_id": release_id }))).await
    }

    /// Activates several releases together: they serve their rules from the same event on.
    pub async fn activate_all(&self, release_ids: &[i64]) -> Result<Vec<Rollout>, ClientError> {
        let request = self.http.post(self.url(&["v1", "rollout"])).json(&json!({ "release_ids": release_ids }));
        self.answer::<Projectors>(request).await.map(|listed| listed.projectors)
    }

    /// Retires a rule for good.
    pub async fn retire(&self, projector: &str, reason: &str) -> Result<(), ClientError> {
        let url = self.url(&["v1", "projectors", projector, "retire"]);
        self.send(self.http.post(url).json(&json!({ "reason": reason }))).await.map(drop)
    }

    /// Rolls back to the release that was active before.
    pub async fn roll_back(&self, projector: &str) -> Result<Rollout, ClientError> {
        self.answer(self.http.post(self.url(&["v1", "projectors", projector, "rollback"]))).await
    }
}
