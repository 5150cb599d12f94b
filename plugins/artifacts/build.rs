//! Builds the projectors and programs whose bytes this crate contains.
//!
//! Those in Rust are built by a nested cargo, in a separate target directory next to that of the current profile. All
//! profiles share it, and the outer cargo's lock on its own target directory does not block the nested one. Programs
//! written as text are turned into components here.

#[cfg(feature = "programs")]
mod programs;

use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, result};

type Result<T> = result::Result<T, Box<dyn Error>>;

const GUEST_TARGET: &str = "wasm32-wasip2";

/// The files that the bytes depend on, relative to the workspace's root. The `cases` folders are left out, since they
/// only test the built components.
const INPUTS: [&str; 11] = [
    "Cargo.lock",
    "Cargo.toml",
    "wit",
    "plugins/artifacts/build.rs",
    "plugins/artifacts/programs.rs",
    "plugins/sdk/rust",
    "plugins/teacher-results/src",
    "plugins/teacher-results/Cargo.toml",
    "plugins/examples/urgent-failures/src",
    "plugins/examples/urgent-failures/Cargo.toml",
    "tests/programs",
];

/// Variables with which the outer cargo, or its caller, configures builds for the host. Lints, coverage, sanitizers and
/// other output directories must not affect guests, whose bytes should be the same every time.
const MEANT_FOR_THE_HOST: [&str; 12] = [
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_BUILD_DIR",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_INCREMENTAL",
];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Cargo accepts a single line.
            println!("cargo::error={}", error.to_string().replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<()> {
    let root = fs::canonicalize(Path::new(&variable("CARGO_MANIFEST_DIR")?).join("../.."))?;
    for input in INPUTS {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    let out = PathBuf::from(variable("OUT_DIR")?);
    build_guests(&root, &out)?;
    #[cfg(feature = "programs")]
    programs::build(&root, &out)?;
    Ok(())
}

fn variable(name: &str) -> Result<String> {
    env::var(name).map_err(|error| format!("{name}: {error}; run this through cargo").into())
}

fn build_guests(root: &Path, out: &Path) -> Result<()> {
    check_guest_target()?;
    // OUT_DIR is TARGET/PROFILE/build/CRATE-HASH/out.
    let target_dir = out.ancestors().nth(4).ok_or("OUT_DIR is not in cargo's usual place")?.join("guests");
    fs::create_dir_all(&target_dir)?;
    // Two profiles may be built at the same time, and one must not replace a file that the other is about to copy.
    let lock = File::create(target_dir.join("lock"))?;
    lock.lock()?;
    // Two calls, since cargo unifies the features of all packages in one call: teacher-results has to be a component in
    // the first call and must not be one in the second. Its file is therefore copied before the second call replaces
    // it.
    let others: &[&str] =
        if cfg!(feature = "programs") { &["urgent-failures", "forgetful", "hostile"] } else { &["urgent-failures"] };
    for packages in [&["teacher-results"], others] {
        run_cargo(root, &target_dir, packages)?;
        for package in packages {
            let built = target_dir.join(GUEST_TARGET).join("guest").join(format!("{}.wasm", package.replace('-', "_")));
            fs::copy(&built, out.join(format!("{package}.wasm")))
                .map_err(|error| format!("{}: {error}", built.display()))?;
        }
    }
    Ok(())
}

/// Returns an error if the target is not installed. Otherwise the build would fail with a few hundred errors about a
/// missing `core`.
fn check_guest_target() -> Result<()> {
    let rustc = variable("RUSTC")?;
    let output = Command::new(&rustc).args(["--print", "target-libdir", "--target", GUEST_TARGET]).output()?;
    let libdir = String::from_utf8(output.stdout)?;
    if output.status.success() && Path::new(libdir.trim_end()).is_dir() {
        return Ok(());
    }
    Err(format!("{rustc} cannot build for {GUEST_TARGET}; install it with: rustup target add {GUEST_TARGET}").into())
}

fn run_cargo(root: &Path, target_dir: &Path, packages: &[&str]) -> Result<()> {
    let mut cargo = Command::new(variable("CARGO")?);
    cargo.current_dir(root).args(["build", "--locked", "--profile", "guest", "--target", GUEST_TARGET]);
    cargo.arg("--target-dir").arg(target_dir);
    cargo.args(packages.iter().flat_map(|package| ["--package", package]));
    for name in MEANT_FOR_THE_HOST {
        cargo.env_remove(name);
    }
    let status = cargo.status()?;
    if status.success() { Ok(()) } else { Err(format!("building {} failed: {status}", packages.join(" and ")).into()) }
}
