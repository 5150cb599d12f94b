use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Client, ClientError};

/// A sink that is known.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sink {
    /// Its name.
    pub name: String,
    /// How far it has been served.
    pub position: i64,
    /// Whether a replica serves it now.
    pub served: bool,
    /// Age of the oldest entry that it has not read.
    pub unread_seconds: Option<f64>,
    /// Entries that it has not read and that are no longer in the log.
    pub missing: i64,
    /// Entries that it refused.
    pub parked: i64,
}

/// Where a sink goes on.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Resumed {
    /// After this position.
    pub position: i64,
    /// Positions that are passed over.
    pub missing: i64,
}

#[derive(Deserialize)]
struct Sinks {
    sinks: Vec<Sink>,
}

impl Client {
    /// The sinks that are known.
    pub async fn sinks(&self) -> Result<Vec<Sink>, ClientError> {
        self.get::<Sinks>(self.url(&["v1", "sinks"])).await.map(|listed| listed.sinks)
    }

    /// Keep nothing for a sink any more.
    pub async fn forget_sink(&self, name: &str, reason: &str) -> Result<(), ClientError> {
        let url = self.url(&["v1", "sinks", name, "forget"]);
        self.send(self.http.post(url).json(&json!({ "reason": reason }))).await.map(drop)
    }

    /// Let a sink go on behind entries that are gone.
    pub async fn resume_sink(&self, name: &str, reason: &str) -> Result<Resumed, ClientError> {
        let url = self.url(&["v1", "sinks", name, "resume"]);
        self.answer(self.http.post(url).json(&json!({ "reason": reason }))).await
    }
}
