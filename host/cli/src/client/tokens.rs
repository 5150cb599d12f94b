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
struct Made {
    token: String,
}

impl Client {
    /// Make a token. Gives the token itself, which is known to nobody else.
    pub async fn create_token(&self, name: &str, role: Role, life: Option<Duration>) -> Result<String, ClientError> {
        let body = json!({ "name": name, "role": role, "expires_in_seconds": life.map(|life| life.as_secs()) });
        let request = self.http.post(self.url(&["v1", "tokens"])).json(&body);
        self.answer::<Made>(request).await.map(|made| made.token)
    }

    /// All tokens that were made, without what they are.
    pub async fn tokens(&self) -> Result<Vec<TokenView>, ClientError> {
        self.get::<Tokens>(self.url(&["v1", "tokens"])).await.map(|listed| listed.tokens)
    }

    /// Let a token not count any more.
    pub async fn revoke_token(&self, name: &str) -> Result<(), ClientError> {
        self.send(self.http.post(self.url(&["v1", "tokens", name, "revoke"]))).await.map(drop)
    }
}
