//! A typed client of Belfry's HTTP API.
//!
//! [`Client`] has a method for each request; the API's types are in [`wire`]. [`Feed`] follows the notifications and
//! reconnects automatically.

mod changes;
mod dead_letters;
mod error;
mod feed;
mod parked;
mod pauses;
mod problem;
mod publish;
mod releases;
pub mod replay_report;
mod replays;
mod sinks;
mod tokens;
mod trials;
pub mod wire;

use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, Url};
use serde::de::DeserializeOwned;
use uuid::Uuid;

pub use changes::{Change, ChangeQuery};
pub use dead_letters::{DeadLetter, DeadLetterGroup, DeadLetterQuery, RedriveSummary, SettledDeadLetter};
pub use error::ClientError;
pub use feed::{Feed, FeedItem, FeedNotification, FeedQuery, Start};
pub use parked::ParkedQuery;
pub use problem::Problem;
pub use releases::{Pushed, Upload};
pub use replays::{ReplayProgress, ReplayQuery};
pub use trials::{Trial, TrialComparison, TrialLimits, TrialSample, TrialSide, TrialStep};

use wire::{EventHistory, NotificationHistory, Rerun, Reruns};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than the service makes any request wait for its turn.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// A client of one Belfry. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    has_token: bool,
}

impl Client {
    /// Creates a client for the Belfry at `url`, with `token` if given. Sends nothing yet.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self, ClientError> {
        let base = parse_base(url)?;
        // reqwest is built without a TLS crypto provider: Belfry uses ring, as for its database and Redis. A second call
        // has no effect.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| ClientError::Token)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let mut http = reqwest::Client::builder()
            .default_headers(headers)
            .user_agent(concat!("belfry/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            // A redirect must not send the token to another server.
            .redirect(reqwest::redirect::Policy::none());
        if base.scheme() == "http" {
            // TLS is not used, and reading the system's certificates takes time.
            http = http.tls_certs_only([]);
        }
        if is_loopback(&base) {
            // A proxy cannot reach a service that listens on this machine only.
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| ClientError::unsendable(&base, &error))?;
        Ok(Self { http, base, has_token: token.is_some() })
    }

    /// Returns true if others on the network can read the token: it is sent to another machine, unencrypted.
    pub fn exposes_its_token(&self) -> bool {
        self.has_token && self.base.scheme() == "http" && !is_loopback(&self.base)
    }

    /// Returns the address without a trailing slash.
    pub fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Returns an event and everything that resulted from it.
    pub async fn event(&self, event_id: Uuid) -> Result<EventHistory, ClientError> {
        self.get(self.url(&["v1", "events", &event_id.to_string()])).await
    }

    /// Projects an event again with each release that projected it, and returns the results.
    pub async fn rerun(&self, event_id: Uuid) -> Result<Vec<Rerun>, ClientError> {
        let url = self.url(&["v1", "events", &event_id.to_string(), "rerun"]);
        self.answer::<Reruns>(self.http.post(url)).await.map(|answer| answer.reruns)
    }

    /// Returns a notification, issued or withheld, and its cause.
    pub async fn notification(&self, notification_id: Uuid) -> Result<NotificationHistory, ClientError> {
        self.get(self.url(&["v1", "notifications", &notification_id.to_string()])).await
    }

    /// Returns the service's metrics, if the address is the one for operators.
    pub async fn metrics(&self) -> Result<String, ClientError> {
        let response = self.send(self.http.get(self.url(&["metrics"])).timeout(REQUEST_TIMEOUT)).await?;
        Ok(String::from_utf8_lossy(&self.body(response).await?).into_owned())
    }

    /// Returns the address of a resource. Encodes the segments of its path.
    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("an http address has a path").pop_if_empty().extend(path);
        url
    }

    async fn get<T: DeserializeOwned>(&self, url: Url) -> Result<T, ClientError> {
        self.answer(self.http.get(url)).await
    }

