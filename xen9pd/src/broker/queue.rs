//! What is due, each once, in the order in which it came.

use std::collections::{BTreeSet, VecDeque};

/// A queue in which everything is once. What is put in again while it waits keeps its place, so that a domain at which something
/// happens all the time keeps no other waiting.
#[derive(Debug)]
pub struct Queue<T> {
    order: VecDeque<T>,
    waiting: BTreeSet<T>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue {
            order: VecDeque::new(),
            waiting: BTreeSet::new(),
        }
    }
}

impl<T: Copy + Ord> Queue<T> {
    /// Puts it at the end, unless it waits already.
    pub fn push(&mut self, item: T) {
        if self.waiting.insert(item) {
            self.order.push_back(item);
        }
    }

    /// Takes the one that has waited longest.
    pub fn pop(&mut self) -> Option<T> {
        let item = self.order.pop_front()?;
        self.waiting.remove(&item);
        Some(item)
    }
}

impl<T: Copy + Ord> Extend<T> for Queue<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        items.into_iter().for_each(|item| self.push(item));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_at_one_all_the_time_keeps_no_other_waiting() {
        let mut queue = Queue::default();
        queue.extend([1, 2, 3, 1, 1]);
        for expected in [1, 2, 3, 1, 1, 1] {
            assert_eq!(queue.pop(), Some(expected));
            // Something has happened at the first again.
            queue.push(1);
            queue.push(1);
        }
    }
}
