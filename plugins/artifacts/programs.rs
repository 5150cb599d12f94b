//! Builds the misbehaving programs that are written as text.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldId};

use crate::Result;

/// Writes the programs as components to `out`.
pub(crate) fn build(root: &Path, out: &Path) -> Result<()> {
    let programs = root.join("tests/programs/wat");
    let write = |program: &str, bytes: Vec<u8>| fs::write(out.join(format!("{program}.wasm")), bytes);
    let mut resolve = Resolve::default();
    let (contract, _) = resolve.push_dir(root.join("wit"))?;
    let rule = resolve.select_world(&[contract], None)?;
    for program in ["start-loop", "table-hog", "many-memories"] {
        write(program, encode(&programs, program, &resolve, rule)?)?;
    }
    let more_than_contract = resolve.push_file(programs.join("forbidden-import.wit"))?;
    let forbidden = resolve.select_world(&[more_than_contract], None)?;
    write("forbidden-import", encode(&programs, "forbidden-import", &resolve, forbidden)?)?;
    let (older, world) = older_contract(root)?;
    write("older-contract", encode(&programs, "start-loop", &older, world)?)?;
    write("compile-bomb", compile_bomb(20_000, 2_000)?)?;
    write("slow-to-compile", compile_bomb(3_000, 300)?)?;
    // The text of these two is already the final form.
    for program in ["other-contract", "core-module"] {
        write(program, assemble(&programs, program)?)?;
    }
    Ok(())
}

/// Returns the contract as it was before its first release, when `project` returned a list.
fn older_contract(root: &Path) -> Result<(Resolve, WorldId)> {
    let text = fs::read_to_string(root.join("wit/projector.wit"))?
        .replace("{context, answer, rejection", "{context, notification, rejection")
        .replace("result<answer, rejection>", "result<list<notification>, rejection>");
    let mut resolve = Resolve::default();
    let package = resolve.push_str("older.wit", &text)?;
    let world = resolve.select_world(&[package], None)?;
    Ok((resolve, world))
}

/// Returns a component of one function with many locals, each of which is used within many nested loops. The compiler
/// has to track every local through every loop: the resources that it needs grow with their product, the size of the
/// component with their sum.
fn compile_bomb(locals: usize, loops: usize) -> Result<Vec<u8>> {
    let mut text = format!("(component (core module (func (local{}){}", " i64".repeat(locals), " loop".repeat(loops));
    for local in 0..locals {
        write!(text, " local.get {local} i64.const {local} i64.add local.set {local}")?;
    }
    // Without a branch back to its head, a loop would not be a loop.
    text.push_str(&" i32.const 0 br_if 0 end".repeat(loops));
    text.push_str(")))");
    Ok(wat::parse_str(text)?)
}

/// Turns a core module into a component. The names of its imports and exports are those by which component tools
/// recognize the parts of the world.
fn encode(programs: &Path, program: &str, resolve: &Resolve, world: WorldId) -> Result<Vec<u8>> {
    let mut module = assemble(programs, program)?;
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8)
        .and_then(|()| ComponentEncoder::default().validate(true).module(&module)?.encode())
        .map_err(|error| format!("{program}.wat: {error:#}").into())
}

fn assemble(programs: &Path, program: &str) -> Result<Vec<u8>> {
    Ok(wat::parse_file(programs.join(format!("{program}.wat")))?)
}
