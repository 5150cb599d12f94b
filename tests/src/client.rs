use std::time::Duration;

use anyhow::{Context, Result, bail};
use eventsource_stream::Eventsource;
use futures_util::{Stream, StreamExt};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::time::timeout;

/// Time limit for a feed's next item.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time limit for a response.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

/// Installs ring as the TLS provider, as the command does. Without it, creating a reqwest client fails, because cargo
/// builds reqwest with the features that the command selects.
pub(crate) fn use_ring() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Sends a GET request to an operations endpoint.
pub(crate) async fn get(url: String) -> Result<Response> {
    use_ring();
    Ok(reqwest::Client::new().get(url).timeout(ANSWERED_WITHIN).send().await?)
}

/// A minimal client of the API.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
}

/// The response to a request.
#[derive(Clone, Debug)]
pub struct Posted {
    /// The HTTP status.
    pub status: StatusCode,
    /// The body; `null` for 204 No Content.
    pub body: Value,
}

/// An item of a feed.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedItem {
    /// Its position in the log; 0 for the item that ends the feed.
    pub position: i64,
    /// The type of the server-sent event: `notification` or `closed`.
    pub kind: String,
    /// The data as JSON.
    pub data: Value,
    /// The data as text.
    pub text: String,
}

impl Client {
    /// Creates a client of the service at this URL.
    pub fn new(url: String) -> Self {
        use_ring();
        Self { http: reqwest::Client::new(), url }
    }

    /// Returns the service's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Posts one event.
    pub async fn post(&self, event: &Value) -> Result<Posted> {
        self.post_text(event.to_string()).await
    }

    /// Posts a body that is one event or an invalid one.
    pub async fn post_text(&self, text: impl Into<reqwest::Body>) -> Result<Posted> {
        let request = self.http.post(format!("{}/v1/events", self.url)).header("content-type", "application/json");
        Self::answer(request.body(text)).await
    }

    /// Posts newline-delimited events. Returns the response to each line.
    pub async fn post_lines(&self, lines: impl Into<reqwest::Body>) -> Result<Vec<Value>> {
        let request = self.http.post(format!("{}/v1/events", self.url)).header("content-type", "application/x-ndjson");
        let response = request.body(lines).timeout(ANSWERED_WITHIN).send().await?;
        let status = response.status();
        let text = response.text().await?;
        if status != StatusCode::OK {
            bail!("{status}: {text}");
        }
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// Sends a GET request.
    pub async fn get(&self, path: &str) -> Result<Posted> {
        Self::answer(self.http.get(format!("{}{path}", self.url))).await
    }

    /// Posts JSON to a path.
    pub async fn post_to(&self, path: &str, body: &Value) -> Result<Posted> {
        Self::answer(self.http.post(format!("{}{path}", self.url)).json(body)).await
    }

    /// Uploads a component.
    pub async fn push(&self, component: &'static [u8], config: &Value) -> Result<Posted> {
        let form = reqwest::multipart::Form::new()
            .part("component", reqwest::multipart::Part::bytes(component))
            .text("config", config.to_string());
        Self::answer(self.http.post(format!("{}/v1/releases", self.url)).multipart(form)).await
    }

    /// Uploads a component and activates the release. Returns the release.
    pub async fn push_and_activate(&self, component: &'static [u8], config: &Value) -> Result<Value> {
        let pushed = self.push(component, config).await?;
        let release_id = pushed.body["release_id"].as_i64().with_context(|| format!("a release: {pushed:?}"))?;
        let projector = pushed.body["projector"].as_str().unwrap_or_default();
        self.activate(projector, release_id).await?;
        Ok(pushed.body)
    }

    /// Activates a release of a projector.
    pub async fn activate(&self, projector: &str, release_id: i64) -> Result<()> {
        let body = serde_json::json!({ "release_id": release_id });
        let activated = self.post_to(&format!("/v1/projectors/{projector}/rollout"), &body).await?;
        if activated.status != StatusCode::OK {
            bail!("not activated: {activated:?}");
        }
        Ok(())
    }

    /// Subscribes to the feed. `query` is, for example, `from=beginning`; `last_event_id` resumes after that position.
    pub async fn feed(
        &self,
        query: &str,
        last_event_id: Option<i64>,
    ) -> Result<impl Stream<Item = Result<FeedItem>> + Unpin + use<>> {
        let mut request = self.http.get(format!("{}/v1/feed?{query}", self.url));
        if let Some(position) = last_event_id {
            request = request.header("last-event-id", position);
        }
        let response = request.send().await?;
        if response.status() != StatusCode::OK {
            bail!("{}: {}", response.status(), response.text().await?);
        }
        Ok(Box::pin(response.bytes_stream().eventsource().map(|event| {
            let event = event?;
            let position = if event.id.is_empty() { 0 } else { event.id.parse()? };
            Ok(FeedItem { position, kind: event.event, data: serde_json::from_str(&event.data)?, text: event.data })
        })))
    }

    /// Returns the next `count` items of a feed.
    pub async fn collect(
        feed: &mut (impl Stream<Item = Result<FeedItem>> + Unpin),
        count: usize,
    ) -> Result<Vec<FeedItem>> {
        let mut items = Vec::with_capacity(count);
        while items.len() < count {
            let next = timeout(PATIENCE, feed.next()).await;
            let next = next.with_context(|| format!("the feed showed {} of {count} items", items.len()))?;
            items.push(next.context("the feed ended")??);
        }
        Ok(items)
    }

    async fn answer(request: RequestBuilder) -> Result<Posted> {
        let response = request.timeout(ANSWERED_WITHIN).send().await?;
        let status = response.status();
        let text = response.text().await?;
        let body = match status {
            StatusCode::NO_CONTENT => Value::Null,
            _ => serde_json::from_str(&text).with_context(|| format!("{status}: {text}"))?,
        };
        Ok(Posted { status, body })
    }
}
