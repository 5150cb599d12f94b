use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use anyhow::{Context, Result};
use uuid::Uuid;

/// Below what Linux hands out to clients: a server that is killed finds its port free when it comes back.
const PORTS: Range<u128> = 20_000..32_000;
const TRIES: usize = 100;
/// How often a server is started on another port because somebody was faster.
pub(super) const STARTS: usize = 5;

/// A port of 127.0.0.1 that is free now.
pub(super) fn free_port() -> Result<u16> {
    (0..TRIES)
        .filter_map(|_| {
            let chosen = PORTS.start + Uuid::new_v4().as_u128() % (PORTS.end - PORTS.start);
            u16::try_from(chosen).ok()
        })
        .find(|port| is_free(*port))
        .with_context(|| format!("{TRIES} ports of 127.0.0.1 between {} and {} are taken", PORTS.start, PORTS.end))
}

/// Whether a server could listen there.
pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Whether a server did not start because somebody listens there already.
pub(super) fn says_taken(error: &anyhow::Error) -> bool {
    format!("{error:#}").contains("already in use")
}
