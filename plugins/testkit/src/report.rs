use std::fmt;
use std::time::Duration;

use belfry_sandbox::LogLine;

use crate::Difference;
use crate::visible::visible;

/// The result of a case.
#[derive(Clone, Debug)]
pub struct CaseReport {
    /// The name of its file without the extension.
    pub name: String,
    /// How long it took, including reading the files.
    pub duration: Duration,
    /// The verdict.
    pub verdict: Verdict,
    /// The log lines of the rule.
    pub log: Vec<LogLine>,
}

/// The verdict on a case.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The actual result is the expected one.
    Passed,
    /// The actual result differs in these places.
    Failed(Vec<Difference>),
    /// The actual result differed, or none was expected; the file now expects the actual result.
    Updated,
    /// The case itself is invalid; this is no verdict on the rule.
    Broken(String),
}

impl Verdict {
    /// Returns true unless the case passed or was updated.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Broken(_))
    }

    /// Returns the name of the verdict.
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
    /// Writes a line for the case. If it did not pass, the differences and the log lines of the rule follow.
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
