use std::time::Duration;

use reqwest::StatusCode;
use reqwest::multipart::{Form, Part};
use serde::Deserialize;
use serde_json::json;

use super::wire::{Release, Rollout};
use super::{Client, ClientError};

/// Large components are compiled before the answer.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(600);

/// A component to be uploaded as a release.
#[derive(Clone, Debug, Default)]
pub struct Upload {
    /// The component's bytes.
    pub component: Vec<u8>,
    /// The configuration as the text of a JSON object; the rule's defaults if none.
    pub config: Option<String>,
    /// Why it is made.
    pub note: Option<String>,
    /// A signature of the component.
    pub signature: Option<String>,
}

/// A release that is there after an upload.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// The release.
    pub release: Release,
    /// False if the same component with the same configuration was there before.
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
    /// All releases, oldest first; of one rule only, if given.
    pub async fn releases(&self, projector: Option<&str>) -> Result<Vec<Release>, ClientError> {
        let mut url = self.url(&["v1", "releases"]);
        if let Some(projector) = projector {
            url.query_pairs_mut().append_pair("projector", projector);
        }
        self.get::<Releases>(url).await.map(|listed| listed.releases)
    }

    /// One release.
    pub async fn release(&self, release_id: i64) -> Result<Release, ClientError> {
        self.get(self.url(&["v1", "releases", &release_id.to_string()])).await
    }

    /// Upload a component as a release. It does not serve yet.
    pub async fn push(&self, upload: Upload) -> Result<Pushed, ClientError> {
        let part = |part: Part, media_type| part.mime_str(media_type).expect("a media type in its right form");
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

    /// The rules and which release serves each.
    pub async fn projectors(&self) -> Result<Vec<Rollout>, ClientError> {
        self.get::<Projectors>(self.url(&["v1", "projectors"])).await.map(|listed| listed.projectors)
    }

    /// Let a release serve its rule from now on.
    pub async fn activate(&self, projector: &str, release_id: i64) -> Result<Rollout, ClientError> {
        let url = self.url(&["v1", "projectors", projector, "rollout"]);
        self.answer(self.http.post(url).json(&json!({ "release_id": release_id }))).await
    }

    /// Let several releases serve their rules from the same event on.
    pub async fn activate_all(&self, release_ids: &[i64]) -> Result<Vec<Rollout>, ClientError> {
        let request = self.http.post(self.url(&["v1", "rollout"])).json(&json!({ "release_ids": release_ids }));
        self.answer::<Projectors>(request).await.map(|listed| listed.projectors)
    }

    /// Take a rule out for good.
    pub async fn retire(&self, projector: &str, reason: &str) -> Result<(), ClientError> {
        let url = self.url(&["v1", "projectors", projector, "retire"]);
        self.send(self.http.post(url).json(&json!({ "reason": reason }))).await.map(drop)
    }

    /// Let the release serve that served before.
    pub async fn roll_back(&self, projector: &str) -> Result<Rollout, ClientError> {
        self.answer(self.http.post(self.url(&["v1", "projectors", projector, "rollback"]))).await
    }
}
