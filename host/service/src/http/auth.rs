//! Authenticates requests and checks that their role allows the route. If no tokens are required, the listener is on the
//! loopback interface only, and every program on this machine may do everything.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Api;
use super::problem::Problem;
use crate::access::{Denied, Role};

pub(crate) use crate::access::Caller;

pub(crate) async fn authorize(State((api, needed)): State<(Api, Role)>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let address = peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let token = bearer(request.headers());
    if api.access.denials().must_wait(address, token.as_deref()) {
        count_denied(StatusCode::TOO_MANY_REQUESTS);
        return Problem::too_many_denials().into_response();
    }
    let local = is_local(&request);
    let problem = match admit(&api, needed, local, token.as_deref()).await {
        Ok(caller) => {
            if let Some(token) = &token {
                api.access.denials().let_in(address, token);
            }
            if caller.role.may(needed) {
                request.extensions_mut().insert(caller);
                return next.run(request).await;
            }
            let role = caller.role;
            let detail =
                format!("the role of this token is {role}, but {needed} is required; ask an admin for another token");
            let problem = Problem::forbidden(detail);
            return denied(&api, &request, address, Some(&caller.name), problem);
        }
        Err(problem) => problem,
    };
    denied(&api, &request, address, None, problem)
}

/// Identifies the caller of a request.
async fn admit(api: &Api, needed: Role, local: bool, token: Option<&str>) -> Result<Caller, Problem> {
    if token.is_none() && !api.access.required() && !local {
        let detail = "without tokens, only programs on this machine are served, not web pages; \
                      send Host: localhost and no Origin, or set http.require_token";
        return Err(Problem::forbidden(detail));
    }
    api.access.identify(token).await.map_err(|denied| match denied {
        Denied::Missing => Problem::unauthorized(format!(
            "a token with the role {needed} is required; send it as Authorization: Bearer TOKEN; admins create tokens with \
             `belfry token create`"
        )),
        Denied::Unknown => Problem::unauthorized("the token is unknown, expired or revoked"),
        Denied::Unavailable => Problem::overloaded("tokens cannot be checked now; try again"),
    })
}

/// Returns the response to a denied request, and counts and logs the denial.
fn denied(api: &Api, request: &Request, address: IpAddr, caller: Option<&str>, problem: Problem) -> Response {
    let status = problem.status();
    if !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        return problem.into_response();
    }
    let too_many = api.access.denials().denied(address);
    if too_many > 0 {
        if too_many == 1 {
            tracing::warn!(%address, "too many denied requests from this address; it is throttled for a minute");
        }
        count_denied(StatusCode::TOO_MANY_REQUESTS);
        return Problem::too_many_denials().into_response();
    }
    count_denied(status);
    // The route only: the path may contain a person's name.
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let (status, method) = (status.as_u16(), request.method());
    tracing::warn!(%address, status, %method, route, caller, "request denied");
    problem.into_response()
}

fn count_denied(status: StatusCode) {
    let status = match status {
        StatusCode::UNAUTHORIZED => "401",
        StatusCode::FORBIDDEN => "403",
        _ => "429",
    };
    metrics::counter!("belfry_denied_total", "status" => status).increment(1);
}

/// Returns the bearer token of a request. A malformed header yields an empty token, which matches none.
fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?;
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    Some(token.unwrap_or_default())
}

/// Returns whether a request comes from a program on this machine and not from a web page. Any page can make a browser send
/// requests here. The browser then sends the page's `Origin`, and after DNS rebinding the foreign name as `Host`.
fn is_local(request: &Request) -> bool {
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    // The request line may name the host too, and takes precedence over the header.
    let named = [request.uri().authority(), host.as_ref()];
    let names_us = named.iter().flatten().all(|authority| is_this_machine(authority.host()));
    !headers.contains_key(header::ORIGIN) && named.iter().any(Option::is_some) && names_us
}

fn is_this_machine(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let is_loopback = |name: &str| name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
    name.eq_ignore_ascii_case("localhost") || is_loopback(name.trim_matches(['[', ']']))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(host: &str) -> Request {
        Request::builder().uri("/v1/events").header("host", host).body(Body::empty()).expect("a request")
    }

    #[test]
    fn this_machine_has_several_names() {
        for host in [
            "localhost",
            "LOCALHOST:7341",
            "localhost.",
            "localhost.:80",
            "127.0.0.1",
            "127.1.2.3:1",
            "[::1]",
            "[::1]:7341",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(is_local(&request(host)), "{host}");
        }
        for host in ["", "example.com", "localhost.example.com", "localhost..", "10.0.0.1", "[::2]", "::1", "a b"] {
            assert!(!is_local(&request(host)), "{host}");
        }
        let elsewhere = Request::builder().uri("http://example.com/v1/events").header("host", "localhost");
        assert!(!is_local(&elsewhere.body(Body::empty()).expect("a request")));
    }

    #[test]
    fn the_scheme_of_a_token_is_read_in_any_case() {
        let bearer_of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, text.parse().expect("a value"));
            bearer(&headers)
        };
        for text in ["Bearer token", "bearer token", "BEARER  token "] {
            assert_eq!(bearer_of(text).as_deref(), Some("token"), "{text}");
        }
        for text in ["Basic dXNlcg==", "token", "Bearer"] {
            assert_eq!(bearer_of(text).as_deref(), Some(""), "{text}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
