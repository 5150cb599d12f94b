use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Client, ClientError};

/// Which dead letters are meant.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DeadLetterQuery {
    /// This one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// Those of this rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub projector: Option<String>,
    /// Those of this release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release_id: Option<i64>,
    /// Those of this cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Of those rejected, those with this code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Those recorded since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Those with a higher number.
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

/// Dead letters that have projector, release, cause and code in common.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadLetterGroup {
    /// The rule; none if no rule saw them.
    pub projector: Option<String>,
    /// The release.
    pub release: Option<String>,
    /// Its number.
    pub release_id: Option<i64>,
    /// From the vocabulary of outcomes.
    pub cause: String,
    /// Of those rejected.
    pub code: Option<String>,
    /// How many there are.
    pub count: u64,
    /// When the first was recorded.
    pub first_at: String,
    /// When the last was.
    pub last_at: String,
    /// The number of the last.
    pub last_id: i64,
}

/// A dead letter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Its number.
    pub id: i64,
    /// The event.
    pub event_id: Option<String>,
    /// The rule.
    pub projector: Option<String>,
    /// The release.
    pub release: Option<String>,
    /// Of a record: where it was read.
    pub source: Option<String>,
    /// From the vocabulary of outcomes.
    pub cause: String,
    /// In words.
    pub detail: String,
    /// When it was recorded.
    pub recorded_at: String,
    /// What became of it.
    pub settled: Option<SettledDeadLetter>,
    /// The event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Value>,
    /// The record, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
}

/// What became of a dead letter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SettledDeadLetter {
    /// `redriven` or `discarded`.
    pub how: String,
    /// Who did it.
    pub by: String,
    /// When.
    pub at: String,
    /// Why it was discarded.
    pub reason: Option<String>,
    /// Notifications that came of it.
    pub notifications: u32,
}

/// What a redrive did.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct RedriveSummary {
    /// Dead letters that were tried.
    pub tried: u64,
    /// That are settled.
    pub redriven: u64,
    /// Notifications that came of them.
    pub notifications: u64,
    /// Notifications that are withheld.
    pub withheld: u64,
    /// That cannot be projected now either.
    pub still_dead: u64,
    /// That cannot be tried.
    pub passed_over: u64,
    /// After which to go on.
    pub next_after: Option<i64>,
}

impl RedriveSummary {
    /// With what the next request did.
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
    /// What waits, in groups.
    pub async fn dead_letter_groups(&self, query: &DeadLetterQuery) -> Result<Vec<DeadLetterGroup>, ClientError> {
        let mut url = self.url(&["v1", "dead-letters", "groups"]);
        query.append_to(&mut url);
        self.get::<Groups>(url).await.map(|listed| listed.groups)
    }

    /// What waits, one by one.
    pub async fn dead_letters(&self, query: &DeadLetterQuery, limit: u32) -> Result<Vec<DeadLetter>, ClientError> {
        let mut url = self.url(&["v1", "dead-letters"]);
        query.append_to(&mut url);
        url.query_pairs_mut().append_pair("limit", &limit.to_string());
        self.get::<DeadLetters>(url).await.map(|listed| listed.dead_letters)
    }

    /// One of them.
    pub async fn dead_letter(&self, id: i64) -> Result<DeadLetter, ClientError> {
        self.get(self.url(&["v1", "dead-letters", &id.to_string()])).await
    }

    /// Try some again; the summary says whether there is more.
    pub async fn redrive(
        &self,
        query: &DeadLetterQuery,
        all: bool,
        dry_run: bool,
    ) -> Result<RedriveSummary, ClientError> {
        let asked = json!({ "which": query, "all": all, "dry_run": dry_run });
        self.answer(self.http.post(self.url(&["v1", "dead-letters", "redrive"])).json(&asked)).await
    }

    /// Discard them; gives how many.
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
