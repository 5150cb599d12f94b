use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::replay_report::ReplayReport;
use super::{Client, ClientError, Problem};

/// No valid report is longer than this.
const MAX_LINE_BYTES: usize = 64 << 20;

/// The parameters of a replay.
#[derive(Clone, Debug, Serialize)]
pub struct ReplayQuery {
    /// The number of the release to replay.
    pub candidate: i64,
    /// `active`, `recorded` or a release's number.
    pub baseline: Value,
    /// Replay events recorded from this time on.
    pub from: String,
    /// Replay events recorded before this time.
    pub to: String,
    /// The approximate number of events; `None` for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<u64>,
    /// Replay only events about this subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

/// The progress of a replay.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[expect(missing_docs, reason = "the API document describes the fields")]
pub struct ReplayProgress {
    pub events: u64,
    pub of: u64,
    pub added: u64,
    pub removed: u64,
    pub changed: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Progress(ReplayProgress),
    Report(Value),
    Problem(Problem),
}

impl Client {
    /// Replays recorded events with a release. Calls `progress` from time to time. Dropping the future cancels the replay.
    /// Returns the report, parsed and as received.
    pub async fn replay(
        &self,
        projector: &str,
        query: &ReplayQuery,
        mut progress: impl FnMut(ReplayProgress),
    ) -> Result<(ReplayReport, Value), ClientError> {
        let request = self.http.post(self.url(&["v1", "projectors", projector, "replays"])).json(query);
        let mut chunks = self.send(request).await?.bytes_stream();
        let mut text: Vec<u8> = Vec::new();
        while let Some(chunk) = chunks.next().await {
            text.extend(chunk.map_err(|error| ClientError::interrupted(&self.base, &error))?);
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                match self.decode(&line)? {
                    Line::Progress(step) => progress(step),
                    Line::Report(report) => {
                        let read =
                            ReplayReport::deserialize(&report).map_err(|error| self.foreign(&error.to_string()))?;
                        return Ok((read, report));
                    }
                    Line::Problem(problem) => {
                        return Err(ClientError::Refused { problem: Box::new(problem), retry_after: None });
                    }
                }
            }
            if text.len() > MAX_LINE_BYTES {
                return Err(self.foreign("a line that is too long"));
            }
        }
        Err(self.foreign("the replay ended without a report: the service was stopped or became unreachable"))
    }
}
