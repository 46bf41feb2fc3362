//! Why a command did not do what it was told to.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use xen9p::errno::Errno;
use xen9p::fs;

/// A status as a shell would report it: 0, 1 for a failed command, 2 for one called wrongly, and 143
/// (as after SIGTERM) for an interrupted one.
pub type Status = u8;

/// Why a command did not do what it was told to. Small, as nearly all that commands call may return one.
#[derive(Debug)]
pub enum Fail {
    /// It was called in a wrong way; the text says how.
    Usage(Text),
    /// It met an error; the text is for people.
    Error(Text),
    /// It met errors and has printed them, and ends with this status.
    Reported(Status),
    /// The domain is asked to stop, or Ctrl-C was typed.
    Interrupted,
}

const _: () = assert!(size_of::<Fail>() == 16);

impl Fail {
    /// That the command was called in a wrong way: this one.
    pub fn usage(text: fmt::Arguments<'_>) -> Fail {
        Fail::Usage(Text::new(text))
    }

    /// The failure with this text, which may have names and paths in it.
    pub fn error(text: fmt::Arguments<'_>) -> Fail {
        Fail::Error(Text::new(text))
    }

    /// The failure of doing `what` because of `error`.
    pub fn from_fs(what: fmt::Arguments<'_>, error: fs::Error) -> Fail {
        match error {
            fs::Error::Interrupted => Fail::Interrupted,
            error => Fail::error(format_args!("{what}: {error}")),
        }
    }

    /// That memory is short.
    pub fn out_of_memory() -> Fail {
        Fail::Error(Text(None))
    }
}

/// The text of a failure, behind one pointer; where memory is too short for it, the text says that.
#[derive(Debug)]
// An array, since the memory of a list can be had without a panic, and this is what a list can become.
pub struct Text(Option<Box<[String; 1]>>);

impl Text {
    fn new(text: fmt::Arguments<'_>) -> Text {
        struct Out(String);
        impl Write for Out {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0.try_reserve(text.len()).map_err(|_| fmt::Error)?;
                self.0.push_str(text);
                Ok(())
            }
        }
        let mut out = Out(String::new());
        let mut one = Vec::new();
        if fmt::write(&mut out, text).is_err() || one.try_reserve_exact(1).is_err() {
            return Text(None);
        }
        one.push(out.0);
        Text(one.try_into().ok())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_deref() {
            Some([text]) => f.write_str(text),
            None => Errno::ENOMEM.fmt(f),
        }
    }
}
