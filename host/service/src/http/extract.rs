//! Extractors for request parts. All rejections have the same form, a [`Problem`].

use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::BytesMut;
use futures_util::StreamExt;
use hyper::body::Body as _;
use serde::de::DeserializeOwned;

use super::listener::BodyError;
use super::problem::Problem;

/// Maximum size of a JSON request body, in bytes.
pub(super) const MAX_DOCUMENT_BYTES: usize = 64 << 10;
/// Maximum nesting depth of objects and arrays in a JSON request body.
const MAX_DEPTH: usize = 100;

/// The path parameters.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path: Result<_, PathRejection> = axum::extract::Path::from_request_parts(parts, state).await;
        Ok(Self(path?.0))
    }
}

/// The query parameters.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query: Result<_, QueryRejection> = axum::extract::Query::from_request_parts(parts, state).await;
        Ok(Self(query?.0))
    }
}

/// A body that is one JSON document.
pub(crate) struct Document<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Document<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let kind = media_type(request.headers());
        if kind != "application/json" && !(kind.starts_with("application/") && kind.ends_with("+json")) {
            return Err(Problem::media_type("send JSON, with Content-Type: application/json"));
        }
        let body = read(request.into_body(), MAX_DOCUMENT_BYTES, "send at most 64 KiB").await?;
        document(&body).map(Self).map_err(|problem| problem.about("the body"))
    }
}

/// Parses a JSON document, and rejects strings that cannot be stored.
pub(super) fn document<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    check(bytes)?;
    serde_json::from_slice(bytes).map_err(|error| Problem::bad_request(error.to_string()))
}

/// Rejects documents that are nested too deeply, and U+0000, which the database cannot store. The parser checks the syntax.
fn check(bytes: &[u8]) -> Result<(), Problem> {
    let (mut depth, mut quoted) = (0_usize, false);
    let mut rest = bytes;
    while let [byte, after @ ..] = rest {
        rest = after;
        match byte {
            b'\\' if quoted => {
                if rest.starts_with(b"u0000") {
                    return Err(Problem::bad_request("strings must not contain the character U+0000"));
                }
                rest = rest.get(1..).unwrap_or_default();
            }
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => depth += 1,
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            let detail = format!("nested too deeply; objects and arrays may be nested {MAX_DEPTH} levels deep");
            return Err(Problem::bad_request(detail));
        }
    }
    Ok(())
}

/// Reads a whole body, up to a limit in bytes. `advice` is the error's detail.
pub(super) async fn read(body: Body, limit: usize, advice: &str) -> Result<Bytes, Problem> {
    let hint = body.size_hint();
    if hint.lower() > limit as u64 {
        return Err(Problem::too_large(advice));
    }
    let mut parts = body.into_data_stream();
    let mut whole = BytesMut::with_capacity(hint.lower() as usize);
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| broken(&error, error.to_string()))?;
        if whole.len() + part.len() > limit {
            return Err(Problem::too_large(advice));
        }
        whole.extend_from_slice(&part);
    }
    Ok(whole.freeze())
}

/// Returns the problem for a body that cannot be read to its end.
pub(super) fn broken(error: &(dyn std::error::Error + 'static), detail: String) -> Problem {
    match BodyError::of(error) {
        Some(BodyError::TooSlow) => Problem::slow_body(),
        Some(BodyError::NoMemory) => {
            Problem::overloaded("the bodies of other requests use all available memory; retry in a moment")
        }
        None => Problem::bad_request(format!("the body: {detail}")),
    }
}

/// Returns the media type of a body in lower case and without parameters; empty if the request has none.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Rejects requests that no route accepts.
pub(super) fn check_request(request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    for name in [header::HOST, header::AUTHORIZATION, header::CONTENT_TYPE] {
        if headers.get_all(&name).iter().count() > 1 {
            return Err(Problem::bad_request(format!("{name}: occurs more than once; send it once")));
        }
    }
    let coded = |value: &header::HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
    if headers.get_all(header::CONTENT_ENCODING).iter().any(coded) {
        return Err(Problem::media_type("content-encoding: not supported; send the body unencoded"));
    }
    // U+0000 has only one encoding in a URL, and no stored value contains it.
    if request.uri().path_and_query().is_some_and(|address| address.as_str().contains("%00")) {
        return Err(Problem::bad_request("the URL must not contain the character U+0000"));
    }
    Ok(())
}

/// Rejects a body whose announced length exceeds the limit, before any of it is read.
pub(super) fn check_length(request: &Request, limit: usize) -> Result<(), Problem> {
    if request.body().size_hint().lower() <= limit as u64 {
        return Ok(());
    }
    Err(Problem::too_large(format!("send at most {} KiB at once", limit >> 10)))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn limits_are_called_limits() {
        let refused = |text: &str| document::<Value>(text.as_bytes()).err().map(|problem| format!("{problem:?}"));
        assert_eq!(refused(r#"{"a": "[[[[\"\\u0000"}"#), None, "brackets and escaped backslashes in a string are text");
        assert!(refused(r#"{"a": "\u0000"}"#).is_some_and(|problem| problem.contains("U+0000")));
        assert!(refused(&"[".repeat(101)).is_some_and(|problem| problem.contains("nested too deeply")));
        assert!(refused("{").is_some_and(|problem| problem.contains("EOF")));
    }
}
