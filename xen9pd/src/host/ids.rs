//! [`IdMap`]: the users and groups of a peer as others of this machine.

use std::fs;
use std::path::Path;

/// What a peer sees where a file belongs to a user or group that is none of its own.
pub(super) const UNMAPPED: u32 = 65534;

/// The most lines of one kind.
const MAX_RANGES: usize = 8;

/// The largest file that is read.
const MAX_FILE: u64 = 64 << 10;

/// Which numbers of the peer's users and groups are which numbers here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdMap {
    pub(super) users: Ids,
    pub(super) groups: Ids,
}

/// Numbers of one kind: ranges that do not overlap, the unused ones empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ids([Range; MAX_RANGES]);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Range {
    there: u32,
    here: u32,
    count: u32,
}

impl IdMap {
    /// Reads the file of a map.
    ///
    /// # Errors
    /// What is wrong with it, in words, with the line.
    pub fn load(path: &Path) -> Result<IdMap, String> {
        let text = match fs::metadata(path) {
            Ok(meta) if meta.len() > MAX_FILE => Err("it is larger than 64 KiB".into()),
            Ok(_) => fs::read_to_string(path).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let text = text.map_err(|error| format!("{} can't be read: {error}", path.display()))?;
        IdMap::parse(&text).map_err(|error| format!("{}, {error}", path.display()))
    }

    /// Reads the text of a map: lines such as `b 0 100000 65536`, which are for users (`u`), groups (`g`) or both; the
    /// first number of the peer's, the first number here, how many.
    ///
    /// # Errors
    /// What is wrong with it, in words, with the line.
    pub fn parse(text: &str) -> Result<IdMap, String> {
        let mut map = IdMap::default();
        for (number, line) in (1..).zip(text.lines()) {
            let wrong = |what: &str| format!("line {number}: {what}");
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            let [kind, there, here, count] = words[..] else {
                match words[..] {
                    [] => continue,
                    _ => return Err(wrong("has to be u, g or b and three numbers")),
                }
            };
            let range = Range::parse(there, here, count).map_err(|what| wrong(&what))?;
            let (users, groups) = match kind {
                "u" => (true, false),
                "g" => (false, true),
                "b" => (true, true),
                _ => return Err(wrong("begins with u (users), g (groups) or b (both)")),
            };
            for ids in [
                users.then_some(&mut map.users),
                groups.then_some(&mut map.groups),
            ] {
                let Some(ids) = ids else { continue };
                ids.add(range).map_err(|what| wrong(&what))?;
            }
        }
        if map.users.is_empty() || map.groups.is_empty() {
            return Err("it maps no users, or no groups".into());
        }
        Ok(map)
    }
}

impl Range {
    fn parse(there: &str, here: &str, count: &str) -> Result<Range, String> {
        let number = |text: &str| {
            let number = text.parse::<u32>();
            number.map_err(|_| format!("{text:?} is no number of a user or group"))
        };
        let (there, here, count) = (number(there)?, number(here)?, number(count)?);
        // The last number of all means "none" to the kernel and in 9P.
        let fits = |first: u32| first.checked_add(count).is_some();
        match count > 0 && fits(there) && fits(here) {
            true => Ok(Range { there, here, count }),
            false => Err("the range is empty, or goes beyond 4294967294".into()),
        }
    }
}

impl Ids {
    fn add(&mut self, new: Range) -> Result<(), String> {
        let overlap = |a: u32, b: u32, old: &Range| a < b + old.count && b < a + new.count;
        let meets = |old: &&Range| {
            old.count > 0
                && (overlap(new.there, old.there, old) || overlap(new.here, old.here, old))
        };
        if self.0.iter().any(|old| meets(&old)) {
            return Err("a number is in a line above, too".into());
        }
        let free = self.0.iter_mut().find(|old| old.count == 0);
        *free.ok_or_else(|| format!("there are more than {MAX_RANGES} lines for one kind"))? = new;
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|range| range.count == 0)
    }

    /// The number here for one of the peer's.
    pub(super) fn here(&self, there: u32) -> Option<u32> {
        self.find(there, |range| (range.there, range.here))
    }

    /// The peer's number for one here.
    pub(super) fn there(&self, here: u32) -> Option<u32> {
        self.find(here, |range| (range.here, range.there))
    }

    fn find(&self, id: u32, ends: impl Fn(&Range) -> (u32, u32)) -> Option<u32> {
        self.0.iter().find_map(|range| {
            let (from, to) = ends(range);
            let at = id.checked_sub(from).filter(|&at| at < range.count)?;
            Some(to + at)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_there_and_back() {
        let map = IdMap::parse("# guests\nb 0 100000 1000 # most\n\nu 1000 1000 1\ng 2000 0 1\n");
        let map = map.unwrap();
        let there = [0, 999, 1000, 1001, 2000, u32::MAX];
        let here = [Some(100_000), Some(100_999), Some(1000), None, None, None];
        assert_eq!(there.map(|id| map.users.here(id)), here);
        assert_eq!(map.groups.here(2000), Some(0));
        for (there, here) in there.into_iter().zip(here) {
            if let Some(here) = here {
                assert_eq!(map.users.there(here), Some(there));
            }
        }
        assert_eq!(map.users.there(0), None);
        assert_eq!(map.groups.there(1000), None);
    }

    #[test]
    fn each_mistake_has_its_line() {
        for (text, expected) in [
            ("", "it maps no users, or no groups"),
            ("u 0 1 2", "it maps no users, or no groups"),
            ("\nb 0 1", "line 2: has to be u, g or b and three numbers"),
            ("x 0 1 2", "line 1: begins with"),
            ("b 0 1 0", "line 1: the range is empty"),
            (
                "b 1 0 4294967295",
                "line 1: the range is empty, or goes beyond",
            ),
            ("b 0 -1 2", "line 1: \"-1\" is no number"),
            ("b 0 10 5\nu 4 20 1", "line 2: a number is in a line above"),
            ("b 0 10 5\ng 9 14 1", "line 2: a number is in a line above"),
        ] {
            let error = IdMap::parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
        let many: String = (0..9).map(|id| format!("b {id} {id} 1\n")).collect();
        let error = IdMap::parse(&many).unwrap_err();
        assert!(
            error.starts_with("line 9: there are more than 8"),
            "{error}"
        );
        let error = IdMap::load(Path::new("/nowhere")).unwrap_err();
        assert!(
            error.starts_with("/nowhere can't be read: No such file"),
            "{error}"
        );
    }
}
