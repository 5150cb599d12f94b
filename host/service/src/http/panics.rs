use std::panic::AssertUnwindSafe;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;

use super::problem::Problem;
use crate::task::named;

/// Answers a request whose handler panics with 500. Other requests are not affected. The panic hook counts the panic.
pub(super) async fn caught(request: Request, next: Next) -> Response {
    match AssertUnwindSafe(named("http", next.run(request))).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            let detail = "this request caused an internal error in belfry; please report this bug with the request";
            Problem::new("internal", "Internal error", StatusCode::INTERNAL_SERVER_ERROR, detail).into_response()
        }
    }
}
