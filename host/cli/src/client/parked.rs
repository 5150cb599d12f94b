use serde::{Deserialize, Serialize};

use super::wire::Parked;
use super::{Client, ClientError};

/// A query of parked entries. An entry matches if all given criteria apply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ParkedQuery {
    /// The sink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    /// The topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The key; an empty text matches entries without a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The position in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<i64>,
}

impl ParkedQuery {
    fn is_all(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Deserialize)]
struct ParkedEntries {
    parked: Vec<Parked>,
}

#[derive(Deserialize)]
struct Requested {
    entries: u64,
}

#[derive(Serialize)]
struct Request<'a> {
    #[serde(flatten)]
    query: &'a ParkedQuery,
    all: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl Client {
    /// Returns at most `limit` parked entries that match, by position.
    pub async fn parked(&self, query: &ParkedQuery, limit: u32) -> Result<Vec<Parked>, ClientError> {
        let mut url = self.url(&["v1", "parked"]);
        {
            let mut pairs = url.query_pairs_mut();
            pairs.append_pair("limit", &limit.to_string());
            for (name, value) in [("sink", &query.sink), ("topic", &query.topic), ("key", &query.key)] {
                if let Some(value) = value {
                    pairs.append_pair(name, value);
                }
            }
            if let Some(position) = query.position {
                pairs.append_pair("position", &position.to_string());
            }
        }
        self.get::<ParkedEntries>(url).await.map(|listed| listed.parked)
    }

    /// Unparks the entries that match, and with them all entries of their keys. A query without criteria matches all
    /// entries. Returns the number of entries that match.
    pub async fn unpark(&self, query: &ParkedQuery) -> Result<u64, ClientError> {
        self.ask_of_parked("unpark", Request { query, all: query.is_all(), reason: None }).await
    }

    /// Discards the entries that match: they are never sent. A query without criteria matches all entries. Returns the
    /// number of entries that match.
    pub async fn discard(&self, query: &ParkedQuery, reason: &str) -> Result<u64, ClientError> {
        self.ask_of_parked("discard", Request { query, all: query.is_all(), reason: Some(reason) }).await
    }

    async fn ask_of_parked(&self, what: &str, request: Request<'_>) -> Result<u64, ClientError> {
        let url = self.url(&["v1", "parked", what]);
        self.answer::<Requested>(self.http.post(url).json(&request)).await.map(|requested| requested.entries)
    }
}
