use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use tokio::time::{Instant, sleep};

use super::wire::{PublishStatus, Published};
use super::{Client, ClientError, Problem, REQUEST_TIMEOUT};

/// The delay before a retry if an overloaded server specifies none.
const DEFAULT_WAIT: Duration = Duration::from_secs(1);

impl Client {
    /// Sends one event. Returns an error if it is refused.
    pub async fn publish(&self, envelope: impl Into<Vec<u8>>) -> Result<Published, ClientError> {
        let request = self.http.post(self.url(&["v1", "events"])).header(CONTENT_TYPE, "application/json");
        self.answer(request.body(envelope.into())).await
    }

    /// Sends events, one per line, in one request; an event must not contain a line break. The answers are in the order of
    /// the lines. A refused event does not hold up the others.
    pub async fn publish_lines(&self, lines: &[String]) -> Result<Vec<Published>, ClientError> {
        let request = self.http.post(self.url(&["v1", "events"])).header(CONTENT_TYPE, "application/x-ndjson");
        let body = lines.iter().fold(String::new(), |body, line| body + line + "\n");
        let response = match self.send(request.timeout(REQUEST_TIMEOUT).body(body)).await {
            Ok(response) => response,
            Err(error) => return too_large_alone(lines, error).map(|published| vec![published]),
        };
        let body = self.body(response).await?;
        let answers = body.split(|byte| *byte == b'\n').filter(|answer| !answer.trim_ascii().is_empty());
        let answers = answers.map(|answer| self.decode(answer)).collect::<Result<Vec<Published>, _>>()?;
        let in_order = answers.iter().zip(1..).all(|(answer, number)| answer.line == Some(number));
        if answers.len() != lines.len() || !in_order {
            return Err(self.foreign(&format!("{} answers to {} events", answers.len(), lines.len())));
        }
        Ok(answers)
    }

    /// Sends events like [`Client::publish_lines`], but while the server is overloaded, waits as long as it specifies and
    /// sends the remaining events again, for at most `patience` in all. Calls `waiting` before each wait. An event that was
    /// recorded although the first answer reported an overload is reported as a duplicate.
    pub async fn publish_lines_patiently(
        &self,
        lines: &[String],
        patience: Duration,
        mut waiting: impl FnMut(&Problem, Duration),
    ) -> Result<Vec<Published>, ClientError> {
        let give_up = Instant::now() + patience;
        let mut answers = Vec::with_capacity(lines.len());
        loop {
            let before = answers.len();
            let (problem, wait, refusal) = match self.publish_lines(&lines[before..]).await {
                Ok(more) => {
                    let taken = more.iter().take_while(|answer| answer.status != PublishStatus::Overloaded).count();
                    let problem = more.get(taken).map(|answer| answer.problem.clone().unwrap_or_default());
                    answers.extend(
                        more.into_iter()
                            .map(|answer| Published { line: answer.line.map(|line| line + before as u64), ..answer }),
                    );
                    match problem {
                        Some(problem) => (problem, DEFAULT_WAIT, None),
                        None => return Ok(answers),
                    }
                }
                Err(ClientError::Refused { problem, retry_after }) if problem.status == 503 => {
                    let wait = retry_after.unwrap_or(DEFAULT_WAIT);
                    ((*problem).clone(), wait, Some(ClientError::Refused { problem, retry_after }))
                }
                Err(error) => return Err(error),
            };
            if Instant::now() + wait > give_up {
                // The answers themselves report the lines that were not accepted.
                return refusal.map_or(Ok(answers), Err);
            }
            let taken = answers.iter().position(|answer: &Published| answer.status == PublishStatus::Overloaded);
            answers.truncate(taken.unwrap_or(answers.len()));
            waiting(&problem, wait);
            sleep(wait).await;
        }
    }
}

/// Turns the refusal of a one-line body as too large into an answer to that line. Returns other errors unchanged.
fn too_large_alone(lines: &[String], error: ClientError) -> Result<Published, ClientError> {
    match error {
        ClientError::Refused { problem, .. } if problem.status == 413 && lines.len() == 1 => Ok(Published {
            line: Some(1),
            event_id: problem.event_id,
            status: PublishStatus::TooLarge,
            position: None,
            notifications: Vec::new(),
            dead_letters: Vec::new(),
            problem: Some(*problem),
        }),
        error => Err(error),
    }
}
