use std::error::Error;
use std::io;
use std::time::Duration;

use reqwest::Url;

use crate::client::Problem;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address cannot be one of Belfry's.
    #[error("{url} cannot be Belfry's address: {reason}; give --url as in http://127.0.0.1:7341")]
    #[expect(missing_docs, reason = "the message says what they are")]
    Address { url: String, reason: String },
    /// The token cannot be sent.
    #[error("the token has characters that cannot be sent; give it as one line of plain text")]
    Token,
    /// Nothing was sent.
    #[error("cannot reach {url}: {reason}; start it with `belfry serve` or give --url")]
    #[expect(missing_docs, reason = "the message says what they are")]
    Unreachable { url: String, reason: String },
    /// What answers there has no certificate that can be trusted. Nothing was sent.
    #[error(
        "{url} cannot be trusted: {reason}; give it by the name that is in its certificate, and name the file with its \
         authority in SSL_CERT_FILE if the system does not know it"
    )]
    #[expect(missing_docs, reason = "the message says what they are")]
    Untrusted { url: String, reason: String },
    /// It is not known what became of the request.
    #[error("lost the connection to {url}: {reason}; do it again, what is done already is not done twice")]
    #[expect(missing_docs, reason = "the message says what they are")]
    Interrupted { url: String, reason: String },
    /// Belfry said no.
    #[error("{problem}{}", if problem.status == 401 { "; give the token with --token-file or BELFRY_TOKEN" } else { "" })]
    Refused {
        /// Why.
        problem: Box<Problem>,
        /// After what time to try again, if it says so.
        retry_after: Option<Duration>,
    },
    /// Whoever answered is not a Belfry that this client knows.
    #[error("{url} gave an answer that is not understood: {detail}; is it Belfry, and of the version of this command?")]
    #[expect(missing_docs, reason = "the message says what they are")]
    Foreign { url: String, detail: String },
}

impl ClientError {
    /// True if Belfry answered that what was asked for is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { problem, .. } if problem.status == 404)
    }

    /// True if the same request may well succeed later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Interrupted { .. } => true,
            Self::Refused { problem, .. } => problem.status >= 500,
            Self::Address { .. } | Self::Token | Self::Untrusted { .. } | Self::Foreign { .. } => false,
        }
    }

    /// The reason without the address and without advice.
    pub fn reason(&self) -> String {
        match self {
            Self::Unreachable { reason, .. } | Self::Interrupted { reason, .. } => reason.clone(),
            other => other.to_string(),
        }
    }

    /// A request that did not get its answer's head.
    pub(super) fn unsendable(base: &Url, error: &reqwest::Error) -> Self {
        let url = || base.as_str().trim_end_matches('/').to_owned();
        if certificate_problem(error) {
            Self::Untrusted { url: url(), reason: innermost(error) }
        } else if error.is_connect() || error.is_builder() {
            let url = url();
            Self::Unreachable { url, reason: innermost(error) }
        } else {
            Self::interrupted(base, error)
        }
    }

    /// A request whose answer broke off.
    pub(super) fn interrupted(base: &Url, error: &reqwest::Error) -> Self {
        let url = base.as_str().trim_end_matches('/').to_owned();
        Self::Interrupted { url, reason: innermost(error) }
    }
}

/// What lies behind all layers of an error.
fn cause(error: &reqwest::Error) -> &(dyn Error + 'static) {
    let mut cause: &(dyn Error + 'static) = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause
}

fn certificate_problem(error: &reqwest::Error) -> bool {
    let mut cause = cause(error);
    // Errors within errors of the system are no sources of these.
    while let Some(inner) = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        cause = inner;
    }
    matches!(cause.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)))
}

/// What lies behind all layers of an error, in plain words.
pub(super) fn innermost(error: &reqwest::Error) -> String {
    let cause = cause(error);
    // The system's own words end in a number that helps nobody here.
    match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(
            kind @ (io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::TimedOut),
        ) => kind.to_string(),
        _ if error.is_timeout() => "no answer in time".to_owned(),
        _ => cause.to_string(),
    }
}
