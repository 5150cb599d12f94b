//! Who may do what. Without a tokens file the listener is on the loopback interface only, and whoever is there is an
//! operator.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Api;
use super::problem::Problem;
use crate::config::Role;

/// The name of whoever made a request, as releases keep it.
#[derive(Clone)]
pub(crate) struct Caller(pub(crate) String);

pub(crate) async fn authorize(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let needed = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD | &Method::OPTIONS, _) => Role::Viewer,
        (_, "/v1/events") => Role::Publisher,
        _ => Role::Operator,
    };
    let caller = match &api.tokens {
        None if is_local(request.headers()) => "local".to_owned(),
        None => {
            let detail = "without a tokens file only programs on this machine are served, not web pages; \
                          send Host: localhost and no Origin, or configure http.tokens_file";
            return Problem::forbidden(detail).into_response();
        }
        Some(tokens) => {
            let token = request
                .headers()
                .get(header::AUTHORIZATION)
                .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
            match token.and_then(|token| tokens.find(token)) {
                Some((name, role)) if role >= needed => name.to_owned(),
                Some(_) => {
                    return Problem::forbidden("this token's role does not allow that; ask an operator")
                        .into_response();
                }
                None => {
                    let detail = "send a token that the tokens file knows, as Authorization: Bearer TOKEN";
                    return Problem::unauthorized(detail).into_response();
                }
            }
        }
    };
    request.extensions_mut().insert(Caller(caller));
    next.run(request).await
}

/// A browser on this machine may be made to send requests by any page that it shows: it tells the page's origin, and
/// where a foreign name was made to lead here, it tells that name.
fn is_local(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_loopback = |name: &str| name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    !headers.contains_key(header::ORIGIN) && (name.eq_ignore_ascii_case("localhost") || is_loopback(name))
}
