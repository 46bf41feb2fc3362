//! The cases, for the simulated Xen and the real one alike: what the backend does, in the language of
//! `tests/support/src/backend/script.rs`, and what has to come of it.
//!
//! The rows S1 to S18 are those of docs/hostile-cases.md: S1 and S2 indices, S3 sizes, S4 tags, S5 types, S6 contents, S7 double
//! fetches, S8 the frontend's own words, S9 and S10 storms and nodes, S11 maps, S12 silence, S18 budgets. S13 (nothing
//! but wire data in the pages) and S16 (a fresh mount works) are part of every case.

/// What has to come of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// Files are read and written as if nothing were wrong.
    Works,
    /// No connection comes about, and one error says why.
    Refused,
    /// The connection or the 9P session ends with one error, which everything fails with from then on.
    Broken,
    /// `Broken`, if the frontend looks while the lie is there. It is told after the reply: a frontend that runs beside its
    /// backend may have read what it needs by then, and all of that was true, so that it `Works`.
    BrokenIfSeen,
    /// One operation fails with an error, and the mount goes on.
    Fails,
    /// `Works`, `Broken` or `Fails`: it depends on which of two values was there when it was looked at.
    Either,
}

/// A case.
pub struct Case {
    /// The row.
    pub row: &'static str,
    /// What the backend does wrong.
    pub script: &'static str,
    /// What has to come of it.
    pub ends: Ends,
}

impl Case {
    /// Whether it ends by waiting for what does not come.
    pub fn is_slow(&self) -> bool {
        let signs = [
            "silence",
            "stuck",
            "cut",
            "size 4000",
            "in-prod -1",
            "refuse",
        ];
        signs.iter().any(|sign| self.script.contains(sign))
    }
}

const fn case(row: &'static str, script: &'static str, ends: Ends) -> Case {
    Case { row, script, ends }
}

use Ends::*;

/// All of them.
#[rustfmt::skip]
pub const CASES: &[Case] = &[
    case("S1", "on Tread in-prod 8192", Broken),
    case("S1", "on Tread in-prod 1000000000", Broken),
    case("S1", "on Tread in-prod -9000", Broken),
    case("S1", "on Tread in-prod -1", Either),
    case("S1", "on Tread flap-index 1000000 20000", Either),
    case("S2", "on Twrite out-cons 9000", BrokenIfSeen),
    case("S2", "on Twrite out-cons -9000", BrokenIfSeen),
    case("S3", "on Tread size 0", Broken),
    case("S3", "on Tread size 6", Broken),
    case("S3", "on Tread size 7", Broken),
    case("S3", "on Tread size 4097", Broken),
    case("S3", "on Tread size 8193", Broken),
    case("S3", "on Tread size 4294967295", Broken),
    case("S3", "on Tread size 4000", Broken),
    case("S3", "on Tread cut 6", Either),
    case("S3", "on Tread cut 11", Either),
    case("S3", "on Tgetattr size 4000", Fails),
    case("S3", "on Tgetattr cut 6", Fails),
    case("S3", "on Tgetattr cut 100", Fails),
    case("S4", "on Tgetattr tag 12345", Broken),
    case("S4", "on Tgetattr tag 65535", Broken),
    case("S4", "on Tgetattr tag-beside 1", Broken),
    case("S4", "on Tread twice", Broken),
    case("S4", "on Tread say Duplicate", Broken),
    case("S5", "on Tread kind 119", Broken),
    case("S5", "on Tread kind 116", Broken),
    case("S5", "on Tread kind 0", Broken),
    case("S5", "on Tread kind 107", Broken),
    case("S5", "on Tread say WrongType", Broken),
    case("S5", "each Tread say ErrorZero", Fails),
    case("S5", "each Tread say ErrorBeyondRange", Fails),
    case("S5", "on Tread say TooLong", Broken),
    case("S5", "on Tread say CutShort", Broken),
    case("S6", "on Tread say MoreThanAsked", Broken),
    case("S6", "on Tread say CountBeyondMessage", Broken),
    case("S6", "on Twrite say MoreThanAsked", Broken),
    case("S6", "on Twalk say MoreQidsThanNames", Broken),
    case("S6", "on Twalk say ManyQids", Broken),
    case("S6", "on Tversion say MsizeGrows", Refused),
    case("S6", "on Tversion say MsizeZero", Refused),
    case("S6", "on Tversion say OtherDialect", Refused),
    case("S6", "on Treaddir say MoreThanAsked", Broken),
    case("S6", "on Treaddir say SplitEntry", Fails),
    case("S6", "on Treaddir say NameBeyondData", Fails),
    case("S6", "on Treaddir say ImpossibleNames", Fails),
    case("S6", "each Treaddir say EndlessDirectory", Works),
    case("S6", "each Treaddir say CircularDirectory", Fails),
    case("S7", "on Tread rewrite 0 4294967295", BrokenIfSeen),
    case("S7", "on Tread flap 0 4294967295 20000", Either),
    case("S7", "on Tread flap 7 4294967295 20000", Either),
    case("S8", "on Tversion scribble", Works),
    case("S8", "each Tread scribble", Works),
    case("S9", "on Tread events 100000", Works),
    case("S10", "on Tread watches 2000", Works),
    case("S10", "on Tread state", Broken),
    case("S10", "on Tread state 0", Broken),
    case("S10", "on Tread state 1", Broken),
    case("S10", "on Tread state 2", Broken),
    case("S10", "on Tread state 5", Broken),
    case("S10", "on Tread state 6", Broken),
    case("S10", "on Tread state 7", Broken),
    case("S10", "on Tread state 8", Broken),
    case("S10", "on Tread state 99", Broken),
    case("S10", "on Tread state 4x", Broken),
    case("S10", "on Tread state long", Broken),
    case("S10", "on Tread remove", Broken),
    case("S10", "on Tread die", Broken),
    case("S10", "restart; offer versions", Refused),
    case("S10", "restart; offer versions 2,11", Refused),
    case("S10", "restart; offer versions long", Refused),
    case("S10", "restart; absent versions", Refused),
    case("S10", "restart; offer max-rings 0", Refused),
    case("S10", "restart; offer max-rings many", Refused),
    case("S10", "restart; offer max-rings 4294967296", Refused),
    case("S10", "restart; absent max-rings", Refused),
    case("S10", "restart; offer max-ring-page-order 0", Refused),
    case("S10", "restart; offer max-ring-page-order -1", Refused),
    case("S10", "restart; absent max-ring-page-order", Refused),
    case("S11", "keep-maps", Works),
    case("S12", "restart; stuck 1", Refused),
    case("S12", "restart; stuck 2", Refused),
    case("S12", "stuck 4", Works),
    case("S12", "stuck 5", Works),
    case("S12", "restart; refuse 5", Refused),
    case("S12", "restart; refuse 6", Refused),
    case("S12", "on Tversion silence", Refused),
    case("S12", "on Tattach silence", Refused),
    case("S12", "on Tread silence", Either),
    case("S12", "each Tread silence", Fails),
    case("S12", "on Tclunk silence", Works),
    case("S12", "each Tclunk silence", Fails),
    case("S18", "restart; offer max-rings 4294967295; offer max-ring-page-order 200", Works),
];
