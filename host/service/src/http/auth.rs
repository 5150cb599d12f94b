//! Who may do what. Without a tokens file the listener is on the loopback interface only, and whoever is there is an
//! operator.

use axum::extract::{Request, State};
use axum::http::{Method, header};
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
        (&Method::GET, _) => Role::Viewer,
        (_, "/v1/events") => Role::Publisher,
        _ => Role::Operator,
    };
    let caller = match &api.tokens {
        None => "local".to_owned(),
        Some(tokens) => {
            let token = request
                .headers()
                .get(header::AUTHORIZATION)
                .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
            match token.and_then(|token| tokens.find(token)) {
                Some((name, role)) if role >= needed => name.to_owned(),
                Some(_) => {
                    return Problem::unauthorized("this token's role does not allow that; ask an operator")
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
