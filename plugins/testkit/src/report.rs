use std::fmt;
use std::time::Duration;

use belfry_sandbox::LogLine;

use crate::Difference;
use crate::visible::visible;

/// What became of a case.
#[derive(Clone, Debug)]
pub struct CaseReport {
    /// Its file's name without the ending.
    pub name: String,
    /// How long it took, reading the files included.
    pub duration: Duration,
    /// Whether it went well.
    pub verdict: Verdict,
    /// What the rule wrote.
    pub log: Vec<LogLine>,
}

/// Whether a case went well.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// What came out is what was expected.
    Passed,
    /// It is not, in these places.
    Failed(Vec<Difference>),
    /// It was not, or nothing was expected; the file now expects what came out.
    Updated,
    /// The case itself is wrong: nothing is said about the rule.
    Broken(String),
}

impl Verdict {
    /// True unless the case passed or was just accepted.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Broken(_))
    }

    /// The word for it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed(_) => "failed",
            Self::Updated => "updated",
            Self::Broken(_) => "broken",
        }
    }
}

impl fmt::Display for CaseReport {
    /// A line for the case; below it, where it failed, the differences and what the rule wrote.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.duration.as_secs_f64() * 1e3;
        write!(formatter, "{:<7} {} ({milliseconds:.1} ms)", self.verdict.as_str(), self.name)?;
        match &self.verdict {
            Verdict::Passed | Verdict::Updated => return Ok(()),
            Verdict::Broken(problem) => write!(formatter, "\n        {}", visible(problem))?,
            Verdict::Failed(differences) => {
                for difference in differences {
                    write!(formatter, "\n        {difference}")?;
                }
            }
        }
        for line in &self.log {
            let level = format!("{:?}", line.level).to_lowercase();
            write!(formatter, "\n        {level}: {}", visible(&line.message))?;
        }
        Ok(())
    }
}
