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

/// A domain fact with what is known about it: one JSON object, as it travels over Kafka and HTTP.
///
/// Fields that are not named here survive in the bytes that are stored.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// The event's id: the envelope's own, or the one by which the event is known instead.
    pub event_id: Uuid,
    /// The event's type, which is also its topic. Has no U+0000.
    pub event_type: String,
    /// When it happened, in the producer's own words.
    pub event_timestamp: String,
    /// The same in milliseconds since the epoch, rounded down.
    pub occurred_at_ms: i64,
    /// The service that announced it.
    pub source_service: String,
    /// The version of its schema.
    pub schema_version: u32,
    /// Ties together what one request set in motion; the event's id where the producer gave none.
    pub correlation_id: Uuid,
    /// What happened. Where a name occurs twice in an object, the last value counts.
    pub data: Value,
    /// The same as text, as it arrived.
    pub data_text: Box<str>,
    /// Tracing and routing hints.
    pub metadata: Option<Map<String, Value>>,
    /// The same as text, as it arrived.
    pub metadata_text: Option<Box<str>>,
    /// `partition_key` of the metadata: what decides the order. A number is the text that it has there.
    pub partition_key: Option<String>,
    /// `batch_id` of the data. A number is the text that it has there. Has no U+0000.
    pub batch_id: Option<String>,
    /// Whether the producer gave a `correlation_id`.
    is_correlated: bool,
}

/// Why a text is not an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{detail}", if pointer.is_empty() { String::new() } else { format!("{pointer}: ") })]
pub struct Malformed {
    /// `Undecodable` if the bytes are not JSON, else `Malformed`.
    pub outcome: Outcome,
    /// RFC 6901 pointer to what is wrong; empty for the text as a whole.
    pub pointer: String,
    /// What is wrong and what would be right. Quotes nothing of the text.
    pub detail: String,
    /// The event's id, if that much could be read.
    pub event_id: Option<Uuid>,
}

impl Malformed {
    pub(crate) fn at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::Malformed, pointer: pointer.into(), detail: detail.into(), event_id: None }
    }
}

impl Envelope {
    /// Read an envelope from the bytes in which it arrived.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let fields = Fields::read(bytes)?;
        let event_id = fields.required("event_id").and_then(|raw| uuid("event_id", raw))?;
        Self::from_fields(event_id, &fields).map_err(|malformed| Malformed { event_id: Some(event_id), ..malformed })
    }

    /// The same event under another id than the envelope's own, such as that of its record's headers.
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

    /// A string of the metadata, such as `traceparent`.
    pub fn metadata_str(&self, name: &str) -> Option<&str> {
        self.metadata.as_ref()?.get(name)?.as_str()
    }

    /// Whom the event is about: what `pointer` (RFC 6901) finds in `data`; without a pointer, or where it finds neither
    /// text nor number, the data's `user_id`, else the partition key, else the event's id.
    pub fn subject(&self, pointer: Option<&str>) -> String {
        pointer
            .and_then(|pointer| self.data_at(pointer))
            .or_else(|| self.data_at("/user_id"))
            .or_else(|| self.partition_key.clone())
            .unwrap_or_else(|| self.event_id.to_string())
    }

    /// The text, or the number's text, to which `pointer` points in the data.
    fn data_at(&self, pointer: &str) -> Option<String> {
        match self.data.pointer(pointer)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(_) => number_text(&self.data_text, pointer).map(str::to_owned),
            _ => None,
        }
    }

    /// A string of the data, such as `user_id`.
    pub fn data_str(&self, name: &str) -> Option<&str> {
        self.data.get(name)?.as_str()
    }
}

/// The texts of an envelope's fields. Refuses a name that occurs twice: readers would disagree about which counts.
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
            let told = error.to_string();
            let detail = if not_json {
                format!("not valid JSON: {error}")
            } else if let Some(ours) = [REPEATED, TOO_MANY].into_iter().find(|ours| told.starts_with(ours)) {
                ours.to_owned()
            } else {
                // The parser's own words would quote what it found.
                "must be a JSON object".to_owned()
            };
            let outcome = if not_json { Outcome::Undecodable } else { Outcome::Malformed };
            Malformed { outcome, ..Malformed::at("", detail) }
        })
    }

    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, raw)| *raw)
    }

    /// The text of a field that need not be there; `null` is as absent.
    fn given(&self, name: &str) -> Option<&'a RawValue> {
        self.get(name).filter(|raw| raw.get() != "null")
    }

    fn required(&self, name: &str) -> Result<&'a RawValue, Malformed> {
        self.get(name).ok_or_else(|| Malformed::at(format!("/{name}"), "missing; every envelope needs it"))
    }

    /// Unknown fields may hold anything that is JSON; splitting the text did not look into their strings.
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

/// Envelopes have nine fields; the bound keeps the search for repeated names cheap.
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

/// What decides an event's order. A value of another kind is refused: to pass over it would lose the order.
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

/// The databases' text types and C strings end at U+0000, so ids must not have it.
pub(crate) fn without_nul(pointer: &str, text: &str) -> Result<(), Malformed> {
    if text.contains('\0') { Err(Malformed::at(pointer, "must not contain U+0000")) } else { Ok(()) }
}

/// A name as a part of an RFC 6901 pointer.
pub(crate) fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
