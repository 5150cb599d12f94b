//! The API description matches the served API: both have the same paths with the same methods. A validator and a
//! property-based client, both from PyPI, find nothing that is not described.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use belfry_service::http::{OPENAPI, paths};
use belfry_tests::{Batch, BelfryProcess, Client, results_ready};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

/// Methods that a path may accept. HEAD comes with GET.
const METHODS: [Method; 6] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

type Served = BTreeMap<String, BTreeSet<String>>;

/// Returns the paths and methods that the description lists for one of the two listeners.
fn described(operators: bool) -> Result<Served> {
    let description: Value = serde_json::from_str(OPENAPI)?;
    let mut described = Served::new();
    for (path, item) in description["paths"].as_object().context("paths")? {
        // Paths of the operators' listener have their own `servers`.
        if item.get("servers").is_some() == operators {
            let methods = item
                .as_object()
                .context("methods")?
                .keys()
                .filter(|key| !matches!(key.as_str(), "servers" | "parameters"));
            described.insert(path.clone(), methods.map(|method| method.to_uppercase()).collect());
        }
    }
    Ok(described)
}

/// Returns the methods that a listener accepts for each of these paths.
async fn served(url: &str, paths: &[&str]) -> Result<Served> {
    let http = reqwest::Client::new();
    let mut served = Served::new();
    for path in paths {
        // Any value will do for a parameter: no such resource exists, so nothing changes.
        let place: String = path
            .split('/')
            .map(|part| if part.starts_with('{') { "nothing" } else { part })
            .collect::<Vec<_>>()
            .join("/");
        let methods = served.entry((*path).to_owned()).or_default();
        for method in METHODS {
            // The response's head is enough: a feed never ends.
            let status = http.request(method.clone(), format!("{url}{place}")).send().await?.status();
            if status != StatusCode::METHOD_NOT_ALLOWED {
                methods.insert(method.to_string());
            }
        }
    }
    Ok(served)
}

#[tokio::test]
async fn what_is_served_is_described_and_what_is_described_is_served() -> Result<()> {
    let directory = TempDir::new()?;
    let belfry = BelfryProcess::start(directory.path()).await?;
    let (api, operators) = paths();
    let client: Client = belfry.client();
    ensure!(served(client.url(), &api).await? == described(false)?, "{:#?}", served(client.url(), &api).await?);
    let seen = served(&belfry.ops_url(), &operators).await?;
    ensure!(seen == described(true)?, "{seen:#?}");
    // Neither listener serves the other's paths.
    for (url, foreign) in [(client.url(), "/metrics"), (&belfry.ops_url(), "/v1/projectors")] {
        ensure!(reqwest::get(format!("{url}{foreign}")).await?.status() == StatusCode::NOT_FOUND, "{url}{foreign}");
    }
    belfry.terminate().await
}

/// Runs a program. Returns an error with its output if it fails.
async fn run(program: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    // Programs leave files in their working directory, so it must not be the checkout.
    command.args(arguments).current_dir(env!("CARGO_TARGET_TMPDIR")).kill_on_drop(true);
    let output = command.output().await;
    let output = output.with_context(|| format!("cannot run {}", program.display()))?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{} {arguments:?}: {}\n{stdout}{stderr}", program.display(), output.status);
    Ok(())
}

/// Returns a Python environment with the packages of tests/openapi/requirements.txt. It is created once, and again when
/// that file changes.
async fn python_environment() -> Result<PathBuf> {
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/requirements.txt");
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("openapi-python");
    let (wanted, made) = (std::fs::read_to_string(&requirements)?, environment.join("requirements.txt"));
    if std::fs::read_to_string(&made).is_ok_and(|made| made == wanted) {
        return Ok(environment);
    }
    let (place, requirements) = (environment.to_str().context("a path")?, requirements.to_str().context("a path")?);
    run(Path::new("python3"), &["-m", "venv", "--clear", place]).await.context("install python3-venv")?;
    run(&environment.join("bin/pip"), &["install", "--quiet", "--disable-pip-version-check", "-r", requirements])
        .await?;
    std::fs::write(made, wanted)?;
    Ok(environment)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_is_valid_and_every_answer_is_described() -> Result<()> {
    let bin = python_environment().await?.join("bin");
    let directory = TempDir::new()?;
    let document = directory.path().join("openapi.json");
    std::fs::write(&document, OPENAPI)?;
    let document = document.to_str().context("a path")?;
    run(&bin.join("openapi-spec-validator"), &["--errors", "all", document]).await?;

    let belfry = BelfryProcess::start(directory.path()).await?;
    let (api, operators) = paths();
    let client = belfry.client();
    // Data for the requests to find.
    for number in 0..3 {
        ensure!(client.post(&results_ready(&Batch::number(number))).await?.status == StatusCode::CREATED);
    }
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                  response_schema_conformance,unsupported_method";
    for (url, paths) in [(client.url(), api), (belfry.ops_url().as_str(), operators)] {
        let mut arguments = vec!["run", document, "--url", url, "--checks", checks, "--max-examples", "15"];
        arguments.extend([
            "--phases",
            "examples,coverage,fuzzing",
            "--seed",
            "1",
            "--request-timeout",
            "30",
            "--no-color",
        ]);
        // A feed never ends; other tests cover its responses.
        for path in paths.into_iter().filter(|path| *path != "/v1/feed") {
            arguments.extend(["--include-path", path]);
        }
        // The client cannot generate components; `admission.rs` uploads valid and broken ones.
        arguments.extend(["--exclude-operation-id", "uploadRelease"]);
        run(&bin.join("schemathesis"), &arguments).await?;
    }
    let log = belfry.log()?;
    ensure!(!log.contains("panicked"), "{log}");
    belfry.terminate().await
}
