use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::decimal::exact_integer;
use crate::json_limits::{JsonLimit, MAX_JSON_DEPTH, check_limits};
use crate::json_pointer::number_text;
use crate::{Outcome, parse_instant_ms};

/// A domain event with its metadata: one JSON object, as it is sent over Kafka and HTTP.
///
/// Fields that are not listed here are preserved in the stored bytes.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// The event's id: the envelope's own id, or the id that replaces it; see [`Envelope::known_as`].
    pub event_id: Uuid,
    /// The event's type, which is also its topic. Never contains U+0000.
    pub event_type: String,
    /// The time of the event, exactly as the producer wrote it.
    pub event_timestamp: String,
    /// The time of the event in milliseconds since the epoch, rounded down.
    pub occurred_at_ms: i64,
    /// The service that published the event.
    pub source_service: String,
    /// The version of the event's schema.
    pub schema_version: u32,
    /// Identifies everything that one request caused; the event's id if the producer set no correlation id.
    pub correlation_id: Uuid,
    /// The event's data. If a name occurs twice in an object, the last value counts.
    pub data: Value,
    /// The text of `data`, exactly as it arrived.
    pub data_text: Box<str>,
    /// Tracing and routing hints.
    pub metadata: Option<Map<String, Value>>,
    /// The text of `metadata`, exactly as it arrived.
    pub metadata_text: Option<Box<str>>,
    /// `partition_key` of the metadata, which determines the order of events. A number is kept as the text that it has
    /// in the metadata.
    pub partition_key: Option<String>,
    /// `batch_id` of the data. A number is kept as the text that it has in the data. Never contains U+0000.
    pub batch_id: Option<String>,
    /// Whether the producer set a `correlation_id`.
    is_correlated: bool,
}

/// The reason why a text is not a valid event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{detail}", if pointer.is_empty() { String::new() } else { format!("{pointer}: ") })]
pub struct Malformed {
    /// `Undecodable` if the bytes are not JSON, else `Malformed`.
    pub outcome: Outcome,
    /// RFC 6901 pointer to the invalid value; empty for the text as a whole.
    pub pointer: String,
    /// Describes the error and the expected value. Never quotes the text.
    pub detail: String,
    /// The event's id, if it could be read.
    pub event_id: Option<Uuid>,
}

impl Malformed {
    pub(crate) fn at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::Malformed, pointer: pointer.into(), detail: detail.into(), event_id: None }
    }
}

