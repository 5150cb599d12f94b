use std::fmt;
use std::ops::AddAssign;

use serde_json::{Value, json};

/// Maximum number of examples that are kept.
const EXAMPLES: usize = 5;

/// The checker's findings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Number of acknowledged events.
    pub acknowledged: u64,
    /// Acknowledged events with an expected entry missing on the topics.
    pub lost: u64,
    /// A second effect: two notifications of one event to one recipient, or two messages under one id.
    pub doubled: u64,
    /// First appearances of a key out of order, or a key in two partitions.
    pub inversions: u64,
    /// Records on a topic whose event was never submitted, or was rejected or rolled back.
    pub phantoms: u64,
    /// Rounds in which something failed that should work.
    pub failures: u64,
    /// Repetitions of the same message, which are allowed.
    pub repeats: u64,
    /// Descriptions of the first few findings.
    pub examples: Vec<String>,
}

impl Verdict {
    /// Returns whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.inversions == 0 && self.phantoms == 0 && self.failures == 0
    }

    /// Returns the difference from an earlier verdict on the same run.
    pub fn since(&self, before: &Self) -> Self {
        let new = self.examples.iter().filter(|example| !before.examples.contains(example));
        Self {
            acknowledged: self.acknowledged - before.acknowledged,
            lost: self.lost.saturating_sub(before.lost),
            doubled: self.doubled - before.doubled,
            inversions: self.inversions - before.inversions,
            phantoms: self.phantoms - before.phantoms,
            failures: self.failures - before.failures,
            repeats: self.repeats - before.repeats,
            examples: new.cloned().collect(),
        }
    }

    /// Returns the verdict as fields of the result file.
    pub fn to_json(&self) -> Value {
        json!({
            "acknowledged": self.acknowledged, "lost": self.lost, "doubled": self.doubled,
            "inversions": self.inversions, "phantoms": self.phantoms, "failures": self.failures,
            "repeats": self.repeats,
            "examples": self.examples,
        })
    }

    /// Reads the verdict from fields of the result file.
    pub fn from_json(value: &Value) -> Self {
        let number = |name: &str| value[name].as_u64().unwrap_or_default();
        let examples = value["examples"].as_array().into_iter().flatten().filter_map(Value::as_str);
        Self {
            acknowledged: number("acknowledged"),
            lost: number("lost"),
            doubled: number("doubled"),
            inversions: number("inversions"),
            phantoms: number("phantoms"),
            failures: number("failures"),
            repeats: number("repeats"),
            examples: examples.map(ToOwned::to_owned).collect(),
        }
    }

    /// Creates the verdict on a round that failed with an error.
    pub fn failure(error: &anyhow::Error) -> Self {
        Self { failures: 1, examples: vec![format!("{error:#}")], ..Self::default() }
    }

    pub(super) fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(text());
        }
    }
}

impl AddAssign for Verdict {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.inversions += other.inversions;
        self.phantoms += other.phantoms;
        self.failures += other.failures;
        self.repeats += other.repeats;
        for example in other.examples {
            self.example(|| example);
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "acknowledged {}, lost {}, doubled {}, inversions {}, phantoms {}, failures {}, repeats {}",
            self.acknowledged, self.lost, self.doubled, self.inversions, self.phantoms, self.failures, self.repeats
        )?;
        for example in &self.examples {
            write!(formatter, "\n  {example}")?;
        }
        Ok(())
    }
}
