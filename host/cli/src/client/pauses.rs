use serde::Deserialize;
use serde_json::json;

use super::wire::Pause;
use super::{Client, ClientError};

#[derive(Deserialize)]
struct Pauses {
    pauses: Vec<Pause>,
}

impl Client {
    /// Returns everything that is paused.
    pub async fn pauses(&self) -> Result<Vec<Pause>, ClientError> {
        self.get::<Pauses>(self.url(&["v1", "pauses"])).await.map(|listed| listed.pauses)
    }

    /// Pauses a rule, a sink or all notifications.
    pub async fn pause(&self, kind: &str, name: &str, reason: &str) -> Result<(), ClientError> {
        let request = self.http.post(self.url(&["v1", "pauses", kind, name])).json(&json!({ "reason": reason }));
        self.send(request).await.map(drop)
    }

    /// Resumes a rule, a sink or all notifications.
    pub async fn resume(&self, kind: &str, name: &str) -> Result<(), ClientError> {
        self.send(self.http.post(self.url(&["v1", "pauses", kind, name, "resume"]))).await.map(drop)
    }
}
