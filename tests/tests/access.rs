//! Who may do what, what the API says of itself, and readers that do not read.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use belfry_service::http::OPENAPI;
use belfry_tests::{Batch, TestService, results_ready};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn status(request: reqwest::RequestBuilder) -> Result<StatusCode> {
    Ok(request.send().await?.status())
}

#[tokio::test]
async fn tokens_decide_what_somebody_may_do() -> Result<()> {
    let directory = TempDir::new()?;
    let file = directory.path().join("tokens");
    let line = |role: &str| {
        let hash: String = Sha256::digest(role.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("somebody {role} {hash}\n")
    };
    std::fs::write(&file, format!("# who\n{}{}{}", line("viewer"), line("publisher"), line("operator")))?;
    let tokens_file = file.to_str().context("a path")?;
    let service =
        TestService::start_with(belfry_artifacts::TEACHER_RESULTS, &[("http.tokens_file", tokens_file)]).await?;
    let url = service.client().url().to_owned();
    let http = Client::new();
    let read = |token: &str| status(http.get(format!("{url}/v1/projectors")).bearer_auth(token));
    let event = results_ready(&Batch::number(1));
    let post = |token: &str| status(http.post(format!("{url}/v1/events")).bearer_auth(token).json(&event));
    let roll_back =
        |token: &str| status(http.post(format!("{url}/v1/projectors/teacher-results/rollback")).bearer_auth(token));

    ensure!(status(http.get(format!("{url}/v1/projectors"))).await? == 401, "without a token");
    ensure!(read("guess").await? == 401, "with a token that nobody knows");
    ensure!(read("viewer").await? == 200 && post("viewer").await? == 403);
    ensure!(post("publisher").await? == 201 && roll_back("publisher").await? == 403);
    ensure!(roll_back("operator").await? == 404, "allowed, though there is nothing to go back to");
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn without_tokens_web_pages_are_kept_out() -> Result<()> {
    let service = TestService::start().await?;
    let url = format!("{}/v1/projectors", service.client().url());
    let http = Client::new();
    ensure!(status(http.get(&url)).await? == 200);
    ensure!(status(http.get(&url).header("origin", "https://example.com")).await? == 403);
    ensure!(status(http.get(&url).header("host", "rebound.example.com")).await? == 403);
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn the_api_description_names_routes_that_exist() -> Result<()> {
    let service = TestService::start().await?;
    let url = service.client().url().to_owned();
    let http = Client::new();
    let described: Value = serde_json::from_str(OPENAPI)?;
    let paths = described["paths"].as_object().context("paths")?;
    ensure!(paths.len() >= 9, "{} paths", paths.len());
    for (path, methods) in paths.iter().filter(|(path, _)| path.starts_with("/v1")) {
        let filled = path.replace("{event_id}", "x").replace("{release_id}", "x").replace("{name}", "x");
        for method in
            methods.as_object().context("methods")?.keys().filter(|key| ["get", "post"].contains(&key.as_str()))
        {
            let method: Method = method.to_uppercase().parse()?;
            let response = http.request(method.clone(), format!("{url}{filled}")).send().await?;
            let status = response.status();
            ensure!(status != 405, "{method} {path} is described but not there");
            if status == 404 {
                let detail = response.text().await?;
                ensure!(!detail.contains("there is nothing at"), "{method} {path} is described but not there");
            }
        }
    }
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_dropped_with_the_reason() -> Result<()> {
    const EVENTS: u64 = 1500;
    let service = TestService::start().await?;
    let client = service.client();
    let large = |number: u64| {
        let batch = Batch { batch_id: "b".repeat(15_000), ..Batch::number(number) };
        format!("{}\n", results_ready(&batch))
    };
    for first in (0..EVENTS).step_by(250) {
        client.post_lines((first..first + 250).map(large).collect::<String>()).await?;
    }
    let address = client.url().trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).await?;
    stream
        .write_all(
            format!("GET /v1/feed?from=beginning HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes(),
        )
        .await?;
    // Longer than the service's patience, while there is far more to read than sockets hold.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let mut text = String::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_string(&mut text)).await??;
    let end = text.split("event: closed").nth(1).context("no word of the end")?;
    ensure!(end.contains("slow-reader"), "{end}");
    let seen = text.matches("event: notification").count() as u64;
    ensure!(seen < EVENTS, "all {seen} were kept for a reader that did not read");
    service.stop().await;
    Ok(())
}
