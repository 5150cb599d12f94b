//! The command line: help, exit codes, output streams. Also makes cargo build the command for other tests.

use std::process::{Command, Output};

fn belfry(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_belfry"))
        .args(arguments)
        .env_remove("BELFRY_URL")
        .env("NO_COLOR", "1")
        .output()
        .expect("the command can be started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn unknown_settings_are_refused_before_anything_starts() {
    let output = belfry(&["serve", "--set", "http.lisen=127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("lisen"), "{}", text(&output.stderr));
    let output = belfry(&["config", "check", "--set", "http.listen=0.0.0.0:80"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("http.tokens_file"), "{}", text(&output.stderr));
}

#[test]
fn settings_tell_where_they_come_from() {
    let output = belfry(&["config", "show", "--output", "json", "--set", "writer.group_entries=100"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(shown.contains(r#"{"name":"writer.group_entries","value":100,"origin":"flag"}"#), "{shown}");
    assert!(shown.contains(r#"{"name":"log.format","value":"text","origin":"default"}"#), "{shown}");
    let environment = Command::new(env!("CARGO_BIN_EXE_belfry"))
        .args(["config", "show", "--output", "json"])
        .env("BELFRY__LOG__FORMAT", "json")
        .output()
        .expect("the command can be started");
    let shown = text(&environment.stdout);
    assert!(shown.contains(r#""value":"json","origin":"environment BELFRY__LOG__FORMAT""#), "{shown}");
}

#[test]
fn whoever_listens_nowhere_is_told_what_to_do() {
    let output = belfry(&["release", "list", "--url", "http://127.0.0.1:9"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("belfry serve") && stderr.contains("--url"), "{stderr}");
}
