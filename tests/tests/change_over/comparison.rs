//! `belfry compare` on planted differences: it finds each one, invents none, and shows no personal data.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use belfry_artifacts::TEACHER_RESULTS;
use belfry_tests::servers::{Kafka, shared_kafka, shared_postgres};
use belfry_tests::{Batch, Client, Ended, TestService, belfry, results_ready};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::old_notifier::old_message;

const SECRET: &str = "teacher-with-a-name";

struct Both {
    kafka: &'static Kafka,
    topic: String,
    store: String,
}

impl Both {
    async fn compare(&self, more: &[&str]) -> Result<Ended> {
        let settings = [
            format!("store.url={}", self.store),
            format!("kafka.brokers={}", self.kafka.bootstrap()),
            format!("notification.topic={}", self.topic),
        ];
        let mut arguments = vec!["compare", "--grace", "0s", "--from", "2020-01-01T00:00:00Z"];
        settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
        arguments.extend(more);
        belfry(&arguments).await
    }

    /// Publishes a notification as the other notifier.
    async fn tell(&self, message: &Value) -> Result<()> {
        let key = message["data"]["teacher_id"].as_str().map(str::as_bytes);
        self.kafka.produce(&self.topic, key, &[], Some(message.to_string().as_bytes())).await?;
        Ok(())
    }
}

fn event(number: u64) -> Value {
    let batch = Batch { teacher: format!("{SECRET}-{}", number % 3), ..Batch::number(number) };
    results_ready(&batch)
}

async fn post(client: &Client, number: u64) -> Result<()> {
    let posted = client.post(&event(number)).await?;
    ensure!(posted.status == 201, "{posted:?}");
    Ok(())
}

#[tokio::test]
async fn what_differs_from_the_old_notifier_is_found_and_nothing_personal_is_shown() -> Result<()> {
    let (kafka, database) = (shared_kafka().await?, shared_postgres().await?.create_database().await?);
    let topic = format!("compared-{}", Uuid::new_v4());
    kafka.create_topic(&topic, 3, &[]).await?;
    let both = Both { kafka, topic: topic.clone(), store: database.url.clone() };
    let settings = [("store.url", database.url.as_str()), ("notification.topic", &topic)];
    let observing: Vec<(&str, &str)> = settings.iter().copied().chain([("delivery.mode", "observe")]).collect();
    let service = TestService::start_with(TEACHER_RESULTS, &observing).await?;
    for number in 0..20 {
        post(&service.client(), number).await?;
    }
    let message = |number: u64| old_message(&event(number), &topic);
    for number in 0..20 {
        both.tell(&message(number)).await?;
    }
    let agree = both.compare(&["--output", "json"]).await?;
    ensure!(agree.code == Some(0) && agree.json()?[0]["summary"]["same"] == 20, "{agree:?}");
    let moment = service.client().get(&format!("/v1/events/{}", Batch::number(3).event_id)).await?;
    ensure!(moment.body["notifications"][0]["event_id"].is_string(), "{moment:?}");

    // The old notifier sends other content, notifies of an event that Belfry has not, repeats a notification, and
    // misses one.
    post(&service.client(), 20).await?;
    let mut changed = message(20);
    changed["data"]["payload"]["message"] = "something else".into();
    changed["data"]["priority"] = "low".into();
    both.tell(&changed).await?;
    both.tell(&message(21)).await?;
    post(&service.client(), 22).await?;
    both.tell(&message(5)).await?;
    both.tell(&json!({ "event_id": Uuid::new_v4(), "data": { "nobody": true } })).await?;
    service.stop().await;
    // And Belfry sends a notification that the old notifier sends too.
    let service = TestService::start_with(TEACHER_RESULTS, &settings).await?;
    post(&service.client(), 23).await?;
    post(&service.client(), 24).await?;
    both.tell(&message(23)).await?;
    service.stop().await;
    tokio::time::sleep(Duration::from_millis(50)).await;

    let ended = both.compare(&["--output", "json"]).await?;
    ensure!(ended.code == Some(3), "{ended:?}");
    let lines = ended.json()?;
    let (summary, differences) = lines.split_last().context("a summary")?;
    let of = |kind: &str| -> Vec<&Value> {
        differences.iter().filter(|difference| difference["difference"] == kind).collect()
    };
    let expected = [("changed", 20), ("only-other", 21), ("only-belfry", 22), ("told-twice", 23)];
    for (kind, number) in expected {
        let correlation = json!(Batch::number(number).event_id);
        ensure!(of(kind).len() == 1 && of(kind)[0]["correlation_id"] == correlation, "{kind}: {differences:?}");
    }
    ensure!(of("changed")[0]["fields"] == json!(["payload.message", "priority"]), "{differences:?}");
    ensure!(of("only-other")[0]["other"]["event_id"].is_string() && of("only-other")[0]["belfry"].is_null());
    let summary = &summary["summary"];
    ensure!(differences.len() == 4 && summary["same"] == 20 && summary["repeated"] == 1, "{summary}");
    ensure!(summary["sent"] == 1 && summary["unreadable"] == 1, "{summary}");

    // The text output agrees, and no output contains personal data.
    let text = both.compare(&[]).await?;
    ensure!(text.code == Some(3) && text.stdout.contains("payload.message, priority"), "{text:?}");
    for output in [&ended.stdout, &ended.stderr, &text.stdout, &text.stderr] {
        ensure!(!output.contains(SECRET) && !output.contains("something else"), "{output}");
    }
    // Notifications outside of the range are not differences.
    let before = both.compare(&["--to", "2021-01-01T00:00:00Z"]).await?;
    ensure!(before.code == Some(0), "{before:?}");
    let nowhere = both.compare(&["--topic", "no-such-topic"]).await?;
    ensure!(nowhere.code == Some(4), "{nowhere:?}");
    Ok(())
}
