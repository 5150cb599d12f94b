//! Generates the lists of migrations, so that each migration is compiled into this crate.
//!
//! `sqlx::migrate!` does the same, but adds all of sqlx, and SQLite, to every build a second time.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Names of the generated lists, and their folders.
const FOLDERS: [(&str, &str); 3] =
    [("SQLITE", "sqlite"), ("POSTGRES", "postgres/belfry"), ("SUBMIT", "postgres/submit")];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=../../migrations");
    let migrations = Path::new("../../migrations");
    let mut list = String::new();
    for (name, folder) in FOLDERS {
        let _ = writeln!(list, "const {name}_FILES: &[(&str, &str)] = &[");
        for file in files(&migrations.join(folder))? {
            let stem = file.file_stem().unwrap_or_default().to_string_lossy();
            // The text itself, not its path: another checkout may build with the same target directory.
            let _ = writeln!(list, "    ({stem:?}, {:?}),", fs::read_to_string(&file)?);
        }
        list.push_str("];\n");
    }
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("OUT_DIR is not set"))?;
    fs::write(Path::new(&out).join("migrations.rs"), list)
}

/// Returns the files `NNNN_what_it_does.sql` of a folder, in order.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".sql") && name.starts_with(|first: char| first.is_ascii_digit()) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
