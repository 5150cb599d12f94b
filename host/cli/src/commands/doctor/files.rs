//! Checks of files with secrets, of the tokens, and of the files of an SQLite store.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use belfry_service::access::Tokens;
use belfry_service::config::{Config, is_secret};

use super::check::Check;

/// The mode bit by which all users can read a file.
const OTHERS_READ: u32 = 0o004;
/// The mode bit by which all users can write to a file.
const OTHERS_WRITE: u32 = 0o002;
/// The mode bits of all users but the owner, in the owner's group or not.
const ANYTHING_BY_OTHERS: u32 = 0o077;

pub(super) fn check(config: &Config, file: Option<&Path>) -> Vec<Check> {
    let mut checks: Vec<Check> = secrets(config).into_iter().map(|(name, path)| secret(&name, &path)).collect();
    if let Some(path) = file.filter(|_| has_passwords(config)) {
        checks.push(secret("configuration with a password", path));
    }
    checks.extend(store(config));
    match &config.http.tokens_file {
        None if config.http.require_token => {
            checks.push(Check::ok("http.require_token", "all clients need a token from the database"));
        }
        None => checks.push(Check::ok("http.tokens_file", "not set: all users of this machine have full access")),
        Some(path) => match Tokens::read(path) {
            Err(error) => checks.push(Check::failed("http.tokens_file", error.to_string(), "correct the file")),
            Ok(_) if mode(path).is_some_and(|mode| mode & OTHERS_WRITE != 0) => checks.push(Check::warning(
                "http.tokens_file",
                format!("all users can write to {}, and so give themselves access", path.display()),
                format!("chmod o-w {}", path.display()),
            )),
            Ok(_) => checks.push(Check::ok("http.tokens_file", path.display().to_string())),
        },
    }
    checks
}

/// Checks the files of an SQLite store. They hold events and recipients, and a user who can lock them can stop the
/// service.
fn store(config: &Config) -> Option<Check> {
    const NAME: &str = "store files";
    let files = config.store.settings().ok()?.files();
    let there: Vec<(&PathBuf, u32)> = files.iter().filter_map(|file| Some((file, mode(file)?))).collect();
    let open: Vec<String> = there
        .iter()
        .filter(|(_, mode)| mode & ANYTHING_BY_OTHERS != 0)
        .map(|(file, _)| file.display().to_string())
        .collect();
    let first = there.first()?.0.display();
    Some(if open.is_empty() {
        Check::ok(NAME, format!("only the owner can access {first} and its companion files"))
    } else {
        let finding = format!("users other than the owner can access {}", open.join(", "));
        Check::warning(NAME, finding, format!("chmod 600 {}", open.join(" ")))
    })
}

/// Returns the files that hold secrets, with the names of their settings.
fn secrets(config: &Config) -> Vec<(String, PathBuf)> {
    let mut files = Vec::new();
    let mut add = |name: String, path: &Option<PathBuf>| files.extend(path.clone().map(|path| (name, path)));
    add("store.url_file".into(), &config.store.url_file);
    add("redis.url_file".into(), &config.redis.url_file);
    for source in &config.source.postgres {
        add(format!("source.postgres {}: url_file", source.name), &source.url_file);
    }
    for (name, value) in config.kafka.properties.iter().filter(|(name, _)| name.ends_with("_file")) {
        add(format!("kafka.properties.{name}"), &Some(PathBuf::from(value.to_string())));
    }
    files
}

fn secret(name: &str, path: &Path) -> Check {
    let shown = path.display();
    match fs::File::open(path) {
        Err(error) => {
            Check::failed(name, format!("cannot read {shown}: {error}"), "make it readable for belfry's user")
        }
        Ok(_) if mode(path).is_some_and(|mode| mode & OTHERS_READ != 0) => {
            Check::warning(name, format!("all users of this machine can read {shown}"), format!("chmod o-r {shown}"))
        }
        Ok(_) => Check::ok(name, shown.to_string()),
    }
}

fn mode(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|metadata| metadata.permissions().mode())
}

fn has_passwords(config: &Config) -> bool {
    let addresses = [Some(&config.store.url), config.redis.url.as_ref()].into_iter().flatten();
    let addresses = addresses.chain(config.source.postgres.iter().map(|source| &source.url));
    let in_address = |url: &String| {
        let authority = url.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
        authority.is_some_and(|(user, _)| user.contains(':'))
    };
    addresses.into_iter().any(in_address) || config.kafka.properties.keys().any(|name| is_secret(name))
}
