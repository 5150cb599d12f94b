use std::error::Error;
use std::io;
use std::time::Duration;

use reqwest::Url;

use crate::client::Problem;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL cannot be the address of a Belfry.
    #[error("{url} is not a valid address: {reason}; set --url to an address such as http://127.0.0.1:7341")]
    #[expect(missing_docs, reason = "the message describes the fields")]
    Address { url: String, reason: String },
    /// The token cannot be sent.
    #[error("the token contains characters that cannot be sent; provide it as one line of plain text")]
    Token,
    /// The service cannot be reached. Nothing was sent.
    #[error("cannot reach {url}: {reason}; start the service with `belfry serve` or set --url")]
    #[expect(missing_docs, reason = "the message describes the fields")]
    Unreachable { url: String, reason: String },
    /// The server's certificate is not trusted. Nothing was sent.
    #[error(
        "{url} cannot be trusted: {reason}; use the host name in its certificate, and set SSL_CERT_FILE to the file of the \
         certificate authority if the system does not trust it"
    )]
    #[expect(missing_docs, reason = "the message describes the fields")]
    Untrusted { url: String, reason: String },
    /// The connection was lost. Whether the request was carried out is unknown.
    #[error("lost the connection to {url}: {reason}; run the command again, nothing is done twice")]
    #[expect(missing_docs, reason = "the message describes the fields")]
    Interrupted { url: String, reason: String },
    /// Belfry refused the request.
    #[error("{problem}{}", if problem.status == 401 { "; give the token with --token-file or BELFRY_TOKEN" } else { "" })]
    Refused {
        /// The reason.
        problem: Box<Problem>,
        /// The time to wait before a retry, if Belfry specifies one.
        retry_after: Option<Duration>,
    },
    /// The response does not come from a Belfry that this client understands.
    #[error("{url} returned an unexpected response: {detail}; check that it is Belfry, and of this command's version")]
    #[expect(missing_docs, reason = "the message describes the fields")]
    Foreign { url: String, detail: String },
}

impl ClientError {
    /// Returns true if Belfry answered that the requested object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { problem, .. } if problem.status == 404)
    }

    /// Returns true if the same request may succeed later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Interrupted { .. } => true,
            Self::Refused { problem, .. } => problem.status >= 500,
            Self::Address { .. } | Self::Token | Self::Untrusted { .. } | Self::Foreign { .. } => false,
        }
    }

    /// Returns the reason without the address and without advice.
    pub fn reason(&self) -> String {
        match self {
            Self::Unreachable { reason, .. } | Self::Interrupted { reason, .. } => reason.clone(),
            other => other.to_string(),
        }
    }

    /// Returns the error of a request that received no response head.
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

    /// Returns the error of a request whose response was cut off.
    pub(super) fn interrupted(base: &Url, error: &reqwest::Error) -> Self {
        let url = base.as_str().trim_end_matches('/').to_owned();
        Self::Interrupted { url, reason: innermost(error) }
    }
}

/// Returns the innermost source of an error.
fn cause(error: &reqwest::Error) -> &(dyn Error + 'static) {
    let mut cause: &(dyn Error + 'static) = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause
}

fn certificate_problem(error: &reqwest::Error) -> bool {
    let mut cause = cause(error);
    // An error wrapped in an `io::Error` is not part of its chain of sources.
    while let Some(inner) = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        cause = inner;
    }
    matches!(cause.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)))
}

/// Returns the text of an error's innermost source.
pub(super) fn innermost(error: &reqwest::Error) -> String {
    let cause = cause(error);
    // The operating system's message ends in an error number, which is of no use here.
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
        _ if error.is_timeout() => "no response in time".to_owned(),
        _ => cause.to_string(),
    }
}
