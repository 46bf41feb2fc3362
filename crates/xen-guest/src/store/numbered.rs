//! Values by their numbers.

use alloc::vec::Vec;

/// A map from numbers to values, in a vector: there are some hundred at most, and most of them are added in the order of
/// their numbers. A tree would be ten times as much code.
pub(super) struct Numbered<T>(Vec<(u32, T)>);

impl<T> Numbered<T> {
    /// Without values.
    pub(super) const fn new() -> Self {
        Numbered(Vec::new())
    }

    fn find(&self, number: u32) -> Result<usize, usize> {
        self.0.binary_search_by_key(&number, |&(number, _)| number)
    }

    /// Whether there is a value of this number.
    pub(super) fn contains(&self, number: u32) -> bool {
        self.find(number).is_ok()
    }

    /// The value of this number.
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let index = self.find(number).ok()?;
        self.0.get_mut(index).map(|(_, value)| value)
    }

    /// The value of this number.
    pub(super) fn get(&self, number: u32) -> Option<&T> {
        let index = self.find(number).ok()?;
        self.0.get(index).map(|(_, value)| value)
    }

    /// Adds a value, whose number is not in use.
    pub(super) fn insert(&mut self, number: u32, value: T) {
        if let Err(index) = self.find(number) {
            self.0.insert(index, (number, value));
        }
    }

    /// Takes the value of this number out.
    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let index = self.find(number).ok()?;
        Some(self.0.remove(index).1)
    }

    /// Takes all of them out.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// All of them, in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(u32, T)> {
        self.0.iter()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_numbers_whatever_the_order() {
        let mut all = Numbered::new();
        for number in [7, 9, 3, u32::MAX, 8] {
            all.insert(number, number / 2);
        }
        let numbers: Vec<u32> = all.iter().map(|&(number, _)| number).collect();
        assert_eq!(numbers, [3, 7, 8, 9, u32::MAX]);
        assert_eq!(all.remove(8), Some(4));
        assert_eq!(all.remove(8), None);
        assert!(all.contains(9) && !all.contains(8));
        *all.get_mut(3).unwrap() = 0;
        assert_eq!((all.get(3), all.get(4), all.len()), (Some(&0), None, 4));
        all.clear();
        assert_eq!(all.len(), 0);
    }
}
