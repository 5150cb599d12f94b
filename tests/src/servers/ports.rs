use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use anyhow::{Context, Result};
use uuid::Uuid;

/// Below Linux's ephemeral port range: a server that is killed finds its port free when it restarts.
const PORTS: Range<u128> = 20_000..32_000;
const TRIES: usize = 100;
/// Maximum number of attempts to start a server, each on another port, if other processes take the ports first.
pub(super) const STARTS: usize = 5;

/// Returns a port of 127.0.0.1 that is currently free.
pub(super) fn free_port() -> Result<u16> {
    (0..TRIES)
        .filter_map(|_| {
            let chosen = PORTS.start + Uuid::new_v4().as_u128() % (PORTS.end - PORTS.start);
            u16::try_from(chosen).ok()
        })
        .find(|port| is_free(*port))
        .with_context(|| format!("{TRIES} ports of 127.0.0.1 between {} and {} are taken", PORTS.start, PORTS.end))
}

/// Returns whether a server could listen on this port.
pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Returns whether a server did not start because its port is in use.
pub(super) fn says_taken(error: &anyhow::Error) -> bool {
    format!("{error:#}").contains("already in use")
}
