//! Lets in whoever has the role that a route asks for. Where no tokens are required the listener is on the loopback
//! interface only, and whoever is there may do everything.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Api;
use super::problem::Problem;
use crate::access::{Denied, Role};

pub(crate) use crate::access::Caller;

pub(crate) async fn authorize(State((api, needed)): State<(Api, Role)>, mut request: Request, next: Next) -> Response {
    // What is there and is no token is nobody's.
    let bearer = |value: &HeaderValue| value.to_str().ok()?.strip_prefix("Bearer ").map(str::to_owned);
    let token = request.headers().get(header::AUTHORIZATION).map(|value| bearer(value).unwrap_or_default());
    if token.is_none() && !api.access.required() && !is_local(request.headers()) {
        let detail = "without tokens only programs on this machine are served, not web pages; \
                      send Host: localhost and no Origin, or configure http.require_token";
        return Problem::forbidden(detail).into_response();
    }
    match api.access.identify(token.as_deref()).await {
        Ok(caller) if caller.role >= needed => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Ok(caller) => {
            let detail =
                format!("this token's role is {}, and this needs {needed}; ask an admin for another", caller.role);
            Problem::forbidden(detail).into_response()
        }
        Err(Denied::Missing) => {
            let detail = "send a token as Authorization: Bearer TOKEN; admins make them with `belfry token create`";
            Problem::unauthorized(detail).into_response()
        }
        Err(Denied::Unknown) => {
            let detail = "the token is not known, or does not count any more: it expired or was revoked";
            Problem::unauthorized(detail).into_response()
        }
        Err(Denied::Unavailable) => Problem::overloaded("tokens cannot be checked now; try again").into_response(),
    }
}

/// A browser on this machine may be made to send requests by any page that it shows: it tells the page's origin, and
/// where a foreign name was made to lead here, it tells that name.
fn is_local(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_loopback = |name: &str| name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    !headers.contains_key(header::ORIGIN) && (name.eq_ignore_ascii_case("localhost") || is_loopback(name))
}
