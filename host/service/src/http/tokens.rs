//! Tokens: create, list and revoke. Only the response to the request that creates a token contains the token itself.

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

/// A request to create a token.
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

/// A token that was created.
#[derive(Serialize)]
pub(crate) struct CreatedToken {
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
) -> Result<(StatusCode, [(HeaderName, &'static str); 1], Json<CreatedToken>), Problem> {
    let Document(Request { name, role, expires_in_seconds }) = request;
    let life = expires_in_seconds.map(Duration::from_secs);
    let Issued { token, secret } = access::issue(&api.store, NewAccess { name, role, life, created_by }).await?;
    changed(&api).await;
    let made = CreatedToken { token: secret.reveal().to_owned(), view: TokenView::of(token) };
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

/// Applies a change to this replica at once, and wakes the other replicas.
async fn changed(api: &Api) {
    if let Err(error) = api.access.refresh().await {
        tracing::warn!(%error, "cannot reload the tokens after a change; the next check will");
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
