//! The checks that a component must pass to become a release: a compiler with limits, sample events and signatures.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use belfry_artifacts::{TEACHER_RESULTS, URGENT_FAILURES, programs};
use belfry_tests::{Batch, BelfryProcess, Client, Posted, TestService, belfry, results_ready};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

async fn start(directory: &Path, settings: &[(&str, &str)]) -> Result<BelfryProcess> {
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    BelfryProcess::start_with(directory, &settings).await
}

/// Pushes a component while posting events. Returns the response and the longest time that an event took.
async fn push_beside_events(client: &Client, component: &'static [u8]) -> Result<(Posted, Duration)> {
    let no_settings = json!({});
    let push = client.push(component, &no_settings);
    tokio::pin!(push);
    let mut longest = Duration::ZERO;
    for number in 0.. {
        let began = Instant::now();
        let posted = client.post(&results_ready(&Batch::number(number))).await?;
        longest = longest.max(began.elapsed());
        ensure!([200, 201].contains(&posted.status.as_u16()), "{posted:?}");
        if let Ok(answer) = tokio::time::timeout(Duration::from_millis(20), &mut push).await {
            return Ok((answer?, longest));
        }
    }
    unreachable!("the range is unbounded")
}

#[tokio::test]
async fn a_component_that_no_compiler_can_bear_is_refused_and_the_service_goes_on() -> Result<()> {
    let directory = TempDir::new()?;
    let belfry = start(directory.path(), &[("releases.compile_memory_mib", "1024")]).await?;
    let client = belfry.client();
    let bomb = programs::COMPILE_BOMB;
    ensure!(bomb.len() < 450 << 10, "{} bytes", bomb.len());
    let (refused, longest) = push_beside_events(&client, bomb).await?;
    println!("{} bytes: {}; the slowest event took {longest:?}", bomb.len(), refused.body["detail"]);
    ensure!(refused.status == 422 && refused.body["type"] == "urn:belfry:problem:not-compiled", "{refused:?}");
    let detail = refused.body["detail"].as_str().unwrap_or_default();
    ensure!(detail.contains("1024 MiB of memory") && detail.contains("releases.compile_"), "{detail}");

    let urgent = client.push_and_activate(URGENT_FAILURES, &json!({})).await?;
    let posted = client.post(&results_ready(&Batch::number(1_000_000))).await?;
    ensure!(posted.status == 201, "{posted:?}");
    let notification = posted.body["notifications"][0]["event_id"].as_str().context("no notification")?;
    let shown = client.get(&format!("/v1/notifications/{notification}")).await?;
    ensure!(shown.body["release"] == urgent["label"], "{shown:?}");
    belfry.terminate().await
}

