//! Tokens: make, list, revoke. A token itself is in the answer to the request that makes it, and nowhere else.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};

use super::Api;
use super::auth::Caller;
use super::extract::{Document, Path};
use super::problem::Problem;
use crate::access::{self, IssueError, Issued, NewAccess, Role, TokenView};

/// A token to be made.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    name: String,
    role: Role,
    expires_in_seconds: Option<u64>,
}

#[derive(Serialize)]
pub(crate) struct Tokens {
    tokens: Vec<TokenView>,
}

/// What was made.
#[derive(Serialize)]
pub(crate) struct Made {
    /// The token itself.
    token: String,
    #[serde(flatten)]
    view: TokenView,
}

pub(crate) async fn list(State(api): State<Api>) -> Result<Json<Tokens>, Problem> {
    let tokens = access::list(&api.store).await?;
    Ok(Json(Tokens { tokens: tokens.into_iter().map(TokenView::of).collect() }))
}

pub(crate) async fn create(
    State(api): State<Api>,
    Extension(Caller { name: created_by, .. }): Extension<Caller>,
    request: Document<Request>,
) -> Result<(StatusCode, [(HeaderName, &'static str); 1], Json<Made>), Problem> {
    let Document(Request { name, role, expires_in_seconds }) = request;
    let life = expires_in_seconds.map(Duration::from_secs);
    let Issued { token, secret } = access::issue(&api.store, NewAccess { name, role, life, created_by }).await?;
    changed(&api).await;
    let made = Made { token: secret.reveal().to_owned(), view: TokenView::of(token) };
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(made)))
}

pub(crate) async fn revoke(
    State(api): State<Api>,
    Path(name): Path<String>,
    Extension(caller): Extension<Caller>,
) -> Result<StatusCode, Problem> {
    access::revoke(&api.store, &name, &caller.name).await?;
    changed(&api).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Here it counts at once; other replicas look.
async fn changed(api: &Api) {
    if let Err(error) = api.access.refresh().await {
        tracing::warn!(%error, "a token was changed and cannot be read again at once; the next look does");
    }
    api.others.access_changed();
}

impl From<IssueError> for Problem {
    fn from(error: IssueError) -> Self {
        let detail = error.to_string();
        match error {
            IssueError::Name | IssueError::Life => Self::bad_request(detail),
            IssueError::Taken(_) => Self::new("name-taken", "Name taken", StatusCode::CONFLICT, detail),
            IssueError::NotFound(_) => Self::not_found(detail),
            IssueError::Randomness(_) => Self::overloaded(detail),
            IssueError::Store(error) => error.into(),
        }
    }
}
