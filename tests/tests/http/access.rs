//! Roles and tokens, the API description, and feed clients that do not read.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use belfry_artifacts::TEACHER_RESULTS;
use belfry_service::access::Role;
use belfry_service::http::{OPENAPI, routes};
use belfry_tests::servers::{FaultProxy, shared_postgres};
use belfry_tests::{Batch, BelfryProcess, TestService, belfry, results_ready};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::tokens::{create, secret, status};

/// Every route and the lowest role that may use it. Must equal the router's own list.
const MATRIX: &[(&str, &str, Option<Role>)] = &[
    ("POST", "/v1/events", Some(Role::Publisher)),
    ("GET", "/v1/events/{event_id}", Some(Role::Viewer)),
    ("POST", "/v1/events/{event_id}/rerun", Some(Role::Operator)),
    ("GET", "/v1/notifications/{event_id}", Some(Role::Viewer)),
    ("GET", "/v1/feed", Some(Role::Viewer)),
    ("GET", "/v1/dead-letters", Some(Role::Viewer)),
    ("GET", "/v1/dead-letters/groups", Some(Role::Viewer)),
    ("GET", "/v1/dead-letters/{id}", Some(Role::Viewer)),
    ("POST", "/v1/dead-letters/redrive", Some(Role::Operator)),
    ("POST", "/v1/dead-letters/discard", Some(Role::Operator)),
    ("GET", "/v1/parked", Some(Role::Viewer)),
    ("POST", "/v1/parked/unpark", Some(Role::Operator)),
    ("POST", "/v1/parked/discard", Some(Role::Operator)),
    ("GET", "/v1/sinks", Some(Role::Viewer)),
    ("POST", "/v1/sinks/{name}/forget", Some(Role::Operator)),
    ("POST", "/v1/sinks/{name}/resume", Some(Role::Operator)),
    ("GET", "/v1/releases", Some(Role::Viewer)),
    ("POST", "/v1/releases", Some(Role::Operator)),
    ("GET", "/v1/releases/{release_id}", Some(Role::Viewer)),
    ("GET", "/v1/projectors", Some(Role::Viewer)),
    ("POST", "/v1/projectors/{name}/rollout", Some(Role::Operator)),
    ("POST", "/v1/projectors/{name}/replays", Some(Role::Operator)),
    ("GET", "/v1/projectors/{name}/trial", Some(Role::Viewer)),
    ("POST", "/v1/projectors/{name}/trial", Some(Role::Operator)),
    ("POST", "/v1/projectors/{name}/trial/end", Some(Role::Operator)),
    ("POST", "/v1/projectors/{name}/rollback", Some(Role::Operator)),
    ("POST", "/v1/projectors/{name}/retire", Some(Role::Operator)),
    ("POST", "/v1/rollout", Some(Role::Operator)),
    ("GET", "/v1/pauses", Some(Role::Viewer)),
    ("POST", "/v1/pauses/{kind}/{name}", Some(Role::Operator)),
    ("POST", "/v1/pauses/{kind}/{name}/resume", Some(Role::Operator)),
    ("GET", "/v1/audit-log", Some(Role::Operator)),
    ("GET", "/v1/tokens", Some(Role::Admin)),
    ("POST", "/v1/tokens", Some(Role::Admin)),
    ("POST", "/v1/tokens/{name}/revoke", Some(Role::Admin)),
    ("GET", "/openapi.json", None),
];

/// Writes a tokens file with one token per role; the token is the name of the role. Returns its path.
fn tokens_file(directory: &TempDir) -> Result<String> {
    let line = |role: Role| {
        let hash: String = Sha256::digest(role.as_str()).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{role}-of-file {role} {hash}\n")
    };
    let file = directory.path().join("tokens");
    std::fs::write(&file, format!("# who\n{}", Role::ALL.map(line).concat()))?;
    Ok(file.to_str().context("the path is not UTF-8")?.to_owned())
}