#[tokio::test]
async fn compiling_has_an_end() -> Result<()> {
    let slow = programs::SLOW_TO_COMPILE;
    for (setting, words) in [
        ("releases.compile_seconds", "takes more than 1 s;"),
        ("releases.compile_processor_seconds", "takes more than 1 s of processor time"),
    ] {
        let directory = TempDir::new()?;
        // A first start compiles the bundled rules, however busy the machine is.
        start(directory.path(), &[]).await?.terminate().await?;
        let belfry = start(directory.path(), &[(setting, "1"), ("releases.compile_memory_mib", "8192")]).await?;
        let began = Instant::now();
        let refused = belfry.client().push(slow, &json!({})).await?;
        let detail = refused.body["detail"].as_str().unwrap_or_default();
        println!("{} bytes, {setting} = 1: {detail} (after {:?})", slow.len(), began.elapsed());
        ensure!(refused.status == 422 && detail.contains(words), "{refused:?}");
        belfry.terminate().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_configuration_has_its_limit() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    let large = json!({ "deadline_hours": "9".repeat(64 << 10) });
    let refused = client.push(URGENT_FAILURES, &large).await?;
    ensure!(refused.status == 413, "{refused:?}");
    ensure!(refused.body["detail"].as_str().is_some_and(|detail| detail.contains("65536")), "{refused:?}");
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn what_was_compiled_elsewhere_is_refused_by_name() -> Result<()> {
    let directory = TempDir::new()?;
    let belfry = start(directory.path(), &[]).await?;
    let kept = std::fs::read_dir(directory.path().join("compiled"))?.next().context("no compiled component")??;
    // The machine code follows a checksum and the time that compiling took.
    let machine_code = Vec::leak(std::fs::read(kept.path())?.split_off(40));
    let refused = belfry.client().push(machine_code, &json!({})).await?;
    ensure!(refused.status == 422 && refused.body["type"] == "urn:belfry:problem:not-a-component", "{refused:?}");
    ensure!(refused.body["detail"].as_str().is_some_and(|detail| detail.contains("precompiled")), "{refused:?}");
    belfry.terminate().await
}

#[tokio::test]
async fn a_compilation_that_another_version_kept_is_made_anew() -> Result<()> {
    let directory = TempDir::new()?;
    start(directory.path(), &[]).await?.terminate().await?;
    for kept in std::fs::read_dir(directory.path().join("compiled"))? {
        let path = kept?.path();
        // The format before the time was added: a checksum and the machine code.
        let machine_code = std::fs::read(&path)?.split_off(40);
        let mut older = Sha256::digest(&machine_code).to_vec();
        older.extend(&machine_code);
        std::fs::write(&path, older)?;
    }
    let belfry = start(directory.path(), &[]).await?;
    ensure!(belfry.log()?.contains("compiled again"), "{}", belfry.log()?);
    belfry.terminate().await
}

#[tokio::test]
async fn a_release_tells_what_was_found_out_about_it() -> Result<()> {
    let service = TestService::start().await?;
    let client = service.client();
    let pushed = client.push(URGENT_FAILURES, &json!({ "deadline_hours": 2 })).await?;
    let id = pushed.body["release_id"].as_i64().context("no release id")?;
    let shown = client.get(&format!("/v1/releases/{id}")).await?.body;
    let report = &shown["admission"];
    ensure!(report["contract"] == "belfry:projector@1.0.0" && report["class"] == "native", "{report}");
    ensure!(report["component_bytes"] == URGENT_FAILURES.len(), "{report}");
    ensure!(report["compiled_bytes"].as_u64() > report["component_bytes"].as_u64(), "{report}");
    ensure!(report["compile_ms"].as_f64() > Some(1.0) && report["deadline_ms"] == 50, "{report}");
    let imports = report["imports"].as_array().context("no imports")?;
    ensure!(imports.iter().any(|import| import == "belfry:projector/config@1.0.0"), "{report}");
    let samples: Vec<_> = report["samples"]
        .as_array()
        .context("no samples")?
        .iter()
        .map(|run| (run["sample"].as_str(), run["outcome"].as_str(), run["notifications"].as_i64()))
        .collect();
    let expected =
        ["results-ready", "results-ready-with-failures", "assessment-completed", "assessment-without-rankings"]
            .map(|name| (Some(name), Some("notifications"), Some(1)));
    ensure!(samples == expected, "{samples:?}");
    ensure!(report["samples"][0]["project_us"][1].as_f64() > Some(0.0), "{report}");

    // The same component is not compiled a second time; both reports show the time that compiling took.
    let other = client.push(URGENT_FAILURES, &json!({ "deadline_hours": 3 })).await?.body;
    ensure!(other["release_id"] != shown["release_id"], "{other}");
    ensure!(other["admission"]["compile_ms"] == report["compile_ms"], "{other}");
    let hostile = client.push(programs::HOSTILE, &json!({ "behaviour": "trap" })).await?.body;
    let outcomes = hostile["admission"]["samples"].as_array().context("no samples")?;
    ensure!(
        outcomes.iter().all(|run| run["outcome"] == "trapped"),
        "a rule that traps on samples is accepted, and the report shows it: {hostile}"
    );
    ensure!(hostile["admission"]["samples"].to_string().contains("made-up"), "{hostile}");
    service.stop().await;
    Ok(())
}

#[tokio::test]
async fn releases_are_listed_shown_and_compared() -> Result<()> {
    let service = TestService::start().await?;
    let url = service.client().url().to_owned();
    service.client().push_and_activate(URGENT_FAILURES, &json!({ "deadline_hours": 2 })).await?;
    let run = async |arguments: &[&str]| belfry(&[&["--url", &url][..], arguments].concat()).await;
    let listed = run(&["plugin", "list"]).await?;
    ensure!(listed.code == Some(0) && listed.stdout.lines().count() == 3, "{listed:?}");
    ensure!(listed.stdout.lines().nth(2).is_some_and(|line| line.contains("serves  native")), "{}", listed.stdout);
    let shown = run(&["plugin", "show", "teacher-results@1.1.0#2"]).await?;
    for word in ["serves", "no trusted key", "{\"deadline_hours\":2}", "32 MiB", "50 ms", "with-failures"] {
        ensure!(shown.stdout.contains(word), "{word}: {}", shown.stdout);
    }
    let shown = run(&["--output", "json", "plugin", "show", "2"]).await?.json()?;
    ensure!(shown[0]["admission"]["samples"][0]["outcome"] == "notifications", "{shown:?}");
    let differs = run(&["--output", "json", "plugin", "diff", "1", "2"]).await?.json()?;
    let named = |name: &str| differs.iter().find(|found| found["what"] == name);
    ensure!(named("setting deadline_hours").is_some_and(|found| found["before"].is_null() && found["after"] == "2"));
    ensure!(named("version").is_some_and(|found| found["after"] == "1.1.0"), "{differs:?}");
    ensure!(named("projector").is_none() && named("contract").is_none(), "equal properties are not listed");
    let missing = run(&["plugin", "show", "9"]).await?;
    ensure!(missing.code == Some(4), "{missing:?}");
    service.stop().await;
    Ok(())
}

/// Generates a key with the command. Returns its file and the public key.
async fn key(directory: &Path, name: &str) -> Result<(String, String)> {
    let file = directory.join(name).to_str().context("the path is not UTF-8")?.to_owned();
    let made = belfry(&["--output", "json", "plugin", "keygen", &file]).await?;
    ensure!(made.code == Some(0), "{made:?}");
    Ok((file, made.json()?[0]["public_key"].as_str().context("no public key")?.to_owned()))
}

#[tokio::test]
async fn where_signatures_are_required_only_signed_components_are_taken() -> Result<()> {
    let directory = TempDir::new()?;
    let (key_file, public) = key(directory.path(), "ours.key").await?;
    let (other_key, _) = key(directory.path(), "theirs.key").await?;
    ensure!(belfry(&["plugin", "keygen", &key_file]).await?.code == Some(5), "a key is never overwritten");
    let component = directory.path().join("rule.wasm");
    std::fs::write(&component, URGENT_FAILURES)?;
    let component = component.to_str().context("the path is not UTF-8")?;
    let signature = format!("{component}.sig");

    // The component is pushed before signatures are required.
    let open = start(directory.path(), &[]).await?;
    let unsigned = open.client().push(URGENT_FAILURES, &json!({})).await?.body;
    ensure!(unsigned["signed_by"] == Value::Null, "{unsigned}");
    open.terminate().await?;

    let trust = format!("{{build-server=\"{public}\"}}");
    let settings = [("releases.require_signature", "true"), ("releases.trusted_keys", &trust)];
    let belfry_process = start(directory.path(), &settings).await?;
    let client = belfry_process.client();
    let url = client.url().to_owned();
    let push = async |more: &[&str]| belfry(&[&["--url", &url, "plugin", "push", component][..], more].concat()).await;
    let second = json!({ "release_id": 2 });
    let activate = || client.post_to("/v1/projectors/teacher-results/rollout", &second);
    let refused = activate().await?;
    ensure!(refused.status == 422 && refused.body["type"] == "urn:belfry:problem:not-vouched-for", "{refused:?}");
    let refused = push(&[]).await?;
    ensure!(refused.code == Some(5) && refused.stderr.contains("not-vouched-for"), "{refused:?}");

    for (key, of, taken) in
        [(&other_key, URGENT_FAILURES, false), (&key_file, TEACHER_RESULTS, false), (&key_file, URGENT_FAILURES, true)]
    {
        std::fs::write(directory.path().join("signed.wasm"), of)?;
        let signed = directory.path().join("signed.wasm");
        let signed = signed.to_str().context("the path is not UTF-8")?;
        let made = belfry(&["plugin", "sign", signed, "--key", key, "--signature", &signature]).await?;
        ensure!(made.code == Some(0), "{made:?}");
        let pushed = push(&["--signature", &signature]).await?;
        ensure!((pushed.code == Some(0)) == taken, "{key}: {pushed:?}");
    }
    let release = client.get("/v1/releases/2").await?.body;
    ensure!(release["signed_by"] == "build-server", "it is the same release, and now signed: {release}");
    ensure!(activate().await?.status == 200);
    // Bundled rules need no signature.
    let back = client.post_to("/v1/projectors/teacher-results/rollback", &Value::Null).await?;
    ensure!(back.status == 200 && back.body["active"]["release_id"] == 1, "{back:?}");
    let log = belfry_process.log()?;
    belfry_process.terminate().await?;
    ensure!(!log.contains("ed25519-secret"), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_signature_that_is_wrong_is_refused_even_where_none_is_required() -> Result<()> {
    let directory = TempDir::new()?;
    let (key_file, _) = key(directory.path(), "ours.key").await?;
    let component = directory.path().join("rule.wasm");
    std::fs::write(&component, URGENT_FAILURES)?;
    let component = component.to_str().context("the path is not UTF-8")?;
    let service = TestService::start().await?;
    let url = service.client().url().to_owned();
    ensure!(belfry(&["plugin", "sign", component, "--key", &key_file]).await?.code == Some(0));
    let signature = format!("{component}.sig");
    let refused = belfry(&["--url", &url, "plugin", "push", component, "--signature", &signature]).await?;
    ensure!(refused.code == Some(5) && refused.stderr.contains("trusted_keys is empty"), "{refused:?}");
    service.stop().await;
    let config = belfry(&["config", "check", "--set", "releases.require_signature=true"]).await?;
    ensure!(config.code == Some(78) && config.stderr.contains("no key is trusted"), "{config:?}");
    Ok(())
}
