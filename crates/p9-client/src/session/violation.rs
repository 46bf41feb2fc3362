//! The rules of 9P that the session checks, and what a server that breaks one loses.
//!
//! A broken rule costs either the operation that met it or the whole connection. It costs the connection where the
//! session can't know any more which reply belongs to which request, how large replies are, or what the server did. It
//! costs the operation where only the content is wrong, for which the files on the server may be the cause.
//!
//! The transport has rules of its own (indices of rings, sizes of messages); each of those costs the connection, and so
//! does a reply that can't be decoded ([`Error::Malformed`]). docs/hostile-backends.md shows this table.

use crate::Error;
use p9_tree::Text;

/// What a broken rule ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The operation that met it. Others go on.
    Operation,
    /// The connection, with all operations in flight and all to come (but see [`Recovery`](super::Recovery)).
    Connection,
}

macro_rules! violations {
    ($($(#[$doc:meta])* $name:ident: $scope:ident, $rule:literal;)+) => {
        /// A rule of 9P that a server can break.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Violation {
            $($(#[$doc])* $name,)+
        }

        impl Violation {
            /// All of them.
            pub const ALL: &'static [Violation] = &[$(Violation::$name),+];

            /// What the server did, as [`Error::Protocol`] says it.
            pub const fn rule(self) -> Text {
                match self {
                    $(Violation::$name => &$rule,)+
                }
            }

            /// What it ends.
            pub const fn scope(self) -> Scope {
                match self {
                    $(Violation::$name => Scope::$scope,)+
                }
            }
        }
    };
}

violations! {
    /// No request has this tag.
    UnknownTag: Connection, "a reply with a tag that was never sent";
    /// The request that has this tag travelled on another lane.
    WrongLane: Connection, "a reply on another lane than its request";
    /// The request is answered already.
    AnsweredTwice: Connection, "a reply to a request that is over";
    /// An Rflush without a Tflush.
    UnknownFlush: Connection, "an answer to a flush that was not sent";
    /// The reply is neither an error nor of the type that belongs to the request.
    WrongType: Connection, "a reply of another type than its request";
    /// The reply takes more bytes than the request allows, and the request alone decides on that.
    TooLarge: Connection, "a reply larger than what was asked for";
    /// The reply takes more bytes than a sound server's; a file or an error text on the server decides on that.
    NoRoom: Operation, "a reply larger than the room kept for it";
    /// An Rread or Rreaddir with more data than the request's count.
    TooMuchData: Connection, "more data than was asked for";
    /// An Rread or Rreaddir that ends before its data does.
    TooLittleData: Connection, "less data than announced";
    /// An Rread or Rreaddir without a count.
    NoCount: Connection, "a reply that is too short";
    /// An Rwrite with a larger count than the request's.
    TooMuchWritten: Connection, "more written than was sent";
    /// An Rwalk with more qids than names.
    TooManyNames: Connection, "a walk of more names than were asked for";
    /// An Rwalk without qids, where the first name failed and so an error is due.
    NoNames: Connection, "a walk of no names that is no error";
    /// An Rversion with a larger msize than Tversion's.
    MessageSizeGrows: Connection, "a message size above the one that was offered";
    /// Rreaddir, or the content of a directory, ends within an entry.
    SplitEntry: Operation, "a directory entry that is not all there";
    /// The stats in the content of a directory can't be decoded.
    BadEntries: Operation, "directory entries that make no sense";
    /// A name that is empty or has a slash or a NUL in it.
    ImpossibleName: Operation, "a directory entry with an impossible name";
    /// The offsets of a directory's entries lead back to an earlier one.
    CircularDirectory: Operation, "a directory listing that goes round in circles";
    /// A directory has more entries than any directory can have.
    EndlessDirectory: Operation, "a directory listing without end";
}

impl Violation {
    /// What this error, which says that a rule is broken, ends. `None` for errors of other kinds.
    pub fn scope_of(error: Error) -> Option<Scope> {
        match error {
            Error::Malformed(_) => Some(Scope::Connection),
            Error::Protocol(rule) => {
                let violation = Violation::ALL.iter().find(|known| known.rule() == rule);
                Some(violation.map_or(Scope::Connection, |violation| violation.scope()))
            }
            _ => None,
        }
    }
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Error {
        Error::Protocol(violation.rule())
    }
}
