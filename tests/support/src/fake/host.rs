//! The host's memory behind the simulated one: pages of a file without a name, so that one page can be seen at two
//! addresses, as where a domain maps what another grants. Under Miri, which knows no such thing, it is plain memory, and
//! no page is at two addresses.

use std::num::NonZeroUsize;
use std::ptr::NonNull;

use xen9p::platform::{PAGE_SIZE, Page};

#[cfg(not(miri))]
pub(super) use file::Host;
#[cfg(miri)]
pub(super) use plain::Host;

fn bytes(count: NonZeroUsize) -> usize {
    count
        .get()
        .checked_mul(PAGE_SIZE)
        .expect("a sane number of pages")
}

#[cfg(not(miri))]
mod file {
    use std::collections::BTreeMap;
    use std::os::fd::OwnedFd;
    use std::ptr::null_mut;

    use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};
    use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

    use super::*;

    /// Where the file ends, which has no memory but for what is in use: more than all tests take.
    const END: u64 = 1 << 40;

    pub(in super::super) struct Host {
        file: OwnedFd,
        end: u64,
        /// Where in the file each run of pages lies, by address.
        places: BTreeMap<usize, u64>,
        reserved: Vec<(NonNull<Page>, NonZeroUsize)>,
    }

    impl Default for Host {
        fn default() -> Self {
            let file = memfd_create("domains", MemfdFlags::CLOEXEC).expect("a file in memory");
            ftruncate(&file, END).expect("a file without memory can be of any size");
            Host {
                file,
                end: 0,
                places: BTreeMap::new(),
                reserved: Vec::new(),
            }
        }
    }

    const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

    impl Host {
        /// `count` zeroed pages.
        pub fn take(&mut self, count: NonZeroUsize) -> NonNull<Page> {
            let len = bytes(count);
            // SAFETY: new memory, at an address of the host's choice.
            let at = unsafe {
                mmap(
                    null_mut(),
                    len,
                    READ_WRITE,
                    MapFlags::SHARED,
                    &self.file,
                    self.end,
                )
            };
            let first = NonNull::new(at.expect("the host has memory").cast::<Page>());
            let first = first.expect("not at 0");
            self.places
                .insert(first.as_ptr().expose_provenance(), self.end);
            self.end += len as u64;
            first
        }

        /// # Safety
        /// They were taken with this count, and they are not used any more.
        pub unsafe fn give_back(&mut self, first: NonNull<Page>, count: NonZeroUsize) {
            let place = self.places.remove(&first.as_ptr().addr()).expect("taken");
            // SAFETY: the caller's promise.
            unsafe { munmap(first.as_ptr().cast(), bytes(count)) }.expect("it was mapped");
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(&self.file, hole, place, bytes(count) as u64).expect("a hole");
        }

        /// Addresses at which there is nothing.
        pub fn reserve(&mut self, count: NonZeroUsize) -> Option<NonNull<Page>> {
            // SAFETY: new addresses, of the host's choice.
            let at = unsafe {
                mmap_anonymous(
                    null_mut(),
                    bytes(count),
                    ProtFlags::empty(),
                    MapFlags::PRIVATE,
                )
            };
            let first = NonNull::new(at.ok()?.cast())?;
            self.reserved.push((first, count));
            Some(first)
        }

        /// # Safety
        /// `at` is reserved, and what is there is not used; `page` was taken.
        pub unsafe fn show(&self, at: NonNull<Page>, page: Option<NonNull<Page>>) {
            let at = at.as_ptr().cast();
            let fixed = MapFlags::FIXED;
            let shown = match page {
                Some(page) => {
                    let address = page.as_ptr().addr();
                    let (start, place) = self.places.range(..=address).next_back().expect("taken");
                    let (place, flags) = (place + (address - start) as u64, MapFlags::SHARED);
                    // SAFETY: the caller's promise.
                    unsafe { mmap(at, PAGE_SIZE, READ_WRITE, flags | fixed, &self.file, place) }
                }
                None => {
                    let flags = MapFlags::PRIVATE | fixed;
                    // SAFETY: the caller's promise.
                    unsafe { mmap_anonymous(at, PAGE_SIZE, ProtFlags::empty(), flags) }
                }
            };
            shown.expect("the host maps its pages");
        }
    }

    impl Drop for Host {
        fn drop(&mut self) {
            for (first, count) in self.reserved.drain(..) {
                // SAFETY: reserved with this count; the simulated machine is gone.
                unsafe { munmap(first.as_ptr().cast(), bytes(count)) }.expect("it was mapped");
            }
        }
    }
}

#[cfg(miri)]
mod plain {
    use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};

    use super::*;

    #[derive(Default)]
    pub(in super::super) struct Host;

    fn layout(count: NonZeroUsize) -> Layout {
        Layout::from_size_align(bytes(count), PAGE_SIZE).expect("a sane number of pages")
    }

    impl Host {
        pub fn take(&mut self, count: NonZeroUsize) -> NonNull<Page> {
            // SAFETY: the layout is not empty.
            let memory = unsafe { alloc_zeroed(layout(count)) };
            match NonNull::new(memory.cast::<Page>()) {
                Some(first) => first,
                None => handle_alloc_error(layout(count)),
            }
        }

        /// # Safety
        /// They were taken with this count, and they are not used any more.
        pub unsafe fn give_back(&mut self, first: NonNull<Page>, count: NonZeroUsize) {
            // SAFETY: allocated with this layout.
            unsafe { dealloc(first.cast().as_ptr(), layout(count)) };
        }

        pub fn reserve(&mut self, _: NonZeroUsize) -> Option<NonNull<Page>> {
            None
        }

        /// # Safety
        /// `at` is reserved, which nothing is.
        pub unsafe fn show(&self, _: NonNull<Page>, _: Option<NonNull<Page>>) {}
    }
}
