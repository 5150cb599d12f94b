//! The API's description and what is served: the same paths with the same methods, in both directions.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use belfry_service::http::{OPENAPI, paths};
use belfry_tests::{BelfryProcess, Client};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tempfile::TempDir;

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
