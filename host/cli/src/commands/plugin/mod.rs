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

fn read_component(file: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}, specify the path of a built component", file.display()))
}

/// Loads a component in the sandbox of the test kit.
fn load(file: &Path, component: &[u8]) -> anyhow::Result<Suite> {
    Suite::load(component).with_context(|| format!("cannot load {}", file.display()))
}
