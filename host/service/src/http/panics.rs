use std::panic::AssertUnwindSafe;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;

use super::problem::Problem;
use crate::task::named;

/// A handler that panics answers, and only its own request; the panic is counted.
pub(super) async fn caught(request: Request, next: Next) -> Response {
    match AssertUnwindSafe(named("http", next.run(request))).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            let detail = "belfry failed on this request, which is a fault of belfry's; report it, with the request";
            Problem::new("internal", "Internal error", StatusCode::INTERNAL_SERVER_ERROR, detail).into_response()
        }
    }
}
