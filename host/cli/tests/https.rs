//! Encrypted connections, and the warning about unencrypted ones.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::{fs, thread};

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, Stream};
use tempfile::TempDir;

fn releases(url: &str, environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_belfry"));
    command.args(["release", "list", "--url", url]).stdin(Stdio::null()).env("NO_COLOR", "1");
    command.env_remove("BELFRY_TOKEN").env_remove("SSL_CERT_DIR").envs(environment.iter().copied());
    command.output().expect("the command can be started")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Starts a TLS proxy in front of a Belfry without releases. Returns its address, and its certificate in PEM format.
fn encrypting_proxy() -> (String, String) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).expect("a key");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let chain = vec![certified.cert.der().clone()];
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).expect("a configuration");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://localhost:{}", listener.local_addr().expect("an address").port());
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut socket = connection.expect("a connection");
            let mut session = ServerConnection::new(config.clone()).expect("a session");
            let mut stream = Stream::new(&mut session, &mut socket);
            // A client that does not trust the certificate disconnects.
            let mut request = [0; 4096];
            if stream.read(&mut request).is_ok_and(|read| read > 0) {
                let body = r#"{"releases":[]}"#;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).expect("a reader");
            }
        }
    });
    (url, certified.cert.pem())
}

#[test]
fn an_encrypted_connection_needs_a_trusted_certificate() {
    let directory = TempDir::new().expect("a directory");
    let (url, certificate) = encrypting_proxy();
    let file = directory.path().join("ca.pem");
    fs::write(&file, certificate).expect("a file");
    let trusting = releases(&url, &[("SSL_CERT_FILE", &file.display().to_string()), ("BELFRY_TOKEN", "secret")]);
    assert!(trusting.status.success(), "{}", stderr(&trusting));
    assert!(!stderr(&trusting).contains("warning"), "{}", stderr(&trusting));
    let (_, other) = encrypting_proxy();
    fs::write(&file, other).expect("a file");
    let distrustful = releases(&url, &[("SSL_CERT_FILE", &file.display().to_string())]);
    assert_eq!(distrustful.status.code(), Some(1));
    assert!(stderr(&distrustful).contains("certificate"), "{}", stderr(&distrustful));
}

#[test]
fn a_token_in_clear_text_to_another_machine_is_warned_of() {
    let token = [("BELFRY_TOKEN", "secret")];
    let warned = stderr(&releases("http://belfry.invalid:9", &token));
    assert!(warned.contains("warning: the token is sent to http://belfry.invalid:9 unencrypted"), "{warned}");
    assert!(!warned.contains("secret"), "{warned}");
    for (url, environment) in [("http://127.0.0.1:9", &token[..]), ("http://belfry.invalid:9", &[])] {
        let quiet = stderr(&releases(url, environment));
        assert!(!quiet.contains("warning"), "{url}: {quiet}");
    }
}
