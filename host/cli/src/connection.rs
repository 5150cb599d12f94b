//! The selection of the service's address and the token.

use std::env;
use std::fs;
use std::path::Path;

use crate::client::Client;
use crate::exit::{Exit, Fault};
use crate::options::Options;
use crate::output::Output;

/// The default address of the service.
pub const DEFAULT_URL: &str = "http://127.0.0.1:7341";

/// Creates a client for the address and the token in the options or the environment. Sends nothing yet. Warns if the
/// token is going to be sent to another machine unencrypted.
pub fn connect(options: &Options, output: &Output) -> anyhow::Result<Client> {
    let url = options.url.clone().or_else(|| set("BELFRY_URL")).unwrap_or_else(|| DEFAULT_URL.to_owned());
    let token = match &options.token_file {
        Some(file) => Some(read_token(file)?),
        None => set("BELFRY_TOKEN"),
    };
    let client = Client::new(&url, token.as_deref())?;
    if client.exposes_its_token() {
        output.note(format!(
            "warning: the token is sent to {} unencrypted, where others can read it; use https or a tunnel",
            client.address()
        ));
    }
    Ok(client)
}

/// Returns the value of an environment variable, unless it is unset or empty.
fn set(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn read_token(file: &Path) -> Result<String, Fault> {
    let wrong = |what: String| Fault::new(Exit::Configuration, format!("token file {}: {what}", file.display()));
    let text = fs::read_to_string(file).map_err(|error| wrong(format!("{error}; use a file that you can read")))?;
    match text.trim() {
        "" => Err(wrong("the file is empty; write the token to it".into())),
        token => Ok(token.to_owned()),
    }
}
