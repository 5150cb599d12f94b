//! Error responses as RFC 9457 problem details: what happened, to what, and what to do.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use belfry_sandbox::{NotAdmitted, Reason};
use belfry_store::StoreError;
use serde::Serialize;
use uuid::Uuid;

use crate::incoming::NotAnEvent;
use crate::kafka::Unsendable;
use crate::pipeline::IngestError;
use crate::releases::ReleaseError;

/// `Retry-After` for an overloaded service, in seconds.
const RETRY_AFTER_SECONDS: &str = "1";
/// `Retry-After` for a client with too many denied requests, in seconds.
const DENIED_SECONDS: &str = "60";

/// An error response.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    #[serde(serialize_with = "as_number")]
    status: StatusCode,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<Uuid>,
}

fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    pub(crate) fn new(name: &str, title: &'static str, status: StatusCode, detail: impl Into<String>) -> Self {
        let kind = format!("urn:belfry:problem:{name}");
        Self { kind, title, status, detail: detail.into(), pointer: None, event_id: None }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new("not-found", "Not found", StatusCode::NOT_FOUND, detail)
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new("bad-request", "Bad request", StatusCode::BAD_REQUEST, detail)
    }

    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new("unauthorized", "Unauthorized", StatusCode::UNAUTHORIZED, detail)
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new("unauthorized", "Forbidden", StatusCode::FORBIDDEN, detail)
    }

    pub(crate) fn too_many_denials() -> Self {
        let detail =
            "too many requests from this address were denied in the last minute; check the token, and wait a minute";
        Self::new("unauthorized", "Too many denied requests", StatusCode::TOO_MANY_REQUESTS, detail)
    }

    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        Self::new("event-too-large", "Body too large", StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    pub(crate) fn media_type(detail: impl Into<String>) -> Self {
        Self::new("unsupported-media-type", "Unsupported media type", StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
    }

    pub(crate) fn slow_body() -> Self {
        let detail = "the body arrived too slowly; send it again at 64 KiB per second or faster (http.body_timeout_ms)";
        Self::new("bad-request", "Request timeout", StatusCode::REQUEST_TIMEOUT, detail)
    }

    pub(crate) fn overloaded(detail: impl Into<String>) -> Self {
        Self::new("overloaded", "Overloaded", StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    pub(crate) fn retired(detail: impl Into<String>) -> Self {
        Self::new("position-retired", "Position not in the log", StatusCode::GONE, detail)
    }

    /// Prefixes the detail with what it is about.
    pub(crate) fn about(self, what: &str) -> Self {
        Self { detail: format!("{what}: {}", self.detail), ..self }
    }

    pub(crate) fn unsendable(event_id: Uuid, unsendable: &Unsendable) -> Self {
        let detail = unsendable.to_string();
        let problem = match unsendable {
            Unsendable::UnknownTopic { .. } => {
                Self::new("unknown-topic", "Unknown topic", StatusCode::UNPROCESSABLE_ENTITY, detail)
            }
            Unsendable::TooLarge { .. } => {
                Self::new("event-too-large", "Event too large", StatusCode::PAYLOAD_TOO_LARGE, detail)
            }
            Unsendable::NotATopic | Unsendable::Notifications { .. } => Self {
                pointer: Some("/event_type".into()),
                ..Self::new("malformed-event", "Malformed event", StatusCode::BAD_REQUEST, detail)
            },
        };
        Self { event_id: Some(event_id), ..problem }
    }

    pub(crate) fn unstorable(event_id: Uuid, reason: &str) -> Self {
        let detail = format!("the database cannot store this event: {reason}; correct it, and send it again");
        Self {
            event_id: Some(event_id),
            ..Self::new("malformed-event", "Malformed event", StatusCode::BAD_REQUEST, detail)
        }
    }

    pub(crate) fn failed(event_id: Uuid) -> Self {
        let detail =
            "this event caused an internal error in belfry and is not recorded; please report this bug with the event";
        let problem = Self::new("internal", "Internal error", StatusCode::INTERNAL_SERVER_ERROR, detail);
        Self { event_id: Some(event_id), ..problem }
    }

    pub(crate) fn conflict(event_id: Uuid) -> Self {
        let detail = "an event with this id and different content already exists; give a new event a new id";
        let problem = Self::new("conflicting-event", "Conflicting event", StatusCode::CONFLICT, detail);
        Self { event_id: Some(event_id), ..problem }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(DENIED_SECONDS));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        response
    }
}

/// Implements the conversion of rejections by the framework, so that they have the same form as all others.
macro_rules! bad_request {
    ($($rejection:ty),*) => {
        $(impl From<$rejection> for Problem {
            fn from(rejection: $rejection) -> Self {
                Self::bad_request(rejection.body_text())
            }
        })*
    };
}

bad_request!(QueryRejection, PathRejection);

impl From<NotAnEvent> for Problem {
    fn from(error: NotAnEvent) -> Self {
        let event_id = error.event_id();
        match error {
            NotAnEvent::Malformed(malformed) => Self {
                pointer: Some(malformed.pointer),
                event_id,
                ..Self::new("malformed-event", "Malformed event", StatusCode::BAD_REQUEST, malformed.detail)
            },
            NotAnEvent::TooLarge { .. } => {
                let detail = error.to_string();
                Self::new("event-too-large", "Event too large", StatusCode::PAYLOAD_TOO_LARGE, detail)
            }
        }
    }
}

impl From<IngestError> for Problem {
    fn from(error: IngestError) -> Self {
        Self::overloaded(format!("{error}; send it again, retrying is safe"))
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if let StoreError::Refused(reason) = error {
            return Self::bad_request(format!("the database rejects a value of this request: {reason}"));
        }
        tracing::error!(%error, "a request failed");
        Self::overloaded("the database cannot be read; try again")
    }
}

impl From<ReleaseError> for Problem {
    fn from(error: ReleaseError) -> Self {
        let detail = error.to_string();
        match error {
            ReleaseError::NotAdmitted(NotAdmitted { reason, .. }) => {
                let (name, title) = match reason {
                    Reason::NotAComponent => ("not-a-component", "Not a component"),
                    Reason::OverLimit => ("over-limit", "Over a limit"),
                    Reason::ForbiddenImport => ("forbidden-import", "Forbidden import"),
                    Reason::ContractMismatch => ("contract-mismatch", "Contract mismatch"),
                    Reason::BadDescription => ("contract-mismatch", "Bad description"),
                    Reason::BadConfiguration => ("bad-configuration", "Bad configuration"),
                    Reason::NotCompiled => ("not-compiled", "Not compiled"),
                    Reason::NotDeterministic => ("not-deterministic", "Not deterministic"),
                    Reason::NoCompiler => {
                        tracing::error!(error = detail, "cannot compile components");
                        return Self::overloaded("components cannot be compiled now; see the service's log");
                    }
                };
                Self::new(name, title, StatusCode::UNPROCESSABLE_ENTITY, detail)
            }
            ReleaseError::Refused(_) => Self::new("refused", "Refused", StatusCode::CONFLICT, detail),
            ReleaseError::VersionTaken { .. } => {
                Self::new("version-taken", "Version taken", StatusCode::CONFLICT, detail)
            }
            ReleaseError::NotVouchedFor(_) => {
                Self::new("not-vouched-for", "Not vouched for", StatusCode::UNPROCESSABLE_ENTITY, detail)
            }
            ReleaseError::Changed(_) => {
                Self::new("component-changed", "Component changed", StatusCode::UNPROCESSABLE_ENTITY, detail)
            }
            ReleaseError::Twice(..) => Self::bad_request(detail),
            ReleaseError::Unknown(_) => Self::new("unknown-release", "Unknown release", StatusCode::NOT_FOUND, detail),
            ReleaseError::Store(error) => error.into(),
        }
    }
}

pub(crate) async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not support {method}; see /openapi.json", uri.path());
    Problem::new("bad-request", "Method not allowed", StatusCode::METHOD_NOT_ALLOWED, detail)
}

pub(crate) async fn no_such_page(uri: Uri) -> Problem {
    Problem::not_found(format!("{} does not exist; see /openapi.json", uri.path()))
}
