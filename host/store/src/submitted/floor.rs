//! The id below which nothing can appear any more.
//!
//! Deleted rows stay in the table and its index until the oldest snapshot of the whole server is gone, and a scan from
//! the lowest id has to pass all of them: with 100,000 of them, each read took 34 to 60 ms instead of 0.5 ms. So reads
//! begin at a floor.
//!
//! A transaction has its number before it draws an id. Once all transactions have ended whose numbers had been assigned
//! when an id was drawn, the outcome of that id and of all lower ids is decided. Only transactions that write count: a
//! dump, or a query that takes hours, keeps the dead rows but does not hold back the floor.

use std::time::{Duration, Instant};

/// Interval at which a read begins at zero. This corrects a wrong floor, for example after the sequence was set back
/// manually.
const FROM_ZERO_EVERY: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Floor {
    id: i64,
    /// Ids up to `drawn` are decided once all transactions up to `transaction` have ended.
    pending: Option<Pending>,
    /// Whether the last read returned rows, so that the floor can rise.
    rises: bool,
    from_zero_at: Option<Instant>,
}

struct Pending {
    drawn: i64,
    transaction: i64,
}

impl Floor {
    /// Returns the floor: all rows that exist or may appear have higher ids.
    pub(super) fn start(&mut self) -> i64 {
        if self.from_zero_at.is_none_or(|at| at <= Instant::now()) {
            self.from_zero_at = Some(Instant::now() + FROM_ZERO_EVERY);
            return 0;
        }
        self.id
    }

    /// Returns whether the last drawn id is of use.
    pub(super) fn wants_last_drawn(&self) -> bool {
        self.rises && self.pending.is_none()
    }

    /// Records an id that was drawn, and a transaction that began after that.
    pub(super) fn note_last_drawn(&mut self, drawn: i64, transaction: i64) {
        self.pending = Some(Pending { drawn, transaction });
    }

    /// Records the result of a read: the lowest transaction that was still running, and the lowest row. That row still
    /// exists, so the floor stays below it.
    pub(super) fn note_read(&mut self, lowest_running: i64, lowest: Option<i64>) {
        self.rises = lowest.is_some();
        if lowest.is_some_and(|lowest| lowest <= self.id) {
            *self = Self { from_zero_at: self.from_zero_at, ..Self::default() };
        } else if let Some(Pending { drawn, transaction }) = self.pending
            && lowest_running > transaction
        {
            self.id = self.id.max(lowest.map_or(drawn, |lowest| drawn.min(lowest - 1)));
            // It may take several reads to pass the rows up to there.
            if self.id >= drawn {
                self.pending = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_when_all_that_were_running_have_ended() {
        let mut floor = Floor::default();
        assert_eq!((floor.start(), floor.wants_last_drawn()), (0, false));
        floor.note_read(10, Some(1));
        assert!(floor.wants_last_drawn());
        floor.note_last_drawn(100, 20);
        // Transaction 12 is still running; it may have drawn any id up to 100.
        floor.note_read(12, Some(51));
        assert_eq!(floor.start(), 0);
        // Now nothing can appear below 51, and the rows from there on are not deleted yet.
        floor.note_read(21, Some(51));
        assert_eq!(floor.start(), 50);
        floor.note_read(21, None);
        assert_eq!((floor.start(), floor.wants_last_drawn()), (100, false));
    }

    #[test]
    fn it_never_passes_what_was_drawn() {
        let mut floor = Floor::default();
        floor.start();
        floor.note_last_drawn(100, 20);
        floor.note_read(21, Some(500));
        assert_eq!((floor.start(), floor.wants_last_drawn()), (100, true));
    }

    #[test]
    fn a_row_below_it_shows_that_it_is_wrong() {
        let mut floor = Floor::default();
        floor.start();
        floor.note_last_drawn(100, 20);
        floor.note_read(21, None);
        floor.note_read(30, Some(3));
        assert_eq!(floor.start(), 0);
    }
}
