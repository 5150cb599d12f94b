use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Client, ClientError};

/// A query of the audit log. A change matches if all given criteria apply.
#[derive(Clone, Debug, Default)]
pub struct ChangeQuery {
    /// Who made the change.
    pub by: Option<String>,
    /// The action, such as `release.activate`, or a kind of action, such as `release`.
    pub action: Option<String>,
    /// The changed object.
    pub subject: Option<String>,
    /// The earliest time of the change.
    pub since: Option<String>,
    /// The maximum number of changes.
    pub limit: u32,
}

/// An entry of the audit log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Change {
    /// Its number.
    pub id: i64,
    /// The time of the change.
    pub at: String,
    /// Who made the change.
    pub by: String,
    /// The action.
    pub action: String,
    /// The changed object.
    pub subject: String,
    /// Details of the action.
    pub detail: Map<String, Value>,
}

#[derive(Deserialize)]
struct Changes {
    changes: Vec<Change>,
    next_before: Option<i64>,
}

impl Client {
    /// Returns the changes that match, newest first.
    pub async fn changes(&self, query: &ChangeQuery) -> Result<Vec<Change>, ClientError> {
        let mut found = Vec::new();
        let mut before = None;
        loop {
            let left = query.limit - found.len() as u32;
            let mut url = self.url(&["v1", "audit-log"]);
            let texts = [
                ("by", query.by.clone()),
                ("action", query.action.clone()),
                ("subject", query.subject.clone()),
                ("since", query.since.clone()),
                ("before", before.map(|before: i64| before.to_string())),
                ("limit", Some(left.min(1000).to_string())),
            ];
            url.query_pairs_mut().extend_pairs(texts.into_iter().filter_map(|(name, text)| Some((name, text?))));
            let page: Changes = self.get(url).await?;
            found.extend(page.changes);
            before = page.next_before;
            if before.is_none() || found.len() as u32 >= query.limit {
                return Ok(found);
            }
        }
    }
}
