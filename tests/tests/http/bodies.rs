//! The bodies of requests: media types, lines and limits.

use anyhow::Result;
use belfry_artifacts::URGENT_FAILURES;
use belfry_tests::{Batch, TestService};
use serde_json::{Value, json};

use super::api::event;

#[tokio::test]
async fn lines_are_answered_up_to_the_first_that_is_not_taken() -> Result<()> {
    const EVENTS: usize = 10_000;
    let service = TestService::start().await?;
    let body: String = (0..EVENTS as u64).map(|number| format!("{}\n", event(number))).collect();
    let url = format!("{}/v1/events", service.client().url());
    let request = reqwest::Client::new().post(url).header("content-type", "application/x-ndjson").body(body);
    let reading = tokio::spawn(async move {
        let response = request.send().await?;
        anyhow::ensure!(response.status() == 200, "{}", response.status());
        anyhow::Ok(response.text().await?)
    });
    let first = format!("/v1/events/{}", Batch::number(0).event_id);
    while service.client().get(&first).await?.status != 200 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    // The service stops once the first lines are durable.
    let service = service.restart().await?;
    let lines: Vec<Value> = reading.await??.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(lines.len(), EVENTS, "every line has a response");
    let taken = lines.iter().take_while(|line| line["status"] == "accepted").count();
    assert!(taken > 0 && taken < EVENTS, "{taken} were accepted");
    for (line, number) in lines.iter().zip(1..) {
        assert_eq!(line["line"], number);
    }
    for line in &lines[taken..] {
        assert_eq!((&line["status"], &line["problem"]["status"]), (&json!("overloaded"), &json!(503)), "{line}");
    }
    let client = service.client();
    let last = client.get(&format!("/v1/events/{}", Batch::number(taken as u64 - 1).event_id)).await?;
    assert_eq!(last.body["position"], lines[taken - 1]["position"], "acknowledged events are in the log");
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn bodies_are_what_they_say_in_any_case_and_without_a_coding() -> Result<()> {
    let service = TestService::start().await?;
    let url = format!("{}/v1/events", service.client().url());
    let http = reqwest::Client::new();
    let two = format!("{}\n{}\n", event(1), event(2));
    for kind in
        ["application/x-ndjson", "Application/X-NDJSON; charset=utf-8", "application/ndjson", "application/jsonl"]
    {
        let answer = http.post(&url).header("content-type", kind).body(two.clone()).send().await?;
        assert_eq!((answer.status().as_u16(), answer.text().await?.lines().count()), (200, 2), "{kind}");
    }
    for path in ["v1/events", "v1/rollout"] {
        let coded = http.post(format!("{}/{path}", service.client().url())).json(&event(3));
        let answer = coded.header("content-encoding", "gzip").send().await?;
        assert_eq!(answer.status(), 415, "{path}");
        assert_eq!(answer.json::<Value>().await?["type"], "urn:belfry:problem:unsupported-media-type");
    }
    let plain = http.post(format!("{}/v1/rollout", service.client().url())).body(r#"{"release_ids":[1]}"#);
    assert_eq!(plain.send().await?.status(), 415);
    let json = http.post(format!("{}/v1/rollout", service.client().url())).header("content-type", "APPLICATION/JSON");
    assert_ne!(json.body(r#"{"release_ids":[1]}"#).send().await?.status(), 415);
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn limits_are_called_limits() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    let refused = async |path: &str, text: String| {
        let url = format!("{}{path}", service.client().url());
        let request = reqwest::Client::new().post(url).header("content-type", "application/json").body(text);
        let answer = request.send().await?;
        anyhow::Ok((answer.status().as_u16(), answer.json::<Value>().await?["detail"].to_string()))
    };
    let (status, detail) =
        refused("/v1/rollout", format!("{{\"release_ids\":{}1{}}}", "[".repeat(200), "]".repeat(200))).await?;
    assert!(status == 400 && detail.contains("nested too deeply"), "{status}: {detail}");
    let (status, detail) = refused("/v1/rollout", format!("{{\"release_ids\":[{}]}}", " ".repeat(70_000))).await?;
    assert!(status == 413 && detail.contains("64 KiB"), "{status}: {detail}");
    let config = json!({ "failure_message": "x".repeat(70_000) });
    let large = client.push(URGENT_FAILURES, &config).await?;
    assert_eq!(large.status, 413, "{large:?}");
    assert!(large.body["detail"].to_string().contains("config: too large; send at most 65536 bytes"), "{large:?}");
    for (method, path) in [("GET", "/v1/releases?projector=%00"), ("POST", "/v1/pauses/sink/a%00b")] {
        let url = format!("{}{path}", client.url());
        let answer =
            reqwest::Client::new().request(method.parse()?, url).json(&json!({ "reason": "x" })).send().await?;
        assert_eq!(answer.status(), 400, "{path}");
    }
    let (status, detail) =
        refused("/v1/dead-letters/discard", r#"{"which":{"cause":"a\u0000b"},"reason":"x"}"#.into()).await?;
    assert!(status == 400 && detail.contains("U+0000"), "{status}: {detail}");
    service.stop().await;
    Ok(())
}
