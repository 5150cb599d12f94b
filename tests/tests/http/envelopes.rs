//! One table of envelopes for every entry point: HTTP, Kafka, and `belfry.submit` in a service's own database. All three
//! accept the same envelopes, and none accepts an envelope that is rejected later.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use belfry_tests::servers::{shared_kafka, shared_postgres};
use belfry_tests::{ServiceDatabase, TestService};
use reqwest::StatusCode;
use sqlx::PgPool;
use uuid::Uuid;

/// Time limit for a step.
const PATIENCE: Duration = Duration::from_secs(60);

/// An envelope with the placeholder `EVENT_ID` for its id.
struct Case {
    text: String,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The envelope is accepted, with this key.
    Taken(&'static str),
    /// The envelope is rejected, with this JSON pointer.
    Refused(&'static str),
}

use Verdict::{Refused, Taken};

fn whole(time: &str, data: &str, more: &str) -> String {
    format!(
        r#"{{"event_id":"EVENT_ID","event_type":"envelopes.table.v1","event_timestamp":{time},"source_service":"s","data":{data}{more}}}"#
    )
}

fn with_data(data: &str) -> String {
    whole(r#""2026-03-02T09:15:01Z""#, data, "")
}

/// Returns an envelope with additional fields.
fn with(more: &str) -> String {
    whole(r#""2026-03-02T09:15:01Z""#, "{}", &format!(",{more}"))
}

fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

fn fields(count: usize) -> String {
    (0..count).map(|number| format!(r#""field{number}":0"#)).collect::<Vec<_>>().join(",")
}

fn table() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |text: String, verdict| cases.push(Case { text, verdict });
    for (time, verdict) in times() {
        add(whole(&format!("\"{time}\""), "{}", ""), verdict);
    }
    for (data, verdict) in data() {
        add(with_data(&data), verdict);
    }
    for (more, verdict) in more_fields() {
        add(with(&more), verdict);
    }
    for (text, verdict) in texts() {
        add(text, verdict);
    }
    cases
}

fn times() -> Vec<(&'static str, Verdict)> {
    let wrong = Refused("/event_timestamp");
    vec![
        ("2026-03-02T09:15:01.1234567890123Z", Taken("")),
        ("2026-03-02 09:15", Taken("")),
        ("2026-03-02", Taken("")),
        ("2024-02-29T23:59:59+23:59", Taken("")),
        ("9999-12-31T23:59:59.9999999Z", Taken("")),
        ("9999-12-30T21:00:00-05:00", Taken("")),
        ("0001-01-01T00:00:00Z", Taken("")),
        ("9999-12-31T23:00:00-05:00", wrong),
        ("0001-01-01T00:00:00+00:01", wrong),
        ("0000-12-31T00:00:00Z", wrong),
        ("2026-03-02T24:00:00Z", wrong),
        ("2026-03-02T23:59:60Z", wrong),
        ("2026-03-02T09:15:01.Z", wrong),
        ("2026-03-02T09:15:01+24:00", wrong),
        ("2026-03-02T09:15:01+0100", wrong),
        ("2026-02-29T00:00:00Z", wrong),
        ("2026-04-31", wrong),
        ("2026-00-10", wrong),
        ("yesterday", wrong),
        ("", wrong),
    ]
}

fn data() -> Vec<(String, Verdict)> {
    let texts = [
        ("null", Taken("")),
        ("[1,-0,1.50,1e-400,1e-99999,1e308]", Taken("")),
        (r#"{"batch_id":"b-7"}"#, Taken("b-7")),
        (r#"{"batch_id":7}"#, Taken("7")),
        (r#"{"batch_id":-7.50}"#, Taken("-7.50")),
        (r#"{"batch_id":12345678901234567890123}"#, Taken("12345678901234567890123")),
        (r#"{"batch_id":null}"#, Taken("")),
        (r#"{"batch_id":"b\\u0000"}"#, Taken(r"b\u0000")),
        (r#"{"batch_id":true}"#, Refused("/data/batch_id")),
        (r#"{"batch_id":["b"]}"#, Refused("/data/batch_id")),
        (r#"{"batch_id":"b\u0000"}"#, Refused("/data/batch_id")),
        (r#"{"user_id":"u\u0000"}"#, Refused("/data/user_id")),
        (r#"{"other":"\u0000"}"#, Taken("")),
        (r#"{"a":1,"a":2}"#, Taken("")),
        ("1e400", Refused("/data")),
        (r#"{"a":[-1e309]}"#, Refused("/data")),
        ("1e999999", Refused("/data")),
        (r#""\ud800""#, Refused("/data")),
    ];
    let mut cases: Vec<(String, Verdict)> =
        texts.into_iter().map(|(data, verdict)| (data.to_owned(), verdict)).collect();
    cases.push((nested(127), Taken("")));
    cases.push((nested(128), Refused("/data")));
    cases.push((nested(200), Refused("/data")));
    cases.push((format!("1{}", "0".repeat(308)), Taken("")));
    cases.push((format!("1{}", "0".repeat(309)), Refused("/data")));
    cases
}

fn more_fields() -> Vec<(String, Verdict)> {
    let version = Refused("/schema_version");
    let texts = [
        (r#""schema_version":null,"correlation_id":null,"metadata":null,"data_schema_uri":null"#, Taken("")),
        (r#""schema_version":0"#, Taken("")),
        (r#""schema_version":1.0"#, Taken("")),
        (r#""schema_version":4294967295"#, Taken("")),
        (r#""schema_version":4294967296"#, version),
        (r#""schema_version":-1"#, version),
        (r#""schema_version":1.5"#, version),
        (r#""schema_version":1.00000000000000000001"#, version),
        (r#""schema_version":"1""#, version),
        (r#""schema_version":true"#, version),
        (r#""metadata":"x""#, Refused("/metadata")),
        (r#""metadata":[]"#, Refused("/metadata")),
        (r#""metadata":{"partition_key":"p"}"#, Taken("p")),
        (r#""metadata":{"partition_key":7}"#, Taken("7")),
        (r#""metadata":{"partition_key":1e2}"#, Taken("1e2")),
        (r#""metadata":{"partition_key":null}"#, Taken("")),
        (r#""metadata":{"partition_key":false}"#, Refused("/metadata/partition_key")),
        (r#""metadata":{"partition_key":{}}"#, Refused("/metadata/partition_key")),
        (r#""correlation_id":"7""#, Refused("/correlation_id")),
        (r#""correlation_id":7"#, Refused("/correlation_id")),
        (r#""correlation_id":"urn:uuid:5487100a-3a58-5358-ae3f-a56e6cba22a2""#, Taken("")),
        (r#""data_schema_uri":1"#, Refused("/data_schema_uri")),
        (r#""unknown":"\ud800""#, Refused("/unknown")),
        (r#""unknown":1e400"#, Refused("/unknown")),
        (r#""data":{}"#, Refused("")),
        (r#""d\u0061ta":{}"#, Refused("")),
    ];
    let mut cases: Vec<(String, Verdict)> =
        texts.into_iter().map(|(more, verdict)| (more.to_owned(), verdict)).collect();
    cases.push((format!(r#""unknown":{}"#, nested(128)), Refused("/unknown")));
    // The envelope has five other fields, and 256 are allowed.
    cases.push((fields(251), Taken("")));
    cases.push((fields(252), Refused("")));
    cases
}

/// Texts that the other tables cannot express.
fn texts() -> Vec<(String, Verdict)> {
    let sound = with_data("{}");
    vec![
        (format!(" \t\r\n{sound}\n"), Taken("")),
        (format!("\u{feff}{sound}"), Refused("")),
        (format!("{sound}}}"), Refused("")),
        (format!("[{sound}]"), Refused("")),
        ("not JSON".into(), Refused("")),
        ("{}".into(), Refused("/event_id")),
        (sound.replace("EVENT_ID", "7"), Refused("/event_id")),
        (sound.replace("\"EVENT_ID\"", "null"), Refused("/event_id")),
        (sound.replace("\"envelopes.table.v1\"", "1"), Refused("/event_type")),
        (sound.replace("envelopes.table.v1", ""), Refused("/event_type")),
        (sound.replace("envelopes.table.v1", r"a\u0000b"), Refused("/event_type")),
        (sound.replace("\"s\"", "null"), Refused("/source_service")),
        (sound.replace(r#","data":{}"#, ""), Refused("/data")),
        (with_data("NaN"), Refused("")),
        (with_data("01"), Refused("")),
        (with_data("\"\t\""), Refused("")),
    ]
}

/// A service with all entry points: it reads from Kafka and from another service's database, and serves HTTP.
struct Ways {
    belfry: TestService,
    log: PgPool,
    service: ServiceDatabase,
    topic: String,
}

impl Ways {
    async fn start() -> Result<Self> {
        let (postgres, kafka) = (shared_postgres().await?, shared_kafka().await?);
        let service = ServiceDatabase::create(postgres).await?;
        let store = postgres.create_database().await?;
        let topic = format!("{}.envelopes.v1", Uuid::new_v4().simple());
        kafka.create_topic(&topic, 1, &[]).await?;
        let settings = [
            ("store.url", store.url.clone()),
            ("source.postgres", ServiceDatabase::setting(&[&service])),
            ("kafka.brokers", kafka.bootstrap()),
            ("kafka.group", topic.clone()),
            ("kafka.topics", format!("[\"{topic}\"]")),
            ("kafka.start_at", "earliest".to_owned()),
        ];
        let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let belfry = TestService::start_with(belfry_artifacts::TEACHER_RESULTS, &settings).await?;
        Ok(Self { belfry, log: PgPool::connect(store.url.as_str()).await?, service, topic })
    }

    /// Returns the key of an event in the log, or `None` if it is not recorded.
    async fn recorded(&self, event_id: Uuid) -> Result<Option<String>> {
        let query = "SELECT event_key FROM belfry.outbox WHERE event_id = $1";
        Ok(sqlx::query_scalar(query).bind(event_id).fetch_optional(&self.log).await?)
    }

    async fn post(&self, case: &Case, event_id: Uuid) -> Result<Verdict> {
        let posted = self.belfry.client().post_text(case.text_for(event_id)).await?;
        if posted.status == StatusCode::CREATED {
            return self.taken(case, event_id).await;
        }
        ensure!(posted.status == StatusCode::BAD_REQUEST, "{posted:?}");
        Ok(case.refused_at(posted.body["pointer"].as_str().context("no pointer")?))
    }

    async fn produce(&self, case: &Case, event_id: Uuid) -> Result<i64> {
        let kafka = shared_kafka().await?;
        let text = case.text_for(event_id);
        Ok(kafka.produce(&self.topic, None, &[], Some(text.as_bytes())).await?.1)
    }

    /// Returns the verdict on a record that was read from Kafka.
    async fn consumed(&self, case: &Case, event_id: Uuid, offset: i64) -> Result<Verdict> {
        let query = "SELECT detail FROM belfry.dead_letter WHERE source_topic = $1 AND source_offset = $2";
        let detail: Option<String> =
            sqlx::query_scalar(query).bind(&self.topic).bind(offset).fetch_optional(&self.log).await?;
        match detail {
            None => self.taken(case, event_id).await,
            Some(detail) if detail.starts_with('/') => {
                Ok(case.refused_at(detail.split_once(": ").context("no pointer")?.0))
            }
            Some(_) => Ok(case.refused_at("")),
        }
    }

    async fn submit(&self, case: &Case, event_id: Uuid) -> Result<bool> {
        match self.service.submit(&case.text_for(event_id), None).await {
            Ok(submitted) => {
                ensure!(submitted == event_id);
                Ok(true)
            }
            Err(error) => {
                let refused = error.as_database_error().context("no database error")?;
                ensure!(refused.code().as_deref() == Some("22023"), "{refused}");
                Ok(false)
            }
        }
    }

    async fn taken(&self, case: &Case, event_id: Uuid) -> Result<Verdict> {
        let key = self.recorded(event_id).await?.context("the event is not in the log")?;
        match case.verdict {
            Taken(expected) if expected == key => Ok(case.verdict),
            verdict => anyhow::bail!("accepted with the key {key:?}, expected {verdict:?}"),
        }
    }

    async fn topic_is_read(&self, records: i64) -> Result<()> {
        let began = Instant::now();
        let query = "SELECT max(next_offset) FROM belfry.consumer_position WHERE topic = $1";
        loop {
            let read: Option<i64> = sqlx::query_scalar(query).bind(&self.topic).fetch_one(&self.log).await?;
            if read == Some(records) {
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "{read:?} of {records} records are read");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Case {
    fn text_for(&self, event_id: Uuid) -> String {
        self.text.replace("EVENT_ID", &event_id.to_string())
    }

    /// Returns the expected verdict if it has this pointer, and a different verdict otherwise.
    fn refused_at(&self, pointer: &str) -> Verdict {
        match self.verdict {
            Refused(expected) if expected == pointer => self.verdict,
            _ => Refused("elsewhere"),
        }
    }

    fn name(&self) -> String {
        self.text.chars().skip(39).take(140).collect()
    }
}

#[tokio::test]
async fn all_ways_in_take_the_same_envelopes() -> Result<()> {
    let ways = Ways::start().await?;
    let cases = table();
    let mut sent = Vec::new();
    for case in &cases {
        let [posted, produced, submitted] = [(); 3].map(|()| Uuid::new_v4());
        let offset = ways.produce(case, produced).await?;
        sent.push((case, posted, (produced, offset), (submitted, ways.submit(case, submitted).await)));
    }
    ways.topic_is_read(cases.len() as i64).await?;
    ways.service.wait_until_read().await?;
    let mut wrong = Vec::new();
    for (case, posted, (produced, offset), (submitted, answer)) in sent {
        let mut check = |way: &str, verdict: Result<Verdict>| match verdict {
            Ok(verdict) if verdict == case.verdict => {}
            other => wrong.push(format!("{way}: {}: {other:?}, expected {:?}", case.name(), case.verdict)),
        };
        check("HTTP", ways.post(case, posted).await);
        check("Kafka", ways.consumed(case, produced, offset).await);
        let submitted = match answer {
            Ok(true) => ways.taken(case, submitted).await,
            // Its error is text without a separate pointer.
            Ok(false) if matches!(case.verdict, Refused(_)) => Ok(case.verdict),
            Ok(false) => Ok(Refused("somewhere")),
            Err(error) => Err(error),
        };
        check("submit", submitted);
    }
    ensure!(wrong.is_empty(), "{} of {} cases failed:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let query = "SELECT count(*) FROM belfry.dead_letter WHERE source_topic = 'postgres:a'";
    let letters: i64 = sqlx::query_scalar(query).fetch_one(&ways.log).await?;
    ensure!(letters == 0, "{letters} submitted events were rejected later");
    ways.belfry.stop().await;
    Ok(())
}

/// An event with the same id and another number conflicts, even if only the last digit differs.
#[tokio::test]
async fn numbers_are_compared_by_their_exact_value() -> Result<()> {
    let belfry = TestService::start().await?;
    for (first, again, other) in [
        ("9007199254740992", "9007199254740992.0", "9007199254740993"),
        ("18446744073709551615", "18446744073709551615e0", "18446744073709551614"),
        ("1", "10e-1", "1.00000000000000000001"),
        ("1e-999999999", "0.1e-999999998", "1e-1000000000"),
        ("0", "-0.0", "1e-400"),
    ] {
        let event_id = Uuid::new_v4();
        let post = async |number: &str| -> Result<StatusCode> {
            let text = with_data(&format!(r#"{{"a":[{number}]}}"#)).replace("EVENT_ID", &event_id.to_string());
            Ok(belfry.client().post_text(text).await?.status)
        };
        ensure!(post(first).await? == StatusCode::CREATED, "{first}");
        ensure!(post(again).await? == StatusCode::OK, "{first} equals {again}");
        ensure!(post(other).await? == StatusCode::CONFLICT, "{first} differs from {other}");
    }
    belfry.stop().await;
    Ok(())
}
