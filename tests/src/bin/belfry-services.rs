//! `make services` and `make services-stop`: PostgreSQL, Redis and Kafka to try Belfry with.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use belfry_tests::servers::services::{ServicePorts, start, stop};

const USAGE: &str = "usage: belfry-services start|stop, with SERVICES_DIR, POSTGRES_PORT, KAFKA_PORT and REDIS_PORT";

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let directory = PathBuf::from(setting("SERVICES_DIR").unwrap_or_else(|| ".services".to_owned()));
    let say = |text: &str| eprintln!("{text}");
    match std::env::args().nth(1).as_deref() {
        Some("start") => {
            let ports = ServicePorts {
                postgres: port("POSTGRES_PORT")?,
                kafka: port("KAFKA_PORT")?,
                redis: port("REDIS_PORT")?,
            };
            // Nothing else goes to standard output: a shell evaluates it.
            print!("{}", start(&directory, ports, say).await?.exports());
            Ok(())
        }
        Some("stop") => stop(&directory, say).await,
        _ => bail!(USAGE),
    }
}

fn port(name: &str) -> Result<Option<u16>> {
    let parse = |text: String| text.parse().with_context(|| format!("{name}={text} is not a port number"));
    setting(name).map(parse).transpose()
}

/// Returns a variable's value. Make passes an unset variable as an empty one.
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
