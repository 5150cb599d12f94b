//! `belfry serve`.

use std::path::PathBuf;

use anyhow::Result;
use belfry_service::config::{ConfigError, Loaded, load};
use belfry_service::telemetry::start_logging;
use belfry_service::{Service, ServiceSettings, StartError};
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::direct;
use crate::exit::{Exit, Fault};

/// The source of the configuration, for commands that need one.
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    /// TOML configuration file; settings that it omits have their defaults
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Value of a setting, which overrides the file and the environment; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", value_parser = assignment)]
    pub settings: Vec<(String, String)>,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be SECTION.KEY=VALUE, such as http.listen=127.0.0.1:0")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl ConfigArgs {
    /// Loads the configuration.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        load(self.config.as_deref(), &self.settings)
    }
}

/// Serves until a signal to stop: trace → config → start → signal → drain.
pub async fn run(args: &ConfigArgs) -> Result<Exit> {
    belfry_store::arm_crash_points();
    let config = args.load().map_err(|error| Fault::new(Exit::Configuration, error.to_string()))?.config;
    start_logging(&config.log).map_err(|error| Fault::new(Exit::Configuration, error.to_string()))?;
    // Registered before anything is started, so that no signal is missed.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let compiler = super::compile_component::this_program()?;
    let settings = ServiceSettings { config, default_projector: belfry_artifacts::TEACHER_RESULTS, compiler };
    let service = Service::start(settings).await.map_err(|error| Fault::new(exit_for(&error), error.to_string()))?;
    either(&mut terminate, &mut interrupt).await;
    tokio::select! {
        () = service.stop() => Ok(Exit::Ok),
        () = either(&mut terminate, &mut interrupt) => {
            tracing::warn!("second signal: exiting at once; no acknowledged event is lost");
            Ok(Exit::Failure)
        }
    }
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn exit_for(error: &StartError) -> Exit {
    match error {
        StartError::Store(error) => direct::exit_for(error),
        StartError::Source(error) if error.is_configuration() => Exit::Configuration,
        StartError::Source(error) if error.is_refusal() => Exit::Refused,
        StartError::Tokens(_)
        | StartError::Keys(_)
        | StartError::Secret(_)
        | StartError::Kafka(_)
        | StartError::Redis(_)
        | StartError::Submitted(_) => Exit::Configuration,
        StartError::Listen { .. } => Exit::Refused,
        _ => Exit::Failure,
    }
}
