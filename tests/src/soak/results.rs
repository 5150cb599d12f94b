use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Fault, Verdict};

/// The file with the verdicts of all rounds, one line of JSON each. Rounds in it need not be run again.
pub struct Results {
    path: PathBuf,
}

impl Results {
    /// Creates a handle for the file at this path, which need not exist.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Appends a round.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn append(&self, fault: Fault, seed: u64, round: u64, seconds: f64, verdict: &Verdict) -> Result<()> {
        let mut line = json!({ "fault": fault.name(), "seed": seed, "round": round, "seconds": seconds });
        if let (Some(line), Value::Object(verdict)) = (line.as_object_mut(), verdict.to_json()) {
            line.extend(verdict);
        }
        let file = OpenOptions::new().create(true).append(true).open(&self.path);
        let mut file = file.with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(writeln!(file, "{line}")?)
    }

    /// Returns the number of completed rounds of a fault with a seed, their duration in seconds, and the verdict on all
    /// of them.
    ///
    /// # Errors
    /// Returns an error if the file exists and cannot be read.
    pub fn of(&self, fault: Fault, seed: u64) -> Result<(u64, f64, Verdict)> {
        let text = match std::fs::read_to_string(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.with_context(|| format!("cannot read {}", self.path.display()))?,
        };
        let (mut rounds, mut seconds, mut verdict) = (0, 0.0, Verdict::default());
        // A line that a kill truncated counts as absent.
        for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            if line["fault"] == fault.name() && line["seed"] == seed {
                rounds = rounds.max(line["round"].as_u64().unwrap_or_default());
                seconds += line["seconds"].as_f64().unwrap_or_default();
                verdict += Verdict::from_json(&line);
            }
        }
        Ok((rounds, seconds, verdict))
    }
}
