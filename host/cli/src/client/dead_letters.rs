use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Client, ClientError};

/// A query of dead letters. A dead letter matches if all given criteria apply.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DeadLetterQuery {
    /// Its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// The name of the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub projector: Option<String>,
    /// The number of the release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release_id: Option<i64>,
    /// The cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The code of a rejection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The earliest time of recording.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// A number that its own must exceed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
}

impl DeadLetterQuery {
    fn append_to(&self, url: &mut Url) {
        let numbers = [("id", self.id), ("release_id", self.release_id), ("after", self.after)];
        let texts =
            [("projector", &self.projector), ("cause", &self.cause), ("code", &self.code), ("since", &self.since)];
        let numbers = numbers.into_iter().filter_map(|(name, number)| Some((name, number?.to_string())));
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name, text.clone()?)));
        for (name, value) in numbers.chain(texts) {
            url.query_pairs_mut().append_pair(name, &value);
        }
    }
}

/// A group of dead letters with the same projector, release, cause and code.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadLetterGroup {
    /// The rule; `None` if the events reached no rule.
    pub projector: Option<String>,
    /// The release's label.
    pub release: Option<String>,
    /// The release's number.
    pub release_id: Option<i64>,
    /// The cause, from the vocabulary of outcomes.
    pub cause: String,
    /// The code of the rejection, if the rule rejected the events.
    pub code: Option<String>,
    /// The number of dead letters.
    pub count: u64,
    /// When the first was recorded.
    pub first_at: String,
    /// When the last was recorded.
    pub last_at: String,
    /// The number of the last.
    pub last_id: i64,
}

/// A dead letter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Its number.
    pub id: i64,
    /// The event's id.
    pub event_id: Option<String>,
    /// The rule.
    pub projector: Option<String>,
    /// The release's label.
    pub release: Option<String>,
    /// Where the record was read, for a record.
    pub source: Option<String>,
    /// The cause, from the vocabulary of outcomes.
    pub cause: String,
    /// The cause in words.
    pub detail: String,
    /// When it was recorded.
    pub recorded_at: String,
    /// How it was settled, if it was.
    pub settled: Option<SettledDeadLetter>,
    /// The event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Value>,
    /// The record, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
}

/// How a dead letter was settled.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SettledDeadLetter {
    /// `redriven` or `discarded`.
    pub how: String,
    /// Who settled it.
    pub by: String,
    /// When it was settled.
    pub at: String,
    /// Why it was discarded, if it was.
    pub reason: Option<String>,
    /// The number of notifications that resulted from it.
    pub notifications: u32,
}

/// The result of a redrive.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct RedriveSummary {
    /// Dead letters that were tried.
    pub tried: u64,
    /// Dead letters that are settled now.
    pub redriven: u64,
    /// Notifications that resulted from them.
    pub notifications: u64,
    /// Notifications that were withheld.
    pub withheld: u64,
    /// Dead letters that still cannot be projected.
    pub still_dead: u64,
    /// Dead letters that cannot be tried.
    pub passed_over: u64,
    /// The number after which the next request continues, if there is more.
    pub next_after: Option<i64>,
}

impl RedriveSummary {
    /// Adds the result of the next request.
    #[must_use]
    pub fn and(self, next: Self) -> Self {
        Self {
            tried: self.tried + next.tried,
            redriven: self.redriven + next.redriven,
            notifications: self.notifications + next.notifications,
            withheld: self.withheld + next.withheld,
            still_dead: self.still_dead + next.still_dead,
            passed_over: self.passed_over + next.passed_over,
            next_after: next.next_after,
        }
    }
}

#[derive(Deserialize)]
struct Groups {
    groups: Vec<DeadLetterGroup>,
}

#[derive(Deserialize)]
struct DeadLetters {
    dead_letters: Vec<DeadLetter>,
}

#[derive(Deserialize)]
struct Count {
    dead_letters: u64,
}

impl Client {
    /// Returns the dead letters that match and are not settled, in groups.
    pub async fn dead_letter_groups(&self, query: &DeadLetterQuery) -> Result<Vec<DeadLetterGroup>, ClientError> {
        let mut url = self.url(&["v1", "dead-letters", "groups"]);
        query.append_to(&mut url);
        self.get::<Groups>(url).await.map(|listed| listed.groups)
    }

    /// Returns at most `limit` dead letters that match and are not settled.
    pub async fn dead_letters(&self, query: &DeadLetterQuery, limit: u32) -> Result<Vec<DeadLetter>, ClientError> {
        let mut url = self.url(&["v1", "dead-letters"]);
        query.append_to(&mut url);
        url.query_pairs_mut().append_pair("limit", &limit.to_string());
        self.get::<DeadLetters>(url).await.map(|listed| listed.dead_letters)
    }

    /// Returns a dead letter by its number.
    pub async fn dead_letter(&self, id: i64) -> Result<DeadLetter, ClientError> {
        self.get(self.url(&["v1", "dead-letters", &id.to_string()])).await
    }

    /// Redrives some of the dead letters that match; [`RedriveSummary::next_after`] is set if there is more.
    pub async fn redrive(
        &self,
        query: &DeadLetterQuery,
        all: bool,
        dry_run: bool,
    ) -> Result<RedriveSummary, ClientError> {
        let asked = json!({ "which": query, "all": all, "dry_run": dry_run });
        self.answer(self.http.post(self.url(&["v1", "dead-letters", "redrive"])).json(&asked)).await
    }

    /// Discards the dead letters that match. Returns their number.
    pub async fn discard_dead_letters(
        &self,
        query: &DeadLetterQuery,
        all: bool,
        reason: &str,
        dry_run: bool,
    ) -> Result<u64, ClientError> {
        let asked = json!({ "which": query, "all": all, "reason": reason, "dry_run": dry_run });
        let request = self.http.post(self.url(&["v1", "dead-letters", "discard"])).json(&asked);
        self.answer::<Count>(request).await.map(|count| count.dead_letters)
    }
}
