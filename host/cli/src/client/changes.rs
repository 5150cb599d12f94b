use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Client, ClientError};

/// Which changes are meant.
#[derive(Clone, Debug, Default)]
pub struct ChangeQuery {
    /// By whom.
    pub by: Option<String>,
    /// What was done.
    pub action: Option<String>,
    /// To what.
    pub subject: Option<String>,
    /// Since when.
    pub since: Option<String>,
    /// So many at most.
    pub limit: u32,
}

/// Something that was changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Change {
    /// Its number.
    pub id: i64,
    /// When.
    pub at: String,
    /// Who.
    pub by: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub subject: String,
    /// What there is to know beyond that.
    pub detail: Map<String, Value>,
}

#[derive(Deserialize)]
struct Changes {
    changes: Vec<Change>,
    next_before: Option<i64>,
}

impl Client {
    /// Changes, the latest first.
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