impl Envelope {
    /// Parses an envelope from the bytes as they arrived.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let fields = Fields::read(bytes)?;
        let event_id = fields.required("event_id").and_then(|raw| uuid("event_id", raw))?;
        Self::from_fields(event_id, &fields).map_err(|malformed| Malformed { event_id: Some(event_id), ..malformed })
    }

    /// Returns the event under another id than the envelope's own, such as the id in its record's headers.
    pub fn known_as(self, event_id: Uuid) -> Self {
        let correlation_id = if self.is_correlated { self.correlation_id } else { event_id };
        Self { event_id, correlation_id, ..self }
    }

    fn from_fields(event_id: Uuid, fields: &Fields<'_>) -> Result<Self, Malformed> {
        let event_type = text("event_type", fields.required("event_type")?)?;
        without_nul("/event_type", &event_type)?;
        if event_type.is_empty() {
            return Err(Malformed::at("/event_type", "must not be empty"));
        }
        let event_timestamp = text("event_timestamp", fields.required("event_timestamp")?)?;
        let occurred_at_ms = parse_instant_ms(&event_timestamp)
            .map_err(|invalid| Malformed::at("/event_timestamp", invalid.to_string()))?;
        let source_service = text("source_service", fields.required("source_service")?)?;
        let data_raw = fields.required("data")?;
        let data = value("data", data_raw)?;
        let metadata_raw = fields.given("metadata");
        let metadata = match metadata_raw.map(|raw| value("metadata", raw)).transpose()? {
            None => None,
            Some(Value::Object(metadata)) => Some(metadata),
            Some(_) => return Err(Malformed::at("/metadata", "must be an object or null")),
        };
        fields.check_unknown()?;
        let partition_key = match (&metadata, metadata_raw) {
            (Some(metadata), Some(raw)) => key("/metadata", "partition_key", metadata, raw.get())?,
            _ => None,
        };
        let batch_id = match &data {
            Value::Object(data) => key("/data", "batch_id", data, data_raw.get())?,
            _ => None,
        };
        without_nul("/data/batch_id", batch_id.as_deref().unwrap_or_default())?;
        let correlation_id = fields.given("correlation_id").map(|raw| uuid("correlation_id", raw)).transpose()?;
        Ok(Self {
            event_id,
            event_type,
            event_timestamp,
            occurred_at_ms,
            source_service,
            schema_version: fields.given("schema_version").map_or(Ok(1), schema_version)?,
            correlation_id: correlation_id.unwrap_or(event_id),
            data,
            data_text: data_raw.get().into(),
            metadata,
            metadata_text: metadata_raw.map(|raw| raw.get().into()),
            partition_key,
            batch_id,
            is_correlated: correlation_id.is_some(),
        })
    }

    /// Returns a string of the metadata, such as `traceparent`.
    pub fn metadata_str(&self, name: &str) -> Option<&str> {
        self.metadata.as_ref()?.get(name)?.as_str()
    }

    /// Returns the subject, that is, whom the event is about: the string or number at `pointer` (RFC 6901) in `data`.
    /// Without a pointer, or if it points to neither a string nor a number, the subject is the data's `user_id`, else
    /// the partition key, else the event's id.
    pub fn subject(&self, pointer: Option<&str>) -> String {
        pointer
            .and_then(|pointer| self.data_at(pointer))
            .or_else(|| self.data_at("/user_id"))
            .or_else(|| self.partition_key.clone())
            .unwrap_or_else(|| self.event_id.to_string())
    }

    /// Returns the string, or the text of the number, at `pointer` in the data.
    fn data_at(&self, pointer: &str) -> Option<String> {
        match self.data.pointer(pointer)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(_) => number_text(&self.data_text, pointer).map(str::to_owned),
            _ => None,
        }
    }

    /// Returns a string of the data, such as `user_id`.
    pub fn data_str(&self, name: &str) -> Option<&str> {
        self.data.get(name)?.as_str()
    }
}

/// The fields of an envelope as JSON text. A name that occurs twice is an error, since readers would disagree about
/// which value counts.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

const KNOWN: [&str; 9] = [
    "event_id",
    "event_type",
    "event_timestamp",
    "source_service",
    "schema_version",
    "correlation_id",
    "data_schema_uri",
    "data",
    "metadata",
];

