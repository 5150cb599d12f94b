//! Exit codes, for scripts.

use std::io;
use std::process::ExitCode;

use belfry_sandbox::NotAdmitted;
use belfry_testkit::LoadError;

use crate::client::ClientError;
use crate::output::OutputError;

/// How a command ended. The discriminant is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Success.
    Ok = 0,
    /// Failure.
    Failure = 1,
    /// A usage error.
    Usage = 2,
    /// A check or gate failed: an event was refused, a case did not pass.
    Check = 3,
    /// The requested object does not exist.
    NotFound = 4,
    /// Refused: a component or request that is not accepted, a lock or port that is in use.
    Refused = 5,
    /// An invalid configuration.
    Configuration = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error with the exit code of the command.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    exit: Exit,
    message: String,
}

impl Fault {
    /// Creates a fault. `message` states what happened, to what, and what to do next.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

impl Exit {
    /// Returns the exit code of a command that failed with `error`.
    pub fn of(error: &anyhow::Error) -> Self {
        error.chain().find_map(Self::of_cause).unwrap_or(Self::Failure)
    }

    fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Self> {
        if let Some(fault) = cause.downcast_ref::<Fault>() {
            return Some(fault.exit);
        }
        if let Some(OutputError(error)) = cause.downcast_ref::<OutputError>() {
            // As with `| head`: the reader closed the pipe because it had read enough.
            return (error.kind() == io::ErrorKind::BrokenPipe).then_some(Self::Ok);
        }
        if let Some(error) = cause.downcast_ref::<ClientError>() {
            return Some(Self::of_client_error(error));
        }
        let not_admitted = cause.is::<NotAdmitted>() || matches!(cause.downcast_ref(), Some(LoadError::NotAdmitted(_)));
        not_admitted.then_some(Self::Refused)
    }

    fn of_client_error(error: &ClientError) -> Self {
        match error {
            ClientError::Address { .. } => Self::Usage,
            ClientError::Token => Self::Configuration,
            ClientError::Refused { problem, .. } => match problem.status {
                404 => Self::NotFound,
                400..=499 => Self::Refused,
                _ => Self::Failure,
            },
            ClientError::Unreachable { .. }
            | ClientError::Untrusted { .. }
            | ClientError::Interrupted { .. }
            | ClientError::Foreign { .. } => Self::Failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;
    use crate::client::Problem;

    fn refused(status: u16) -> anyhow::Error {
        let problem = Problem { status, ..Problem::default() };
        ClientError::Refused { problem: Box::new(problem), retry_after: None }.into()
    }

    #[test]
    fn errors_end_the_command_in_their_own_way() {
        let output = |kind| anyhow::Error::from(OutputError(io::Error::from(kind)));
        assert_eq!(Exit::of(&output(io::ErrorKind::BrokenPipe)), Exit::Ok);
        assert_eq!(Exit::of(&output(io::ErrorKind::StorageFull)), Exit::Failure);
        assert_eq!(Exit::of(&refused(404)), Exit::NotFound);
        assert_eq!(Exit::of(&refused(409)), Exit::Refused);
        assert_eq!(Exit::of(&refused(503)), Exit::Failure);
        assert_eq!(Exit::of(&anyhow::anyhow!("anything")), Exit::Failure);
    }

    #[test]
    fn context_does_not_hide_the_cause() {
        let error = Err::<(), _>(Fault::new(Exit::Configuration, "no")).context("while reading").expect_err("an error");
        assert_eq!(Exit::of(&error), Exit::Configuration);
    }

    #[test]
    fn a_connection_that_breaks_is_no_broken_pipe() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(Exit::of(&error), Exit::Failure);
    }
}
