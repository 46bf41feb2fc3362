//! Addresses of servers: `network!protocol!target`, as Plan 9's dial(2) writes them.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::Error;
use crate::TransportError;

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DialError {
    /// The address is not of the form `scheme!target`; the text says what is wrong.
    Malformed(&'static str),
    /// No function is registered for the scheme.
    UnknownScheme,
    /// The scheme has no such target: no device of this tag or number.
    NoSuchTarget,
    /// The target is there, but did not connect in time.
    TimedOut,
    /// The target is there, but connecting failed.
    Failed(Error),
}

impl From<Error> for DialError {
    fn from(error: Error) -> Self {
        DialError::Failed(error)
    }
}

impl From<TransportError> for DialError {
    fn from(error: TransportError) -> Self {
        DialError::Failed(Error::Transport(error))
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DialError::Malformed(what) => write!(
                f,
                "malformed address: {what}; an address looks like xen!9pfs!TAG"
            ),
            DialError::UnknownScheme => f.write_str(
                "no transport of this kind is known; an address looks like xen!9pfs!TAG",
            ),
            DialError::NoSuchTarget => {
                f.write_str("there is no such device; see the tags in the domain's configuration")
            }
            DialError::TimedOut => f.write_str("the device is there but did not connect in time"),
            DialError::Failed(error) => write!(f, "connecting failed: {error}"),
        }
    }
}

impl core::error::Error for DialError {}

type Dial<C> = Box<dyn Fn(&str) -> Result<C, DialError>>;

/// Who connects to which kind of address.
///
/// A scheme is one or several parts of an address, such as `xen!9pfs` in `xen!9pfs!TAG`. What `C` is, a
/// transport to be mounted or a mounted `Fs` that
/// may be attached to again, is up to the registered function.
///
/// ```
/// use xen9p::ns::{DialError, Dialers};
///
/// let mut dialers = Dialers::new();
/// dialers.register("xen!9pfs", |tag| match tag {
///     "data" => Ok(7),
///     _ => Err(DialError::NoSuchTarget),
/// })?;
/// assert_eq!(dialers.dial("xen!9pfs!data"), Ok(7));
/// assert_eq!(dialers.dial("xen!9pfs!dota"), Err(DialError::NoSuchTarget));
/// assert_eq!(dialers.dial("tcp!host!564"), Err(DialError::UnknownScheme));
/// # Ok::<(), DialError>(())
/// ```
pub struct Dialers<C> {
    known: Vec<(String, Dial<C>)>,
}

impl<C> Default for Dialers<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C> fmt::Debug for Dialers<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schemes = self.known.iter().map(|(scheme, _)| scheme);
        f.debug_list().entries(schemes).finish()
    }
}

impl<C> Dialers<C> {
    /// Knows no scheme yet.
    pub fn new() -> Self {
        Dialers { known: Vec::new() }
    }

    /// Has `dial` called for the addresses of a scheme, with the rest of the address; it replaces the one
    /// that was registered before. `dial` has to come back in bounded time.
    ///
    /// # Errors
    /// [`DialError::Malformed`].
    pub fn register(
        &mut self,
        scheme: &str,
        dial: impl Fn(&str) -> Result<C, DialError> + 'static,
    ) -> Result<(), DialError> {
        check(scheme)?;
        self.known.retain(|(known, _)| known != scheme);
        self.known.push((scheme.into(), Box::new(dial)));
        Ok(())
    }

    /// Connects to an address. Of several schemes that it begins with, the longest counts.
    ///
    /// # Errors
    /// [`DialError::Malformed`] and [`DialError::UnknownScheme`] at once; else what the one who dials
    /// says.
    pub fn dial(&self, address: &str) -> Result<C, DialError> {
        check(address)?;
        if !address.contains('!') {
            return Err(DialError::Malformed("there is no '!' in it"));
        }
        let matching = self.known.iter().filter_map(|(scheme, dial)| {
            let target = address.strip_prefix(scheme.as_str())?.strip_prefix('!')?;
            Some((target, dial))
        });
        let (target, dial) = matching
            .min_by_key(|(target, _)| target.len())
            .ok_or(DialError::UnknownScheme)?;
        dial(target)
    }
}

/// What holds for addresses and schemes alike.
fn check(text: &str) -> Result<(), DialError> {
    if text.is_empty() {
        return Err(DialError::Malformed("it is empty"));
    }
    if text.split('!').any(str::is_empty) {
        return Err(DialError::Malformed("one of its parts is empty"));
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(DialError::Malformed(
            "it has a blank or a control character",
        ));
    }
    Ok(())
}
