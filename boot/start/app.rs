//! The main function of an app: what it may take and return, and what is said of an error that left it.

use alloc::string::String;
use core::fmt;

use super::{Files, print};
use crate::ns::Namespace;
use crate::tree::files::Failure;

/// How an app ended, as the status in the last line of the console: 0 is success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitCode(u8);

impl ExitCode {
    /// 0.
    pub const SUCCESS: ExitCode = ExitCode(0);
    /// 1: something did not work.
    pub const FAILURE: ExitCode = ExitCode(1);
    /// 2: the command line makes no sense.
    pub const USAGE: ExitCode = ExitCode(2);

    /// The status.
    pub(super) fn number(self) -> u8 {
        self.0
    }
}

impl From<u8> for ExitCode {
    fn from(status: u8) -> Self {
        ExitCode(status)
    }
}

/// What an app's main function may return.
pub trait Termination {
    /// The status that it means. Prints the error, if it is one, after the app's name; where that is the error of the app's
    /// last operation on files that failed, with the operation and its path.
    fn report(self, app: &str, last: Option<Failure>) -> ExitCode;
}

impl Termination for () {
    fn report(self, _: &str, _: Option<Failure>) -> ExitCode {
        ExitCode::SUCCESS
    }
}

impl Termination for ExitCode {
    fn report(self, _: &str, _: Option<Failure>) -> ExitCode {
        self
    }
}

impl<T: Termination, E: fmt::Display> Termination for Result<T, E> {
    fn report(self, app: &str, last: Option<Failure>) -> ExitCode {
        match self {
            Ok(value) => value.report(app, last),
            Err(error) => {
                print(format_args!("{app}: {}\n", told(&error, last)));
                ExitCode::FAILURE
            }
        }
    }
}

/// What is said of an error that left an app's main function: the operation with its path, where it is that of the last one.
fn told(error: &dyn fmt::Display, last: Option<Failure>) -> String {
    let text = alloc::format!("{error}");
    // Whatever the type of the error, it is that of the operation if it says the same, and nothing failed since.
    let last = last.filter(|last| last.is_last() && alloc::format!("{}", last.error()) == text);
    last.map_or(text, |failure| alloc::format!("{failure}"))
}

/// Makes a function the main function of an image that has files: `fn(&Files) -> impl`
/// [`Termination`](crate::rt::Termination), that is `()`, an [`ExitCode`](crate::rt::ExitCode), or a
/// `Result` of these. What it takes is up to it: a [`Fs`](crate::fs::Fs), the root share, or a
/// [`Namespace`](crate::ns::Namespace), all that the command line mounts and binds; see
/// [`Files`](crate::rt::Files). One that takes nothing has the name space by the functions of [`std`](crate::std).
///
/// It is called when these files are there; when it returns, files and device are closed, the
/// verdict `[xen9p] exit N` is printed and the domain powers off. Heap and panic handler come along,
/// as with [`bare_entry!`](crate::bare_entry).
///
/// ```ignore
/// #![no_std]
/// #![no_main]
///
/// use xen9p::fs::{Fs, Result};
///
/// xen9p::entry!(main);
///
/// fn main(fs: &Fs) -> Result<()> {
///     fs.write("/hello.txt", "Hello.\n")
/// }
/// ```
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        const _: () = {
            fn bare() -> u8 {
                // That of the crate whose main function this is.
                let name = option_env!("CARGO_BIN_NAME").or(option_env!("CARGO_PKG_NAME"));
                $crate::rt::run(name.unwrap_or("app"), $main)
            }
            $crate::bare_entry!(bare);
        };
    };
}

/// What can be the main function of an app: one that takes some [`Files`] by reference, or nothing.
pub trait App<Taken> {
    /// What is mounted for it.
    type Files: Files;

    /// Calls it; the status that its result means. An error is printed after `name`.
    fn call(self, name: &str, files: &Self::Files) -> ExitCode;
}

impl<F: Files, T: Termination, M: FnOnce(&F) -> T> App<(F,)> for M {
    type Files = F;

    fn call(self, name: &str, files: &F) -> ExitCode {
        self(files).report(name, files.last_failure())
    }
}

impl<T: Termination, M: FnOnce() -> T> App<()> for M {
    type Files = Namespace;

    fn call(self, name: &str, files: &Namespace) -> ExitCode {
        self().report(name, files.last_failure())
    }
}

#[cfg(test)]
mod tests {
    use super::told;
    use crate::ns::MemTree;
    use crate::tree::files::Fs;

    /// Other tests may fail at something meanwhile, but not always.
    #[test]
    fn an_error_is_told_with_its_own_path_or_with_none() {
        let fs = Fs::new(MemTree::new().root());
        let with_path = loop {
            let error = fs.read("/app.conf").unwrap_err();
            let failure = fs.last_failure().unwrap();
            let text = told(&error, Some(failure.clone()));
            if failure.is_last() {
                break text;
            }
        };
        let without = "No such file or directory (ENOENT)";
        assert_eq!(with_path, alloc::format!("read \"/app.conf\": {without}"));
        let last = fs.last_failure();
        let other = Fs::new(MemTree::new().root());
        let error = other.read("/other").unwrap_err();
        assert_eq!(told(&error, last), without);
    }
}