    /// Sends a request and decodes the response.
    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let response = self.send(request.timeout(REQUEST_TIMEOUT)).await?;
        self.decode(&self.body(response).await?)
    }

    /// Sends a request. Returns an error for every response but a success.
    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|error| ClientError::unsendable(&self.base, &error))?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(response).await) }
    }

    async fn body(&self, response: Response) -> Result<Vec<u8>, ClientError> {
        let body = response.bytes().await.map_err(|error| ClientError::interrupted(&self.base, &error))?;
        Ok(body.into())
    }

    fn decode<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| self.foreign(&error.to_string()))
    }

    fn foreign(&self, detail: &str) -> ClientError {
        ClientError::Foreign { url: self.address().to_owned(), detail: detail.to_owned() }
    }

    async fn refusal(&self, response: Response) -> ClientError {
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = match self.body(response).await {
            Ok(body) => body,
            Err(error) => return error,
        };
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => ClientError::Refused {
                problem: Box::new(Problem { status: status.as_u16(), ..problem }),
                retry_after: retry_after.map(Duration::from_secs),
            },
            // A proxy in between may send a body of its own format.
            Err(_) if status.is_server_error() => ClientError::Refused {
                problem: Box::new(Problem::unexplained(status)),
                retry_after: retry_after.map(Duration::from_secs),
            },
            Err(_) => self.foreign(&format!("status {status}")),
        }
    }
}

fn parse_base(url: &str) -> Result<Url, ClientError> {
    let wrong = |reason: &str| ClientError::Address { url: url.to_owned(), reason: reason.to_owned() };
    let base = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
    match base.scheme() {
        "http" | "https" => {}
        _ => return Err(wrong("it must begin with http:// or https://")),
    }
    if !base.username().is_empty() || base.password().is_some() {
        // Not quoted: it would show the password.
        let reason = "it must not contain a user name or password, use --token-file".to_owned();
        return Err(ClientError::Address { url: "this".into(), reason });
    }
    if base.query().is_some() || base.fragment().is_some() {
        return Err(wrong("it must not have a query or a fragment"));
    }
    Ok(base)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let name = host.trim_end_matches('.');
    name == "localhost" || name.ends_with(".localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(url: &str) -> Client {
        Client::new(url, None).expect("an address")
    }

    #[test]
    fn paths_are_built_below_the_address() {
        for base in ["http://localhost:7341", "http://localhost:7341/"] {
            let url = client(base).url(&["v1", "projectors", "a/b c"]);
            assert_eq!(url.as_str(), "http://localhost:7341/v1/projectors/a%2Fb%20c");
        }
        assert_eq!(client("http://h/belfry/").url(&["v1"]).as_str(), "http://h/belfry/v1");
        assert_eq!(client("http://127.0.0.1:7341").address(), "http://127.0.0.1:7341");
    }

    #[test]
    fn addresses_that_cannot_work_are_refused() {
        for url in ["localhost:7341", "ftp://h", "", "http://h/?a=b"] {
            assert!(matches!(Client::new(url, None), Err(ClientError::Address { .. })), "{url}");
        }
        let error = Client::new("http://anna:secret@h", None).expect_err("a password");
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn a_token_must_be_sendable() {
        assert!(Client::new("http://h", Some("abc")).is_ok());
        assert!(matches!(Client::new("http://h", Some("a\nb")), Err(ClientError::Token)));
    }

    #[test]
    fn a_token_is_exposed_only_in_clear_text_to_another_machine() {
        for (url, token, exposed) in [
            ("http://belfry.example", Some("abc"), true),
            ("http://10.0.0.1:7341", Some("abc"), true),
            ("http://belfry.example", None, false),
            ("https://belfry.example", Some("abc"), false),
            ("http://127.0.0.1:7341", Some("abc"), false),
            ("http://[::1]:7341", Some("abc"), false),
        ] {
            let client = Client::new(url, token).expect("an address");
            assert_eq!(client.exposes_its_token(), exposed, "{url}");
        }
    }

    #[test]
    fn loopback_is_recognised() {
        for (url, loopback) in [
            ("http://127.0.0.1:1", true),
            ("http://[::1]:1", true),
            ("http://localhost", true),
            ("http://localhost.", true),
            ("http://notlocalhost", false),
            ("http://10.0.0.1", false),
            ("http://belfry.example", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).expect("a URL")), loopback, "{url}");
        }
    }
}
