//! Replays: what a release would have made of recorded events.

use std::convert::Infallible;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use belfry_model::parse_instant_ms;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::Api;
use super::auth::Caller;
use super::extract::{Document, Path};
use super::problem::Problem;
use crate::replay::{Baseline, Progress, Replay, ReplayError, Report, Wanted};

/// Number of lines buffered for a slow reader.
const LINES: usize = 4;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// Id of the candidate release.
    candidate: i64,
    #[serde(default)]
    baseline: BaselineName,
    from: String,
    to: String,
    sample: Option<u64>,
    subject: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(untagged)]
enum BaselineName {
    Release(i64),
    Word(BaselineWord),
    #[default]
    Absent,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum BaselineWord {
    Active,
    Recorded,
}

impl From<BaselineName> for Baseline {
    fn from(name: BaselineName) -> Self {
        match name {
            BaselineName::Release(release_id) => Self::Release(release_id),
            BaselineName::Word(BaselineWord::Recorded) => Self::Recorded,
            BaselineName::Word(BaselineWord::Active) | BaselineName::Absent => Self::Active,
        }
    }
}

/// A line of the response. The last one is the report, or the problem if there is no report.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Progress(Progress),
    Report(Box<Report>),
    Problem(Problem),
}

pub(crate) async fn run(
    State(api): State<Api>,
    Path(projector): Path<String>,
    Extension(Caller { name: by, .. }): Extension<Caller>,
    parameters: Document<Parameters>,
) -> Result<Response, Problem> {
    let Document(Parameters { candidate, baseline, from, to, sample, subject }) = parameters;
    let instant = |name: &str, text: &str| {
        parse_instant_ms(text).map_err(|error| Problem::bad_request(format!("{name}: {text:?} is {error}")))
    };
    let (from_ms, to_ms) = (instant("from", &from)?, instant("to", &to)?);
    let wanted = Wanted { projector, candidate, baseline: baseline.into(), from_ms, to_ms, sample, subject };
    // The subject is not logged, since it may be a person.
    tracing::info!(projector = wanted.projector, candidate, baseline = ?wanted.baseline, from, to, by, "replay begins");
    let replay = api.replays.prepare(wanted, by).await?;
    let (lines, receiver) = mpsc::channel(LINES);
    let stopping = api.feeds.stopping.clone();
    tokio::spawn(async move {
        tokio::select! {
            // A client that disconnects cancels the replay.
            () = lines.closed() => tracing::info!("replay cancelled"),
            () = stopping.cancelled() => {}
            () = tell(replay, &lines) => {}
        }
    });
    let lines = ReceiverStream::new(receiver).map(|line: Line| {
        let mut text = serde_json::to_string(&line).expect("a line serializes to JSON");
        text.push('\n');
        Ok::<_, Infallible>(text)
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

async fn tell(replay: Replay, lines: &mpsc::Sender<Line>) {
    // A slow reader may miss some steps.
    let progress = |step| drop(lines.try_send(Line::Progress(step)));
    let last = match replay.run(progress).await {
        Ok(report) => Line::Report(Box::new(report)),
        Err(error) => Line::Problem(error.into()),
    };
    let _ = lines.send(last).await;
}

impl From<ReplayError> for Problem {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Release(error) => error.into(),
            ReplayError::Store(error) => error.into(),
            ReplayError::Wrong(detail) => Self::bad_request(detail),
            ReplayError::Busy | ReplayError::CutOff => Self::overloaded(error.to_string()),
        }
    }
}
