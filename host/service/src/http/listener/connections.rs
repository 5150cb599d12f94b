//! The connections of a listener, and the choice of those to close.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::ListenerLimits;
use super::connection::{Connection, Wanted};

/// A connection is closed in favor of other bodies only if its body has been behind for this long. Short delays are normal.
const BEHIND: Duration = Duration::from_secs(1);

/// The open connections of a listener. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connections {
    bounds: ListenerLimits,
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    /// The connections by number; the oldest has the lowest number.
    connections: HashMap<u64, Arc<Connection>>,
    next: u64,
}

/// A place among the connections. It is freed on drop.
pub(super) struct Place {
    number: u64,
    connection: Arc<Connection>,
    open: Arc<Mutex<Open>>,
}

impl Place {
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).connections.remove(&self.number);
    }
}

impl Connections {
    pub(super) fn new(bounds: ListenerLimits) -> Self {
        Self { bounds, open: Arc::default() }
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place, if one is free.
    pub(super) fn place(&self) -> Option<Place> {
        let mut open = self.open();
        if open.connections.len() >= self.bounds.connections {
            return None;
        }
        let (number, connection) = (open.next, Arc::new(Connection::new(self.bounds)));
        open.next += 1;
        open.connections.insert(number, connection.clone());
        Some(Place { number, connection, open: self.open.clone() })
    }

    /// Closes the connection whose client is furthest behind. Idle connections are closed first.
    pub(super) fn give_way(&self) {
        if belfry_model::sabotaged("connections-give-way") {
            return;
        }
        let open = self.open();
        let behind = open.connections.values().filter_map(|connection| {
            let (wanted, behind) = connection.behind()?;
            Some((wanted == Wanted::Request, behind, connection))
        });
        if let Some((_, _, connection)) = behind.max_by_key(|(idle, behind, _)| (*idle, *behind)) {
            connection.close("crowded");
        }
    }

    /// Closes the connection whose body is furthest behind, to free its memory for other bodies.
    pub(super) fn body_gives_way(&self) {
        let open = self.open();
        let behind = open.connections.values().filter_map(|connection| match connection.behind()? {
            (Wanted::Body, behind) if behind > BEHIND => Some((behind, connection)),
            _ => None,
        });
        if let Some((_, connection)) = behind.max_by_key(|(behind, _)| *behind) {
            connection.close("crowded");
        }
    }

    /// Closes every connection whose client has exceeded its time limit.
    pub(super) fn close_overdue(&self) {
        for connection in self.open().connections.values() {
            match connection.overdue() {
                // The code that reads the body answers these with 408 or 503.
                None | Some(Wanted::Body | Wanted::Memory) => {}
                Some(overdue) => connection.close(overdue.reason()),
            }
        }
    }
}
