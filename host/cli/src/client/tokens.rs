use std::time::Duration;

use belfry_service::access::{Role, TokenView};
use serde::Deserialize;
use serde_json::json;

use super::{Client, ClientError};

#[derive(Deserialize)]
struct Tokens {
    tokens: Vec<TokenView>,
}

#[derive(Deserialize)]
struct CreatedToken {
    token: String,
}

impl Client {
    /// Creates a token. Returns the token itself, which cannot be retrieved again.
    pub async fn create_token(&self, name: &str, role: Role, life: Option<Duration>) -> Result<String, ClientError> {
        let body = json!({ "name": name, "role": role, "expires_in_seconds": life.map(|life| life.as_secs()) });
        let request = self.http.post(self.url(&["v1", "tokens"])).json(&body);
        self.answer::<CreatedToken>(request).await.map(|made| made.token)
    }

    /// Returns all tokens that were created, without their secrets.
    pub async fn tokens(&self) -> Result<Vec<TokenView>, ClientError> {
        self.get::<Tokens>(self.url(&["v1", "tokens"])).await.map(|listed| listed.tokens)
    }

    /// Revokes a token.
    pub async fn revoke_token(&self, name: &str) -> Result<(), ClientError> {
        self.send(self.http.post(self.url(&["v1", "tokens", name, "revoke"]))).await.map(drop)
    }
}
