use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Client, ClientError};

/// A known sink.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sink {
    /// Its name.
    pub name: String,
    /// The position up to which it has been served.
    pub position: i64,
    /// Whether a replica serves it now.
    pub served: bool,
    /// Age of the oldest entry that it has not read, in seconds.
    pub unread_seconds: Option<f64>,
    /// Number of entries that it has not read and that are no longer in the log.
    pub missing: i64,
    /// Number of its parked entries.
    pub parked: i64,
}

/// Where a sink resumes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Resumed {
    /// The position after which it continues.
    pub position: i64,
    /// Number of positions that it skips.
    pub missing: i64,
}

#[derive(Deserialize)]
struct Sinks {
    sinks: Vec<Sink>,
}

impl Client {
    /// Returns the known sinks.
    pub async fn sinks(&self) -> Result<Vec<Sink>, ClientError> {
        self.get::<Sinks>(self.url(&["v1", "sinks"])).await.map(|listed| listed.sinks)
    }

    /// Forgets a sink: the log keeps nothing for it any more.
    pub async fn forget_sink(&self, name: &str, reason: &str) -> Result<(), ClientError> {
        let url = self.url(&["v1", "sinks", name, "forget"]);
        self.send(self.http.post(url).json(&json!({ "reason": reason }))).await.map(drop)
    }

    /// Resumes a sink after entries that are no longer in the log.
    pub async fn resume_sink(&self, name: &str, reason: &str) -> Result<Resumed, ClientError> {
        let url = self.url(&["v1", "sinks", name, "resume"]);
        self.answer(self.http.post(url).json(&json!({ "reason": reason }))).await
    }
}
