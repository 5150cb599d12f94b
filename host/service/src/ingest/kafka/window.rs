use std::collections::VecDeque;

/// Number of records in the window.
const RECORDS: usize = 200;

/// The last records of a partition, with the number of those that were not even JSON.
#[derive(Debug, Default)]
pub(super) struct Window {
    decoded: VecDeque<bool>,
    undecodable: usize,
}

impl Window {
    /// Adds a record. Returns whether more than half of the last `RECORDS` are not JSON. In that case the producer of the
    /// topic is at fault rather than single records, and it makes no sense to continue.
    pub(super) fn add(&mut self, decoded: bool) -> bool {
        if self.decoded.len() == RECORDS && self.decoded.pop_front() == Some(false) {
            self.undecodable -= 1;
        }
        self.decoded.push_back(decoded);
        self.undecodable += usize::from(!decoded);
        self.undecodable > RECORDS / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_half_of_the_last_records_is_too_much() {
        let mut window = Window::default();
        assert!((0..1000).all(|number| !window.add(number % 2 == 0)), "half is not more than half");
        assert!((0..100).any(|_| window.add(false)));
    }

    #[test]
    fn a_few_records_say_nothing() {
        let mut window = Window::default();
        assert!((0..100).all(|_| !window.add(false)));
        assert!(window.add(false));
    }
}