impl<'a> Fields<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        if bytes.starts_with(BYTE_ORDER_MARK) {
            let detail = "not valid JSON: begins with a byte order mark; send UTF-8 without it";
            return Err(Malformed { outcome: Outcome::Undecodable, ..Malformed::at("", detail) });
        }
        serde_json::from_slice(bytes).map_err(|error| {
            let not_json = error.is_syntax() || error.is_eof();
            let message = error.to_string();
            let detail = if not_json {
                format!("not valid JSON: {error}")
            } else if let Some(ours) = [REPEATED, TOO_MANY].into_iter().find(|ours| message.starts_with(ours)) {
                ours.to_owned()
            } else {
                // The parser's own message would quote the text.
                "must be a JSON object".to_owned()
            };
            let outcome = if not_json { Outcome::Undecodable } else { Outcome::Malformed };
            Malformed { outcome, ..Malformed::at("", detail) }
        })
    }

    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, raw)| *raw)
    }

    /// Returns the text of an optional field; `null` counts as absent.
    fn given(&self, name: &str) -> Option<&'a RawValue> {
        self.get(name).filter(|raw| raw.get() != "null")
    }

    fn required(&self, name: &str) -> Result<&'a RawValue, Malformed> {
        self.get(name).ok_or_else(|| Malformed::at(format!("/{name}"), "missing; every envelope must have it"))
    }

    /// Checks `data_schema_uri` and the unknown fields, which may hold any JSON. Splitting the text into fields did not
    /// validate the strings in them.
    fn check_unknown(&self) -> Result<(), Malformed> {
        for (name, raw) in self.0.iter().filter(|(name, _)| !KNOWN.contains(&name.as_str())) {
            value(name, raw)?;
        }
        match self.get("data_schema_uri").map(|raw| value("data_schema_uri", raw)).transpose()? {
            None | Some(Value::Null | Value::String(_)) => Ok(()),
            Some(_) => Err(Malformed::at("/data_schema_uri", "must be a string or null")),
        }
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an envelope: a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields: Vec<(String, &'de RawValue)> = Vec::with_capacity(KNOWN.len());
                while let Some((name, raw)) = map.next_entry::<String, &'de RawValue>()? {
                    if fields.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom(REPEATED));
                    }
                    if fields.len() == MAX_FIELDS {
                        return Err(A::Error::custom(TOO_MANY));
                    }
                    fields.push((name, raw));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// Maximum number of fields. An envelope has nine; the bound keeps the search for repeated names cheap.
const MAX_FIELDS: usize = 256;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const REPEATED: &str = "a field of the envelope occurs twice";
const TOO_MANY: &str = "the envelope has more than 256 fields, which is the limit";

fn value(name: &str, raw: &RawValue) -> Result<Value, Malformed> {
    serde_json::from_str(raw.get()).map_err(|error| {
        let pointer = format!("/{}", escape(name));
        match check_limits(raw, MAX_JSON_DEPTH) {
            Err(limit @ (JsonLimit::Depth(_) | JsonLimit::Number)) => Malformed::at(pointer, limit.to_string()),
            Err(limit @ JsonLimit::Surrogate) => {
                Malformed { outcome: Outcome::Undecodable, ..Malformed::at(pointer, limit.to_string()) }
            }
            Ok(()) => {
                let detail = format!("not valid JSON: {error}");
                Malformed { outcome: Outcome::Undecodable, ..Malformed::at(pointer, detail) }
            }
        }
    })
}

/// Returns a key that determines the order of events. A value of any other type is an error, since ignoring it would
/// lose the order.
fn key(parent: &str, name: &str, fields: &Map<String, Value>, json: &str) -> Result<Option<String>, Malformed> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(_)) => Ok(number_text(json, &format!("/{name}")).map(str::to_owned)),
        Some(_) => Err(Malformed::at(format!("{parent}/{name}"), "must be a string, a number or null")),
    }
}

fn text(name: &str, raw: &RawValue) -> Result<String, Malformed> {
    match value(name, raw)? {
        Value::String(text) => Ok(text),
        _ => Err(Malformed::at(format!("/{name}"), "must be a string")),
    }
}

fn uuid(name: &str, raw: &RawValue) -> Result<Uuid, Malformed> {
    let text = text(name, raw)?;
    Uuid::parse_str(&text).map_err(|_| Malformed::at(format!("/{name}"), "must be a UUID"))
}

fn schema_version(raw: &RawValue) -> Result<u32, Malformed> {
    let version = value("schema_version", raw)?.is_number().then(|| exact_integer(raw.get())).flatten();
    version
        .and_then(|version| u32::try_from(version).ok())
        .ok_or_else(|| Malformed::at("/schema_version", "must be an integer from 0 to 4294967295"))
}

/// Checks that an id does not contain U+0000: text types of the databases and C strings end there.
pub(crate) fn without_nul(pointer: &str, text: &str) -> Result<(), Malformed> {
    if text.contains('\0') { Err(Malformed::at(pointer, "must not contain U+0000")) } else { Ok(()) }
}

/// Escapes a name for use in an RFC 6901 pointer.
pub(crate) fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
