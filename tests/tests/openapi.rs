//! The API's description and what is served: the same paths with the same methods, in both directions; and a validator and
//! a property-based client, both from PyPI, find nothing that is not described.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use belfry_service::http::{OPENAPI, paths};
use belfry_tests::{Batch, BelfryProcess, Client, results_ready};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

/// Methods that a path may take. HEAD comes with GET.
const METHODS: [Method; 6] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

type Served = BTreeMap<String, BTreeSet<String>>;

/// What the description says of one of the two listeners.
fn described(operators: bool) -> Result<Served> {
    let description: Value = serde_json::from_str(OPENAPI)?;
    let mut described = Served::new();
    for (path, item) in description["paths"].as_object().context("paths")? {
        // The operators' listener is another server.
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

/// What a listener takes of the paths that it has.
async fn served(url: &str, paths: &[&str]) -> Result<Served> {
    let http = reqwest::Client::new();
    let mut served = Served::new();
    for path in paths {
        // Whatever stands for a part: nothing is there, and nothing is changed.
        let place: String = path
            .split('/')
            .map(|part| if part.starts_with('{') { "nothing" } else { part })
            .collect::<Vec<_>>()
            .join("/");
        let methods = served.entry((*path).to_owned()).or_default();
        for method in METHODS {
            // The answer's head is enough: a feed has no end.
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
    // Nothing is at either that the other has.
    for (url, foreign) in [(client.url(), "/metrics"), (&belfry.ops_url(), "/v1/projectors")] {
        ensure!(reqwest::get(format!("{url}{foreign}")).await?.status() == StatusCode::NOT_FOUND, "{url}{foreign}");
    }
    belfry.terminate().await
}

/// Run a program; what it wrote, if it did not succeed.
async fn run(program: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    // What programs leave behind does not belong into the checkout.
    command.args(arguments).current_dir(env!("CARGO_TARGET_TMPDIR")).kill_on_drop(true);
    let output = command.output().await;
    let output = output.with_context(|| format!("{} cannot be run", program.display()))?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{} {arguments:?}: {}\n{stdout}{stderr}", program.display(), output.status);
    Ok(())
}

/// A Python environment with what tests/openapi/requirements.txt names, made once.
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
    // So that there is something to be found.
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
        // A feed has no end; what it answers is tested elsewhere.
        for path in paths.into_iter().filter(|path| *path != "/v1/feed") {
            arguments.extend(["--include-path", path]);
        }
        // The client cannot make components; `admission.rs` uploads real ones and broken ones.
        arguments.extend(["--exclude-operation-id", "uploadRelease"]);
        run(&bin.join("schemathesis"), &arguments).await?;
    }
    let log = belfry.log()?;
    ensure!(!log.contains("panicked"), "{log}");
    belfry.terminate().await
}
