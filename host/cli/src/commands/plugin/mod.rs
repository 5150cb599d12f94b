//! `belfry plugin`: commands for the components of rules.

pub mod bench;
pub mod diff;
pub mod inspect;
pub mod keys;
pub mod list;
pub mod push;
pub mod show;
pub mod test;

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use belfry_testkit::Suite;
use clap::Subcommand;

use bench::BenchArgs;
use diff::DiffArgs;
use inspect::InspectArgs;
use keys::{KeygenArgs, SignArgs};
use list::ListArgs;
use push::PushArgs;
use show::ShowArgs;
use test::TestArgs;

/// The commands of `plugin`.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Load a component locally, as the service would, and show its description
    Inspect(InspectArgs),
    /// Run a component's test cases in Belfry's sandbox
    Test(TestArgs),
    /// Measure the time and memory that a component takes per event
    Bench(BenchArgs),
    /// Upload a component as a new release
    Push(PushArgs),
    /// List the uploaded releases with the figures of their admission
    #[command(after_help = "\
Example:
  belfry plugin list --projector teacher-results")]
    List(ListArgs),
    /// Show a release and its admission report
    Show(ShowArgs),
    /// Show the differences between two releases
    Diff(DiffArgs),
    /// Create a key for signing components
    Keygen(KeygenArgs),
    /// Sign a component
    Sign(SignArgs),
}

fn read_component(file: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}, specify the path of a built component", file.display()))
}

/// Loads a component in the sandbox of the test kit.
fn load(file: &Path, component: &[u8]) -> anyhow::Result<Suite> {
    Suite::load(component).with_context(|| format!("cannot load {}", file.display()))
}
