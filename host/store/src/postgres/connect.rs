//! Connection options.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

use crate::tcp_keepalive::SERVER_KEEPALIVE;
use crate::{OpenError, StoreSettings};

/// A session that is lost between two statements of a transaction must not hold the order lock for long.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(5);

pub(super) fn options(settings: &StoreSettings) -> Result<PgConnectOptions, OpenError> {
    // The parser's error may quote the address, and with it a password.
    let options = PgConnectOptions::from_str(&settings.url).map_err(|_| OpenError::Address)?;
    let milliseconds = |duration: Duration| duration.as_millis().to_string();
    Ok(options.application_name("belfry").options(SERVER_KEEPALIVE).options([
        ("statement_timeout", milliseconds(settings.statement_timeout)),
        ("lock_timeout", milliseconds(settings.lock_timeout)),
        ("idle_in_transaction_session_timeout", milliseconds(IDLE_IN_TRANSACTION)),
        ("default_transaction_isolation", "read committed".into()),
        // With a laxer default of the database, a crash could lose acknowledged events.
        ("synchronous_commit", "on".into()),
        // The log is read along its key, regardless of the statistics of a table that only grows.
        ("enable_seqscan", "off".into()),
        // With sequential scans off, small tables look costly enough for JIT compilation: 200 ms for a statement that
        // takes 1 ms.
        ("jit", "off".into()),
    ]))
}

/// Checks that the address can be parsed.
pub(crate) fn check_address(settings: &StoreSettings) -> Result<(), OpenError> {
    options(settings).map(|_| ())
}