#[tokio::test]
async fn every_route_has_its_role() -> Result<()> {
    let listed: BTreeSet<_> = routes().iter().map(|route| (route.method.to_string(), route.path, route.role)).collect();
    let expected: BTreeSet<_> =
        MATRIX.iter().map(|(method, path, role)| ((*method).to_owned(), *path, *role)).collect();
    ensure!(listed == expected, "the matrix must list every route: {:?}", listed.symmetric_difference(&expected));

    let directory = TempDir::new()?;
    let file = tokens_file(&directory)?;
    let settings = [("http.tokens_file", file.as_str()), ("http.denials_per_minute", "0")];
    let service = TestService::start_with(TEACHER_RESULTS, &settings).await?;
    let url = service.client().url().to_owned();
    let mut tokens = Vec::new();
    for role in Role::ALL {
        let made = create(&url, "admin", json!({ "name": format!("{role}-of-database"), "role": role })).await?;
        tokens.extend([(role, role.as_str().to_owned()), (role, secret(&made)?)]);
    }
    let http = Client::new();
    for (method, path, needed) in MATRIX {
        let filled = path
            .replace("{event_id}", &Uuid::nil().to_string())
            .replace("{id}", "1")
            .replace("{release_id}", "9")
            .replace("{name}", "x")
            .replace("{kind}", "y");
        let request = || http.request(method.parse().expect("valid method"), format!("{url}{filled}"));
        let anonymous = [status(request()).await?, status(request().bearer_auth("belfry_guess")).await?];
        let expected = if needed.is_some() { 401 } else { 200 };
        ensure!(anonymous.iter().all(|status| *status == expected), "{method} {path} without a token: {anonymous:?}");
        for (role, token) in &tokens {
            let status = status(request().bearer_auth(token)).await?;
            ensure!(status != 401 && status != 405, "{method} {path}: {status}");
            ensure!(
                (status == 403) == needed.is_some_and(|needed| !role.may(needed)),
                "{role}: {method} {path}: {status}"
            );
        }
    }
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_producer_posts_and_learns_nothing_of_what_follows() -> Result<()> {
    let directory = TempDir::new()?;
    let file = tokens_file(&directory)?;
    let service = TestService::start_with(TEACHER_RESULTS, &[("http.tokens_file", &file)]).await?;
    let events = format!("{}/v1/events", service.client().url());
    let post = |kind: &str, body: String| {
        Client::new().post(&events).bearer_auth("producer").header("content-type", kind).body(body).send()
    };
    let one: Value = post("application/json", results_ready(&Batch::number(1)).to_string()).await?.json().await?;
    ensure!(one["status"] == "accepted" && one["position"] == 1, "{one}");
    let line: Value = post("application/jsonl", results_ready(&Batch::number(2)).to_string()).await?.json().await?;
    ensure!(line["status"] == "accepted" && line["line"] == 1, "{line}");
    for answer in [one, line] {
        ensure!(answer["notifications"] == json!([]) && answer["dead_letters"] == json!([]), "{answer}");
    }
    let read = Client::new().get(format!("{events}/{}", Batch::number(1).event_id));
    ensure!(status(read.bearer_auth("producer")).await? == 403);
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn denied_requests_are_counted_and_an_address_with_too_many_waits() -> Result<()> {
    let directory = TempDir::new()?;
    std::fs::write(directory.path().join("belfry.toml"), "[http]\ndenials_per_minute = 5\n")?;
    let file = tokens_file(&directory)?;
    let belfry = BelfryProcess::start_with(directory.path(), &[("http.tokens_file", file)]).await?;
    let url = format!("{}/v1/events/{}", belfry.client().url(), Uuid::nil());
    let get = |token: &str| status(Client::new().get(&url).bearer_auth(token));
    ensure!(get("viewer").await? == 404, "the token is accepted, and the event does not exist");
    for _ in 0..3 {
        ensure!(get("guess").await? == 401);
    }
    ensure!(get("producer").await? == 403 && get("producer").await? == 403);
    let waits = Client::new().get(&url).bearer_auth("guess").send().await?;
    ensure!(waits.status() == 429 && waits.headers()["retry-after"] == "60", "{waits:?}");
    ensure!(get("operator").await? == 429, "the response must not reveal whether a guess is right");
    ensure!(get("viewer").await? == 404, "a token that was accepted before, from the same address, still is");
    let metrics = belfry.metrics().await?;
    for counted in ["{status=\"401\"} 3", "{status=\"403\"} 2", "{status=\"429\"} 2"] {
        ensure!(metrics.contains(&format!("belfry_denied_total{counted}")), "{counted}: {metrics}");
    }
    let log = belfry.log()?;
    let denied = log.lines().filter(|line| line.contains("request denied"));
    let denied: Vec<Value> = denied.map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(denied.len() == 5 && denied.iter().all(|line| line["address"] == "127.0.0.1"), "{denied:?}");
    ensure!(denied[4]["caller"] == "producer-of-file" && denied[4]["route"] == "/v1/events/{event_id}", "{denied:?}");
    belfry.terminate().await
}

#[tokio::test]
async fn requests_do_not_queue_behind_a_database_that_hangs() -> Result<()> {
    let postgres = shared_postgres().await?;
    let database = postgres.create_database().await?;
    let proxy = FaultProxy::start(postgres.port()).await?;
    let directory = TempDir::new()?;
    let set = format!("store.url={}", database.url);
    let root = belfry(&["token", "create", "root", "--role", "admin", "--direct", "--set", &set]).await?;
    ensure!(root.code == Some(0), "{root:?}");
    let settings =
        [("store.url", database.url_through(proxy.port(), "postgres")), ("http.require_token", "true".to_owned())];
    let belfry = BelfryProcess::start_with(directory.path(), &settings).await?;
    let url = format!("{}/v1/events", belfry.client().url());
    let http = Client::new();
    // An invalid event is rejected without the database, once its sender is identified.
    let post = || async { status(http.post(&url).bearer_auth(root.stdout.trim()).body("{}")).await };
    ensure!(post().await? == 400);
    proxy.hang();
    // Longer than cached tokens are accepted without reading the database (900 ms).
    tokio::time::sleep(Duration::from_millis(1500)).await;
    for _ in 0..2 {
        let began = Instant::now();
        let statuses = futures_util::future::join_all((0..20).map(|_| post())).await;
        let took = began.elapsed();
        println!("20 requests while the database hangs: {took:?}");
        ensure!(statuses.iter().all(|status| status.as_ref().is_ok_and(|status| *status == 400)), "{statuses:?}");
        ensure!(took < Duration::from_secs(4), "{took:?}");
    }
    proxy.heal().await?;
    belfry.kill().await
}

#[tokio::test]
async fn without_tokens_web_pages_are_kept_out() -> Result<()> {
    let service = TestService::start().await?;
    let url = format!("{}/v1/projectors", service.client().url());
    let http = Client::new();
    ensure!(status(http.get(&url)).await? == 200);
    ensure!(status(http.get(&url).header("origin", "https://example.com")).await? == 403);
    for host in ["rebound.example.com", "localhost.example.com", "[::2]"] {
        ensure!(status(http.get(&url).header("host", host)).await? == 403, "{host}");
    }
    for host in ["localhost.", "LOCALHOST:1", "[::1]", "[::1]:7341"] {
        ensure!(status(http.get(&url).header("host", host)).await? == 200, "{host}");
    }
    let two = raw(
        &service,
        "GET /v1/projectors HTTP/1.1\r\nhost: localhost\r\nhost: example.com\r\nconnection: close\r\n\r\n",
    );
    ensure!(two.await?.starts_with("HTTP/1.1 400"), "two host headers");
    let elsewhere = "GET http://example.com/v1/projectors HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    ensure!(raw(&service, elsewhere).await?.starts_with("HTTP/1.1 403"), "the host in the request line is checked too");
    service.stop().await;
    Ok(())
}

/// Sends a request verbatim. Returns the response.
async fn raw(service: &TestService, request: &str) -> Result<String> {
    let mut stream = TcpStream::connect(service.client().url().trim_start_matches("http://")).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn the_api_description_names_routes_that_exist() -> Result<()> {
    let service = TestService::start().await?;
    let url = service.client().url().to_owned();
    let http = Client::new();
    let described: Value = serde_json::from_str(OPENAPI)?;
    let paths = described["paths"].as_object().context("no paths")?;
    ensure!(paths.len() >= 9, "{} paths", paths.len());
    for (path, methods) in paths.iter().filter(|(path, _)| path.starts_with("/v1")) {
        let filled = path
            .replace("{event_id}", "x")
            .replace("{release_id}", "x")
            .replace("{name}", "x")
            .replace("{kind}", "x")
            .replace("{id}", "x");
        for method in
            methods.as_object().context("no methods")?.keys().filter(|key| ["get", "post"].contains(&key.as_str()))
        {
            let method: Method = method.to_uppercase().parse()?;
            let response = http.request(method.clone(), format!("{url}{filled}")).send().await?;
            let status = response.status();
            ensure!(status != 405, "{method} {path} is described but does not exist");
            if status == 404 {
                let detail = response.text().await?;
                ensure!(
                    !detail.contains("does not exist; see /openapi.json"),
                    "{method} {path} is described but does not exist"
                );
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
    // Longer than the service waits for a client that does not read. The feed is far larger than the socket buffers.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let mut text = String::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_string(&mut text)).await??;
    let end = text.split("event: closed").nth(1).context("no event: closed")?;
    ensure!(end.contains("slow-reader"), "{end}");
    let seen = text.matches("event: notification").count() as u64;
    ensure!(seen < EVENTS, "all {seen} were buffered for a client that did not read");
    service.stop().await;
    Ok(())
}
