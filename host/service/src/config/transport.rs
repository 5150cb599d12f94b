//! The settings of external systems: database, Kafka and Redis.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use belfry_store::StoreSettings;
use serde::de::{Error as _, IntoDeserializer, value};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct Store {
    pub url: String,
    pub url_file: Option<PathBuf>,
    pub max_connections: u32,
    pub connect_timeout_ms: u64,
    pub statement_timeout_ms: u64,
    pub lock_timeout_ms: u64,
    pub migrate: bool,
    pub partition_entries: i64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct Kafka {
    pub brokers: String,
    pub group: String,
    pub topics: SourceTopics,
    pub start_at: Option<String>,
    pub behind: Option<String>,
    #[serde(deserialize_with = "identities")]
    pub identity: BTreeMap<String, EventIdentity>,
    pub identity_window_seconds: u64,
    #[serde(deserialize_with = "properties")]
    pub properties: BTreeMap<String, Property>,
    pub declared: BTreeMap<String, DeclaredTopic>,
}

/// A choice of topics.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged, expecting = "must be \"subscribed\" or a list of topics")]
pub enum SourceTopics {
    /// The topics that the active releases subscribe to.
    Subscribed(Subscribed),
    /// A fixed list of topics.
    These(Vec<String>),
}

/// The word `subscribed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Subscribed {
    /// The only value.
    Subscribed,
}

/// What identifies the events of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventIdentity {
    /// `event_id` of the envelope; the headers are ignored.
    Envelope,
    /// The record's header `event_id`; the envelope's id is ignored.
    Header,
    /// The hash of type and data.
    Content,
}

/// The value of a librdkafka property, in any notation.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(untagged, expecting = "must be a string, a number or a boolean")]
#[expect(missing_docs, reason = "the types of JSON and TOML")]
pub enum Property {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

/// A property as it is written. The names of librdkafka contain dots, which in variables, flags and unquoted TOML keys look
/// like sections.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Value(Property),
    Section(BTreeMap<String, Written>),
}

fn properties<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Property>, D::Error> {
    let mut properties = BTreeMap::new();
    flatten("", BTreeMap::deserialize(deserializer)?, &mut properties);
    Ok(properties)
}

fn identities<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, EventIdentity>, D::Error> {
    let of = |(topic, value): (String, Property)| {
        let value = value.to_string();
        let identity = EventIdentity::deserialize(value.as_str().into_deserializer()).map_err(|_: value::Error| {
            D::Error::custom(format!("{value:?} for the topic {topic}: use envelope, header or content"))
        })?;
        Ok((topic, identity))
    };
    properties(deserializer)?.into_iter().map(of).collect()
}

fn flatten(prefix: &str, written: BTreeMap<String, Written>, properties: &mut BTreeMap<String, Property>) {
    let mut sections = Vec::new();
    for (name, written) in written {
        let name = format!("{prefix}{name}");
        match written {
            Written::Value(value) => drop(properties.insert(name, value)),
            Written::Section(section) => sections.push((name, section)),
        }
    }
    // Sections come last so that they win: variables and flags, which have precedence over a file, are written as sections,
    // and names in a file are mostly quoted.
    for (name, section) in sections {
        flatten(&format!("{name}."), section, properties);
    }
}

impl std::fmt::Display for Property {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(formatter),
            Self::Integer(value) => value.fmt(formatter),
            Self::Float(value) => value.fmt(formatter),
            Self::Text(value) => value.fmt(formatter),
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct DeclaredTopic {
    pub partitions: i32,
    pub replication_factor: i32,
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct Redis {
    pub url: Option<String>,
    pub url_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    pub prefix: String,
}

/// The databases in which other services submit events.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct Sources {
    #[serde(default)]
    pub postgres: Vec<PostgresSource>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml documents the settings")]
pub struct PostgresSource {
    pub name: String,
    #[serde(default)]
    pub url: String,
    pub url_file: Option<PathBuf>,
}

/// A secret cannot be read from its file.
#[derive(Debug, thiserror::Error)]
#[error("{name}: cannot read {path}: {error}; check that it exists and belfry may read it")]
pub struct SecretError {
    name: String,
    path: PathBuf,
    error: std::io::Error,
}

/// Reads a secret from its file, without the newline that editors add at the end.
pub(crate) fn secret(name: &str, path: &Path) -> Result<String, SecretError> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|error| SecretError { name: name.to_owned(), path: path.to_owned(), error })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

impl Store {
    /// Returns the settings of the store.
    ///
    /// # Errors
    ///
    /// Returns an error if the file with the URL cannot be read.
    pub fn settings(&self) -> Result<StoreSettings, SecretError> {
        let url = match &self.url_file {
            Some(path) => secret("store.url_file", path)?,
            None => self.url.clone(),
        };
        Ok(StoreSettings {
            max_connections: self.max_connections,
            connect_timeout: Duration::from_millis(self.connect_timeout_ms),
            statement_timeout: Duration::from_millis(self.statement_timeout_ms),
            lock_timeout: Duration::from_millis(self.lock_timeout_ms),
            migrate: self.migrate,
            partition_entries: self.partition_entries,
            ..StoreSettings::new(url)
        })
    }

    /// Returns whether the store is an SQLite file, which only one process can use.
    pub fn is_embedded(&self) -> bool {
        self.url_file.is_none() && self.url.starts_with("sqlite:")
    }
}

impl Redis {
    /// Returns the URL, or `None` if Redis is not configured.
    ///
    /// # Errors
    ///
    /// Returns an error if the file with the URL cannot be read.
    pub fn address(&self) -> Result<Option<String>, SecretError> {
        match &self.url_file {
            Some(path) => secret("redis.url_file", path).map(Some),
            None => Ok(self.url.clone()),
        }
    }
}

impl PostgresSource {
    /// Returns the URL of the database.
    ///
    /// # Errors
    ///
    /// Returns an error if the file with the URL cannot be read.
    pub fn address(&self) -> Result<String, SecretError> {
        match &self.url_file {
            Some(path) => secret("source.postgres.url_file", path),
            None => Ok(self.url.clone()),
        }
    }
}

/// The properties that librdkafka 2.12 marks as sensitive and does not show either.
const SENSITIVE: [&str; 14] = [
    "sasl.oauthbearer.assertion.private.key.file",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "sasl.password",
    "sasl.username",
    "ssl.ca.pem",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "ssl_key",
];

/// Returns whether the value of a setting is a secret and must be hidden. The path of a file that contains it is not.
pub fn is_secret(name: &str) -> bool {
    // For secrets of later versions of librdkafka, and for mistyped names.
    const WORDS: [&str; 6] = ["password", "passphrase", "secret", "jaas", "key.pem", "oauthbearer.config"];
    let name = name.to_ascii_lowercase();
    let property = name.strip_prefix("kafka.properties.").unwrap_or(&name);
    !name.ends_with("_file") && (SENSITIVE.contains(&property) || WORDS.iter().any(|word| property.contains(word)))
}

/// Returns a URL without the parts that may contain a password: credentials and query.
pub fn without_secrets(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let rest = rest.rsplit_once('@').map_or(rest, |(_, after)| after);
    format!("{scheme}://{}", rest.split('?').next().unwrap_or_default())
}
