//! The ioctls of Xen's devices: their headers give no direction, but a size.

use std::ffi::c_void;
use std::fs::File;
use std::marker::PhantomData;
use std::ptr::NonNull;

use rustix::ioctl::{Direction, Ioctl, IoctlOutput, Opcode, opcode};

/// An ioctl's letter and number, and the type of its argument: what the opcode is made of.
pub struct Control<T> {
    group: u8,
    number: u8,
    argument: PhantomData<fn(T)>,
}

impl<T: Copy> Control<T> {
    /// The ioctl of this letter and number.
    pub const fn new(group: u8, number: u8) -> Self {
        Control {
            group,
            number,
            argument: PhantomData,
        }
    }

    /// What the kernel calls it.
    pub const fn opcode(&self) -> Opcode {
        opcode::from_components(Direction::None, self.group, self.number, size_of::<T>())
    }

    /// Makes the call.
    ///
    /// # Safety
    /// The device behind `file` has an ioctl of this letter and number, and it reads and writes nothing but a `T`, and
    /// what a `T` there says.
    pub unsafe fn call(&self, file: &File, argument: &mut T) -> rustix::io::Result<u32> {
        // SAFETY: the argument is a `T` that lives as long as the call; the rest is the caller's promise.
        unsafe { self.call_on(file, NonNull::from(argument).cast()) }
    }

    /// Makes the call with an argument that goes on behind the end of `T`, as structures with an array at their end do.
    ///
    /// # Safety
    /// As [`call`](Self::call); `argument` is valid for reads and writes of all that the ioctl takes.
    pub unsafe fn call_on(
        &self,
        file: &File,
        argument: NonNull<c_void>,
    ) -> rustix::io::Result<u32> {
        let call = Call {
            opcode: self.opcode(),
            argument,
        };
        // SAFETY: as the caller says.
        unsafe { rustix::ioctl::ioctl(file, call) }
    }
}

struct Call {
    opcode: Opcode,
    argument: NonNull<c_void>,
}

// SAFETY: the opcode goes with the argument, by the contract of `Control::call_on`, which alone makes these; the answer is
// a number and does not point anywhere.
unsafe impl Ioctl for Call {
    type Output = u32;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.argument.as_ptr()
    }

    unsafe fn output_from_ptr(answer: IoctlOutput, _: *mut c_void) -> rustix::io::Result<u32> {
        Ok(answer as u32)
    }
}
