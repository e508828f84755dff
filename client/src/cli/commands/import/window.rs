//! What of a file is under way, in the order of the file: everything before the first record that is, is done.

use std::collections::VecDeque;

use super::input::Mark;

/// How far ahead of the first record under way others are begun. One that has to wait (for a lock, say) would otherwise
/// make the rest of the file pile up behind it.
const RECORDS_MAX: usize = 64 * 1024;

/// The records that were begun, from the first one that is not done.
#[derive(Debug)]
pub struct Window<T> {
    /// Where each ends, and what came of it if it is done.
    begun: VecDeque<(Mark, Option<T>)>,
    /// The number of the first of them.
    first: u64,
    done_to: Mark,
}

impl<T> Window<T> {
    /// Nothing under way behind a mark.
    pub fn behind(mark: Mark) -> Self {
        Self { begun: VecDeque::new(), first: 0, done_to: mark }
    }

    /// Whether another one may be begun.
    pub fn has_room(&self) -> bool {
        self.begun.len() < RECORDS_MAX
    }

    /// Begins the next record, which ends there, and numbers it.
    pub fn begin(&mut self, end: Mark) -> u64 {
        self.begun.push_back((end, None));
        self.first + self.begun.len() as u64 - 1
    }

    /// A record is done. Counts when everything before it is: see [`Window::next_done`].
    pub fn done(&mut self, number: u64, came: T) {
        if let Some((_, done)) = self.begun.get_mut((number - self.first) as usize) {
            *done = Some(came);
        }
    }

    /// What came of the next record in the order of the file, once everything before it is done too.
    pub fn next_done(&mut self) -> Option<T> {
        let (end, came) = self.begun.pop_front_if(|(_, came)| came.is_some())?;
        self.done_to = end;
        self.first += 1;
        came
    }

    /// Everything before it is done.
    pub fn done_to(&self) -> Mark {
        self.done_to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(lines: u64) -> Mark {
        Mark { lines, bytes: 10 * lines, digest: lines }
    }

    fn drain(window: &mut Window<u64>) -> Vec<u64> {
        std::iter::from_fn(|| window.next_done()).collect()
    }

    #[test]
    fn nothing_behind_a_record_under_way_counts_as_done() {
        let mut window = Window::behind(mark(1));
        let numbers: Vec<_> = (2..=4).map(|lines| window.begin(mark(lines))).collect();
        window.done(numbers[2], 4);
        window.done(numbers[1], 3);
        assert_eq!((drain(&mut window), window.done_to()), (vec![], mark(1)));
        window.done(numbers[0], 2);
        assert_eq!((drain(&mut window), window.done_to()), (vec![2, 3, 4], mark(4)));
        let last = window.begin(mark(5));
        assert_eq!((drain(&mut window), window.done_to()), (vec![], mark(4)));
        window.done(last, 5);
        assert_eq!((drain(&mut window), window.done_to()), (vec![5], mark(5)));
    }

    #[test]
    fn it_is_bounded() {
        let mut window = Window::behind(mark(0));
        let first = window.begin(mark(1));
        while window.has_room() {
            let number = window.begin(mark(2));
            window.done(number, 2);
        }
        window.done(first, 1);
        assert_eq!(drain(&mut window).len(), RECORDS_MAX);
        assert!(window.has_room());
    }
}
