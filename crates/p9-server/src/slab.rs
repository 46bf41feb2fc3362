//! Places with numbers for values that come and go, with memory that may run out.

use alloc::vec::Vec;

use p9_wire::Errno;

/// Values by small numbers. A number is used again after its value was removed.
#[derive(Debug)]
pub struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub const fn new() -> Self {
        Slab {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// # Errors
    /// ENOMEM.
    pub fn insert(&mut self, value: T) -> Result<u32, Errno> {
        if let Some(index) = self.free.pop() {
            if let Some(slot) = self.slots.get_mut(index as usize) {
                *slot = Some(value);
            }
            return Ok(index);
        }
        let index = u32::try_from(self.slots.len()).map_err(|_| Errno::ENOMEM)?;
        self.slots.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        // Room for every number in the list of free ones, so that removing never allocates.
        let numbers = self.slots.capacity().saturating_sub(self.free.len());
        self.free.try_reserve(numbers).map_err(|_| Errno::ENOMEM)?;
        self.slots.push(Some(value));
        Ok(index)
    }

    pub fn remove(&mut self, index: u32) -> Option<T> {
        let value = self.slots.get_mut(index as usize)?.take()?;
        self.free.push(index);
        Some(value)
    }

    pub fn get(&self, index: u32) -> Option<&T> {
        self.slots.get(index as usize)?.as_ref()
    }

    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.slots.get_mut(index as usize)?.as_mut()
    }

    /// A number that is larger than any in use.
    pub fn end(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let slots = (0..).zip(&self.slots);
        slots.filter_map(|(index, slot)| Some((index, slot.as_ref()?)))
    }

    pub fn into_values(self) -> impl Iterator<Item = T> {
        self.slots.into_iter().flatten()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        let slots = (0..).zip(&mut self.slots);
        slots.filter_map(|(index, slot)| Some((index, slot.as_mut()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_used_again_and_values_stay_apart() {
        let mut slab = Slab::new();
        let [a, b, c] = [1, 2, 3].map(|value| slab.insert(value).unwrap());
        assert_eq!(slab.remove(b), Some(2));
        assert_eq!(slab.remove(b), None);
        assert_eq!(slab.len(), 2);
        let d = slab.insert(4).unwrap();
        assert_eq!(d, b);
        assert_eq!(slab.iter().collect::<Vec<_>>(), [(a, &1), (d, &4), (c, &3)]);
        assert_eq!(slab.get(99), None);
    }
}
