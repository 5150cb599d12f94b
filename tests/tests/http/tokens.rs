//! Tokens: created, shown once, expired, revoked.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use belfry_artifacts::TEACHER_RESULTS;
use belfry_tests::servers::shared_postgres;
use belfry_tests::{Batch, BelfryProcess, Ended, Replica, TestService, belfry, eventually, results_ready};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(super) async fn status(request: reqwest::RequestBuilder) -> Result<StatusCode> {
    Ok(request.send().await?.status())
}

pub(super) async fn create(url: &str, by: &str, body: Value) -> Result<Value> {
    let response = Client::new().post(format!("{url}/v1/tokens")).bearer_auth(by).json(&body).send().await?;
    let status = response.status();
    ensure!(response.headers()["cache-control"] == "no-store", "a response with a token must not be cached");
    let made: Value = response.json().await?;
    ensure!(status == 201, "{status}: {made}");
    Ok(made)
}

pub(super) fn secret(made: &Value) -> Result<String> {
    Ok(made["token"].as_str().context("no token")?.to_owned())
}

#[tokio::test]
async fn no_token_has_a_name_that_belfry_has() -> Result<()> {
    let directory = TempDir::new()?;
    let file = directory.path().join("tokens");
    let hash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    for name in ["local", "Belfry"] {
        std::fs::write(&file, format!("{name} admin {hash}\n"))?;
        let settings = [("http.tokens_file", file.to_str().context("the path is not UTF-8")?)];
        let started = TestService::start_with(TEACHER_RESULTS, &settings).await;
        ensure!(started.is_err_and(|error| error.to_string().contains("neither local nor belfry")), "{name}");
        let made = belfry_on(&directory, &["token", "create", name, "--role", "viewer", "--direct"]).await?;
        ensure!(made.code != Some(0) && made.stderr.contains("neither local nor belfry"), "{made:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_token_is_shown_once_and_kept_as_its_hash() -> Result<()> {
    let directory = TempDir::new()?;
    let root = belfry_on(&directory, &["token", "create", "root", "--role", "admin", "--direct"]).await?;
    ensure!(root.code == Some(0) && root.stdout.starts_with("belfry_"), "{root:?}");
    let root = root.stdout.trim().to_owned();
    let process = BelfryProcess::start_with(directory.path(), &[("http.require_token", "true".into())]).await?;
    let url = process.client().url().to_owned();
    let made = create(&url, &root, json!({ "name": "ci", "role": "publisher" })).await?;
    let token = secret(&made)?;
    ensure!(made["created_by"] == "root" && token.len() == 71, "{made}");
    let http = Client::new();
    let post = || http.post(format!("{url}/v1/events")).bearer_auth(&token).json(&results_ready(&Batch::number(1)));
    ensure!(status(post()).await? == 201);
    let taken =
        http.post(format!("{url}/v1/tokens")).bearer_auth(&root).json(&json!({ "name": "ci", "role": "viewer" }));
    ensure!(status(taken).await? == 409, "a name belongs to one token");
    let command = async |arguments: &[&str]| with_token(&url, &root, arguments).await;
    let looked = eventually(
        "the use is recorded",
        async || command(&["--output", "json", "token", "list"]).await?.json(),
        |tokens| tokens.iter().all(|token| token["last_used_at"].is_string()),
    )
    .await?;
    ensure!(looked.iter().map(|token| &token["name"]).eq(["root", "ci"]), "{looked:?}");
    ensure!(looked[0]["created_by"].as_str().is_some_and(|by| by.starts_with("direct:")), "{looked:?}");

    let revoked = command(&["token", "revoke", "ci"]).await?;
    ensure!(revoked.code == Some(0) && status(post()).await? == 401, "{revoked:?}");
    ensure!(command(&["token", "revoke", "ci"]).await?.code == Some(4));
    let made = command(&["token", "create", "ci", "--role", "viewer", "--expires-in", "1h"]).await?;
    ensure!(made.code == Some(0), "the name is free again: {made:?}");
    let shown = command(&["token", "list"]).await?;
    ensure!(shown.stdout.contains("by root") && shown.stdout.contains("until "), "{}", shown.stdout);

    let secrets = [root.clone(), token, made.stdout.trim().to_owned()];
    let log = process.log()?;
    process.terminate().await?;
    let mut kept = shown.stdout.into_bytes();
    for file in ["belfry.db", "belfry.db-wal"] {
        kept.extend(std::fs::read(directory.path().join(file)).unwrap_or_default());
    }
    kept.extend(log.into_bytes());
    for secret in &secrets {
        let secret = &secret.as_bytes()["belfry_".len()..];
        ensure!(!kept.windows(secret.len()).any(|window| window == secret), "a token is in the database or the log");
    }
    Ok(())
}

/// Runs the command on the database in a directory.
async fn belfry_on(directory: &TempDir, arguments: &[&str]) -> Result<Ended> {
    let store = format!("store.url=sqlite:{}", directory.path().join("belfry.db").display());
    belfry(&[arguments, &["--set", &store]].concat()).await
}

async fn with_token(url: &str, token: &str, arguments: &[&str]) -> Result<Ended> {
    let directory = TempDir::new()?;
    let file = directory.path().join("token");
    std::fs::write(&file, token)?;
    let file = file.to_str().context("the path is not UTF-8")?;
    belfry(&[&["--url", url, "--token-file", file][..], arguments].concat()).await
}

#[tokio::test]
async fn a_token_counts_until_it_expires() -> Result<()> {
    let service = TestService::start().await?;
    let url = service.client().url().to_owned();
    let request = json!({ "name": "short", "role": "viewer", "expires_in_seconds": 2 });
    let made = Client::new().post(format!("{url}/v1/tokens")).json(&request).send().await?;
    ensure!(made.status() == 201, "without tokens, any client on this machine may create one");
    let token = secret(&made.json().await?)?;
    let read = || status(Client::new().get(format!("{url}/v1/projectors")).bearer_auth(&token));
    ensure!(read().await? == 200);
    let mut feed = Client::new().get(format!("{url}/v1/feed")).bearer_auth(&token).send().await?;
    let began = Instant::now();
    let mut shown = String::new();
    while let Some(chunk) = tokio::time::timeout(Duration::from_secs(10), feed.chunk()).await?? {
        shown.push_str(std::str::from_utf8(&chunk)?);
    }
    ensure!(
        shown.contains(
            r#"event: closed
data: {"reason":"unauthorized"}"#
        ),
        "{shown}"
    );
    ensure!(read().await? == 401 && began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn every_replica_honours_a_revocation_within_a_moment() -> Result<()> {
    let database = shared_postgres().await?.create_database().await?;
    let tokens = [("http.require_token", "true".to_owned())];
    let set = ["--set".to_owned(), format!("store.url={}", database.url)];
    let direct = async |arguments: &[&str]| belfry(&[arguments, &["--direct", &set[0], &set[1]]].concat()).await;
    let one = Replica::start(&database, None, &tokens).await?;
    let other = Replica::start(&database, None, &tokens).await?;
    let root = direct(&["token", "create", "root", "--role", "admin"]).await?;
    ensure!(root.code == Some(0), "{root:?}");
    let root = root.stdout.trim().to_owned();
    let url = other.client().url().to_owned();
    // Longer than a replica uses its cached tokens, so that the other replica polls at its lowest rate.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    for (round, revoked_directly) in [false, true].into_iter().enumerate() {
        let name = format!("reader-{round}");
        let made = create(one.client().url(), &root, json!({ "name": name, "role": "viewer" })).await?;
        let token = secret(&made)?;
        let read = || status(Client::new().get(format!("{url}/v1/projectors")).bearer_auth(&token));
        eventually("the other replica accepts the token", async || read().await, |status| *status == 200).await?;
        let mut feed = Client::new().get(format!("{url}/v1/feed")).bearer_auth(&token).send().await?;
        ensure!(feed.status() == 200);
        tokio::time::sleep(Duration::from_millis(2500)).await;

        let revoked_at = if revoked_directly {
            let revoked = direct(&["token", "revoke", &name]).await?;
            ensure!(revoked.code == Some(0), "{revoked:?}");
            Instant::now()
        } else {
            let revoked = with_token(one.client().url(), &root, &["token", "revoke", &name]).await?;
            ensure!(revoked.code == Some(0), "{revoked:?}");
            Instant::now()
        };
        while read().await? != 401 {
            ensure!(revoked_at.elapsed() < Duration::from_secs(10), "the revoked token is still accepted");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let refused = revoked_at.elapsed();
        let end = async { while let Ok(Some(_)) = feed.chunk().await {} };
        tokio::time::timeout(Duration::from_secs(10), end).await.context("the feed of a revoked token continues")?;
        let ended = revoked_at.elapsed();
        println!("revoked: the other replica rejects the token after {refused:?}, and ends its feed after {ended:?}");
        ensure!(refused < Duration::from_millis(1500) && ended < Duration::from_millis(2000));
    }
    Ok(())
}
