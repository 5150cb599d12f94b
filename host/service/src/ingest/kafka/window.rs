use std::collections::VecDeque;

/// Records that are looked back at.
const RECORDS: usize = 200;

/// The last records of a partition: how many were not even JSON?
#[derive(Debug, Default)]
pub(super) struct Window {
    decoded: VecDeque<bool>,
    undecodable: usize,
}

impl Window {
    /// Another record. Gives whether more than half of the last ones were not JSON: then it is not the records that are
    /// at fault but what is written to the topic, and nothing good comes of going on.
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
