//! Sorting, by one function for all types: that of `core` is there once for each, several kilobytes in size.

use core::cmp::Ordering;

/// Sorts in place, equal ones in any order, without memory and in n log n steps at worst.
pub fn sort_by<T>(items: &mut [T], compare: impl FnMut(&T, &T) -> Ordering) {
    heap_sort(items.len(), &mut Slice { items, compare });
}

/// Sorts by the order that the type has.
pub fn sort<T: Ord>(items: &mut [T]) {
    sort_by(items, T::cmp);
}

/// What is sorted, by places.
trait Places {
    fn is_less(&mut self, a: usize, b: usize) -> bool;
    fn swap(&mut self, a: usize, b: usize);
}

struct Slice<'a, T, F> {
    items: &'a mut [T],
    compare: F,
}

impl<T, F: FnMut(&T, &T) -> Ordering> Places for Slice<'_, T, F> {
    fn is_less(&mut self, a: usize, b: usize) -> bool {
        (self.compare)(&self.items[a], &self.items[b]).is_lt()
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.items.swap(a, b);
    }
}

fn heap_sort(len: usize, places: &mut dyn Places) {
    for top in (0..len / 2).rev() {
        sink(places, top, len);
    }
    for end in (1..len).rev() {
        places.swap(0, end);
        sink(places, 0, end);
    }
}

/// Lets the item at `top` of a heap of `len` go below those that are greater.
fn sink(places: &mut dyn Places, mut top: usize, len: usize) {
    loop {
        let mut child = 2 * top + 1;
        if child >= len {
            return;
        }
        if child + 1 < len && places.is_less(child, child + 1) {
            child += 1;
        }
        if !places.is_less(top, child) {
            return;
        }
        places.swap(top, child);
        top = child;
    }
}
