//! Settings: which are accepted, which are refused before a server is contacted, and which are shown.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A service that starts although it should refuse is killed after this time.
const PATIENCE: Duration = Duration::from_secs(30);

fn belfry(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_belfry"));
    command.args(arguments).env("NO_COLOR", "1").env_remove("BELFRY_URL").stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Output {
    command.output().expect("the command can be started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_text_keeps_its_characters() {
    let output = run(belfry(&["config", "show", "--output", "json", "--set", "kafka.behind=\"1.10\""])
        .args(["--set", "delivery.mode=observe"])
        .env("BELFRY__REPLICA__NAME", "0")
        .env("BELFRY__KAFKA__GROUP", "007")
        .env("BELFRY__KAFKA__PROPERTIES__CLIENT__RACK", "1.10")
        .env("BELFRY__NOTIFICATION__SOURCE_SERVICE", "true")
        .env("BELFRY__NOTIFICATION__CATEGORIES", "[1, 02]")
        .env("BELFRY__WRITER__GROUP_ENTRIES", "100"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    for line in [
        r#"{"name":"replica.name","value":"0","origin":"environment BELFRY__REPLICA__NAME"}"#,
        r#"{"name":"kafka.group","value":"007","origin":"environment BELFRY__KAFKA__GROUP"}"#,
        r#"{"name":"kafka.behind","value":"\"1.10\"","origin":"flag"}"#,
        r#"{"name":"kafka.properties.client.rack","value":"1.10""#,
        r#"{"name":"notification.source_service","value":"true""#,
        r#"{"name":"notification.categories","value":["1","02"]"#,
        r#"{"name":"writer.group_entries","value":100,"#,
    ] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
}

#[test]
fn a_setting_of_the_wrong_type_is_named_as_it_was_set() {
    let output = run(belfry(&["config", "check"]).env("BELFRY__WRITER__GROUP_ENTRIES", "many"));
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("BELFRY__WRITER__GROUP_ENTRIES"), "{}", text(&output.stderr));
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("belfry.toml");
    fs::write(&file, "[writer]\ngroup_entires = 1\n").expect("the file is written");
    let file = file.to_str().expect("a UTF-8 path");
    let output = run(&mut belfry(&["config", "check", "--config", file]));
    let expected = format!("{file}: there is no setting writer.group_entires (did you mean writer.group_entries?)");
    assert!(text(&output.stderr).contains(&expected), "{}", text(&output.stderr));
    let output = run(&mut belfry(&["config", "check", "--set", "writer.group_entries=many"]));
    assert!(text(&output.stderr).contains("writer.group_entries"), "{}", text(&output.stderr));
    let output = run(&mut belfry(&["config", "check", "--set", "redis=rediss://anna:hunter2@host"]));
    assert_eq!(output.status.code(), Some(78));
    assert!(!text(&output.stderr).contains("hunter2"), "{}", text(&output.stderr));
}

/// All properties that librdkafka 2.12 marks as sensitive.
#[test]
fn secrets_are_not_shown() {
    let secrets = [
        "sasl.oauthbearer.assertion.private.key.file",
        "sasl.oauthbearer.assertion.private.key.passphrase",
        "sasl.oauthbearer.assertion.private.key.pem",
        "sasl.oauthbearer.client.credentials.client.secret",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.config",
        "sasl.password",
        "sasl.username",
        "ssl.ca.pem",
        "ssl.key.location",
        "ssl.key.password",
        "ssl.key.pem",
        "ssl.keystore.password",
    ];
    let mut command = belfry(&["config", "show", "--output", "json"]);
    for name in secrets {
        command.args(["--set", &format!("kafka.properties.{name}=hunter2")]);
    }
    command.args(["--set", "redis.url=rediss://anna:hunter2@host:6380"]);
    command.args(["--set", "store.url=postgres://anna:hunter2@host/belfry?password=hunter2"]);
    command.args(["--set", "kafka.properties.sasl.oauthbearer.token.endpoint.url=https://anna:hunter2@host/token"]);
    let output = run(&mut command);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(!shown.contains("hunter2"), "{shown}");
    for name in secrets {
        assert!(
            shown.contains(&format!(r#"{{"name":"kafka.properties.{name}","value":"(hidden)""#)),
            "{name}\n{shown}"
        );
    }
}

/// `config check` and `serve` refuse each of these, and name the invalid setting.
#[test]
fn what_serve_refuses_is_refused_by_a_check() {
    let directory = TempDir::new().expect("a directory");
    let at = |name: &str| directory.path().join(name).display().to_string();
    fs::write(at("tokens"), "ci publisher 00\n").expect("a file");
    fs::write(at("empty"), "").expect("a file");
    fs::write(at("url"), "sqlite:").expect("a file");
    let kafka = ["kafka.brokers=127.0.0.1:9", "sink.kafka.enabled=true"];
    let source = |url: &str| format!("source.postgres=[{{name=\"grading\",url=\"{url}\"}}]");
    let case = |settings: &[&str], word: &'static str| -> (Vec<String>, &'static str) {
        (settings.iter().map(|setting| (*setting).to_owned()).collect(), word)
    };
    let cases = [
        case(&["store.url=sqlite:"], "store.url"),
        case(&["store.url=sqlite::memory:"], "in memory"),
        case(&["store.url=:memory:"], "in memory"),
        case(&["store.url=belfry.db"], "unknown kind of store"),
        case(&["store.url=sqlite:belfry.db?mode=rwc"], "store.url"),
        case(&["store.url=postgres://host:port/belfry"], "store.url"),
        case(&["store.url=postgres://host/belfry?sslrootcert=/nowhere/ca.pem"], "/nowhere/ca.pem"),
        case(&[&format!("store.url=sqlite:{}/belfry.db", at("empty"))], "cannot use"),
        case(&[&format!("store.url_file={}", at("missing"))], "store.url_file"),
        case(&[&format!("store.url_file={}", at("url"))], "store.url"),
        case(&[&format!("http.tokens_file={}", at("missing"))], "http.tokens_file"),
        case(&[&format!("http.tokens_file={}", at("tokens"))], "line 1"),
        case(&["log.level=belfry=loud"], "log.level"),
        case(&["replica.name= "], "replica.name"),
        case(&["http.listen=127.0.0.1:7999", "ops.listen=0.0.0.0:7999"], "ops.listen"),
        case(&["redis.url=http://host"], "redis.url"),
        case(&["redis.url=redis://host", &format!("redis.ca_file={}", at("empty"))], "redis.ca_file"),
        case(&[&format!("redis.url_file={}", at("missing"))], "redis.url_file"),
        case(&[&source("postgres://host:port/grading")], "source.postgres grading"),
        case(&[kafka[0], kafka[1], "kafka.properties.acks=0"], "acks cannot be set"),
        case(&[kafka[0], kafka[1], "kafka.properties.no.such.setting=0"], "no.such.setting"),
        case(&[kafka[0], kafka[1], "kafka.properties.sasl.password_file=/nowhere"], "/nowhere"),
        case(&[kafka[0], kafka[1], "kafka.properties.ssl.ca.location=/nowhere/ca.pem", SSL], "kafka"),
        case(&[&format!("sandbox.cache_directory={}/compiled", at("empty"))], "compiled"),
    ];
    for (settings, word) in &cases {
        let check = run(&mut with(belfry(&["config", "check"]), directory.path(), settings));
        let said = text(&check.stderr);
        assert_eq!(check.status.code(), Some(78), "{settings:?}: {said}");
        assert!(said.contains(word), "{settings:?}: {said}");
        let said = refused(&mut with(belfry(&["serve"]), directory.path(), settings));
        assert!(said.contains(word), "{settings:?}: {said}");
    }
    let elsewhere = TempDir::new().expect("a directory");
    let fine = run(&mut with(belfry(&["config", "check"]), elsewhere.path(), &[]));
    assert!(fine.status.success(), "{}", text(&fine.stderr));
    assert!(!elsewhere.path().join("belfry.db").exists(), "a check creates nothing");
}

const SSL: &str = "kafka.properties.security.protocol=ssl";

fn with(mut command: Command, directory: &Path, settings: &[String]) -> Command {
    let store = format!("store.url=sqlite:{}", directory.join("belfry.db").display());
    for setting in ["http.listen=127.0.0.1:0", "ops.listen=127.0.0.1:0", &store] {
        command.args(["--set", setting]);
    }
    for setting in settings {
        command.args(["--set", setting]);
    }
    command
}

/// Returns the error of a service that refuses to start.
fn refused(serve: &mut Command) -> String {
    let mut child = serve.stderr(Stdio::piped()).spawn().expect("the command can be started");
    let began = Instant::now();
    while child.try_wait().expect("a child").is_none() && began.elapsed() < PATIENCE {
        sleep(Duration::from_millis(20));
    }
    let started = child.try_wait().expect("a child").is_none();
    let _ = child.kill();
    let output = child.wait_with_output().expect("a child");
    assert!(!started, "{serve:?} started: {}", text(&output.stderr));
    assert!(!output.status.success(), "{serve:?}");
    text(&output.stderr)
}

#[test]
fn files_of_the_store_that_others_may_use_are_found() {
    let directory = TempDir::new().expect("a directory");
    let file = |name: &str| directory.path().join(name);
    for name in ["belfry.db", "belfry.db.lock", "belfry.db-wal"] {
        fs::write(file(name), "").expect("a file");
        fs::set_permissions(file(name), fs::Permissions::from_mode(0o600)).expect("a mode");
    }
    let found = || {
        let arguments = ["doctor", "--output", "json", "--set", "http.require_token=true"];
        let output = run(&mut with(belfry(&arguments), directory.path(), &[]));
        let found = text(&output.stdout);
        found.lines().find(|line| line.contains("store files")).unwrap_or_default().to_owned()
    };
    assert!(found().contains(r#""state":"ok""#), "{}", found());
    for (name, mode) in [("belfry.db", 0o644), ("belfry.db-wal", 0o640), ("belfry.db.lock", 0o602)] {
        fs::set_permissions(file(name), fs::Permissions::from_mode(mode)).expect("a mode");
        let warned = found();
        let remedy = format!("chmod 600 {}", file(name).display());
        assert!(warned.contains(r#""state":"warning""#) && warned.contains(&remedy), "{name}: {warned}");
        fs::set_permissions(file(name), fs::Permissions::from_mode(0o600)).expect("a mode");
    }
}
