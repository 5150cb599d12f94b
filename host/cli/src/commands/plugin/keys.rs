//! `belfry plugin keygen` and `belfry plugin sign`.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use belfry_sandbox::digest;
use belfry_service::releases::signature::SecretKey;
use clap::Args;
use serde_json::json;

use super::read_component;
use crate::exit::{Exit, Fault};
use crate::output::{Format, Output};

/// Arguments of `plugin keygen`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  belfry plugin keygen ~/.belfry/release.key

Keep the file secret: anyone who has it can sign. The public key is printed and written to FILE.pub; an operator adds it
to releases.trusted_keys.")]
pub struct KeygenArgs {
    /// File to write the secret key to; it must not exist
    pub file: PathBuf,
}

/// Arguments of `plugin sign`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  belfry plugin sign my_rule.wasm --key ~/.belfry/release.key
  belfry plugin push my_rule.wasm --signature my_rule.wasm.sig

The signature is ed25519, over the text belfry.component.v1: followed by the SHA-256 of the file in hexadecimal.")]
pub struct SignArgs {
    /// File of the component
    pub file: PathBuf,
    /// File with the secret key, as `plugin keygen` writes it
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// File to write the signature to; default: the component's file name followed by .sig
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
}

/// Creates a key for signing components.
pub fn generate(args: &KeygenArgs, output: &Output) -> anyhow::Result<Exit> {
    let key = SecretKey::generate().context("cannot obtain random bytes from the system")?;
    let written = write_new(&args.file, &key.to_text(), 0o600);
    if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
        let message =
            format!("{} already exists; a key is never overwritten, choose another name", args.file.display());
        return Err(Fault::new(Exit::Refused, message).into());
    }
    written.with_context(|| format!("cannot write {}", args.file.display()))?;
    let public = key.public().to_string();
    let beside = beside(&args.file, ".pub");
    fs::write(&beside, format!("{public}\n")).with_context(|| format!("cannot write {}", beside.display()))?;
    match output.format() {
        Format::Json => output.json(&json!({ "public_key": public, "secret_key_file": args.file }))?,
        Format::Text => output.text(&public)?,
    }
    output.note("add it to releases.trusted_keys in the configuration, under the name of the secret key's owner");
    Ok(Exit::Ok)
}

/// Signs a component.
pub fn sign(args: &SignArgs, output: &Output) -> anyhow::Result<Exit> {
    let name = args.key.display();
    let text = fs::read_to_string(&args.key).with_context(|| format!("cannot read the secret key {name}"))?;
    let key: SecretKey = text.parse().with_context(|| format!("the secret key {name}"))?;
    let digest = digest(&read_component(&args.file)?);
    let signature = key.sign(&digest).to_string();
    let file = args.signature.clone().unwrap_or_else(|| beside(&args.file, ".sig"));
    fs::write(&file, format!("{signature}\n")).with_context(|| format!("cannot write {}", file.display()))?;
    match output.format() {
        Format::Json => output.json(&json!({
            "signature": signature, "signature_file": file, "digest": digest.to_string(),
            "public_key": key.public().to_string(),
        }))?,
        Format::Text => output.text(&crate::escape::escape(&format!("{}: sha256 {digest}", file.display())))?,
    }
    Ok(Exit::Ok)
}

fn write_new(file: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = fs::File::options().write(true).create_new(true).mode(mode).open(file)?;
    file.write_all(format!("{text}\n").as_bytes())?;
    file.sync_all()
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name: OsString = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
