//! Patterns of names: `*`, `?`, `[…]`, and a backslash in front of what is meant as it is.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use xen9p::errno::Errno;

use super::place::{Shown, is_of_the_path};
use super::{Fail, Shell, sort};

/// What the names that a pattern becomes may take, as a share of the free memory, and at the most.
const SHARE: usize = 8;
const MOST: usize = 2 << 20;

/// The text without the backslashes that [quote](self).
pub fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => chars.next().unwrap_or(c),
            c => c,
        });
    }
    plain
}

/// Whether `name` is one of those that `pattern` means.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern, name);
    // Behind the last star, and where it was tried to go on.
    let mut star: Option<(&str, &str)> = None;
    loop {
        if let Some(rest) = pattern.strip_prefix('*') {
            star = Some((rest, name));
            pattern = rest;
            continue;
        }
        let mut chars = name.chars();
        let next = chars.next();
        match next.map(|c| one(pattern, c)) {
            None if pattern.is_empty() => return true,
            Some(Some(rest)) => {
                (pattern, name) = (rest, chars.as_str());
                continue;
            }
            _ => {}
        }
        // The star takes one more.
        let Some((rest, tried)) = star else {
            return false;
        };
        let mut chars = tried.chars();
        if chars.next().is_none() {
            return false;
        }
        (pattern, name) = (rest, chars.as_str());
        star = Some((rest, name));
    }
}

/// What follows the first element of the pattern, which is no star, if that can be `c`.
fn one(pattern: &str, c: char) -> Option<&str> {
    let mut chars = pattern.chars();
    let is_it = match chars.next()? {
        '?' => true,
        '[' => {
            if let Some((is_in, rest)) = bracket(chars.as_str(), c) {
                return is_in.then_some(rest);
            }
            c == '['
        }
        '\\' => chars.next()? == c,
        other => other == c,
    };
    is_it.then_some(chars.as_str())
}

/// Whether `c` is one of those that are listed up to a `]`, and what follows that; `None` if there is none.
fn bracket(list: &str, c: char) -> Option<(bool, &str)> {
    let mut chars = list.chars();
    let not = list.starts_with(['!', '^']);
    if not {
        chars.next();
    }
    let (mut is_in, mut first) = (false, true);
    loop {
        let mut low = chars.next()?;
        if low == ']' && !first {
            return Some((is_in != not, chars.as_str()));
        }
        first = false;
        if low == '\\' {
            low = chars.next()?;
        }
        let mut ahead = chars.clone();
        let mut high = low;
        if ahead.next() == Some('-')
            && let Some(end) = ahead.next().filter(|&end| end != ']')
        {
            high = match end {
                '\\' => ahead.next()?,
                end => end,
            };
            chars = ahead;
        }
        is_in |= (low..=high).contains(&c);
    }
}

/// Whether a name of a path has to be looked for.
fn is_pattern(name: &str) -> bool {
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => _ = chars.next(),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

/// The paths that a pattern means, in their order; if there are none, the pattern as it is typed.
///
/// # Errors
/// E2BIG for more than memory has room for; a name that is no text, as none can be typed; a lost server.
pub fn expand(shell: &mut Shell<'_>, pattern: &str) -> Result<Vec<String>, Fail> {
    let room = (shell.host.spare_memory() / SHARE).min(MOST);
    let mut found = vec![String::new()];
    let mut names = pattern.split('/').peekable();
    // `TAG:/` and `/` are as they are.
    let mut is_first = true;
    while let Some(name) = names.next() {
        let mut next = Vec::new();
        let mut taken = 0;
        for front in found {
            if is_pattern(name) {
                look(shell, &front, name, room, &mut taken, &mut next)?;
            } else {
                let path = front + &unescaped(name);
                // What follows a pattern has to be there.
                if is_first || names.peek().is_some() || leads_somewhere(shell, &path)? {
                    next.push(path);
                }
            }
        }
        if names.peek().is_some() {
            for path in &mut next {
                path.push('/');
            }
        }
        found = next;
        is_first = false;
    }
    if found.is_empty() {
        found.push(unescaped(pattern));
    }
    Ok(found)
}

fn leads_somewhere(shell: &mut Shell<'_>, path: &str) -> Result<bool, Fail> {
    let place = shell.place(path)?;
    match place.ns.symlink_metadata(&place.path) {
        Ok(_) => Ok(true),
        Err(error) if is_of_the_path(error) => Ok(false),
        Err(error) => Err(place.fail(error)),
    }
}

/// Adds the names in the directory `front` that `pattern` means, in order.
fn look(
    shell: &mut Shell<'_>,
    front: &str,
    pattern: &str,
    room: usize,
    taken: &mut usize,
    into: &mut Vec<String>,
) -> Result<(), Fail> {
    let place = shell.place(if front.is_empty() { "." } else { front })?;
    let entries = match place.ns.read_dir(&place.path) {
        Ok(entries) => entries,
        Err(error) if is_of_the_path(error) => return Ok(()),
        Err(error) => return Err(place.fail(error)),
    };
    let start = into.len();
    for entry in entries {
        let entry = entry.map_err(|error| place.fail(error))?;
        let name = entry.file_name_lossy();
        if name.starts_with('.') && !pattern.starts_with(['.', '\\']) || !matches(pattern, &name) {
            continue;
        }
        if str::from_utf8(entry.file_name()).is_err() {
            return Err(Fail::error(format_args!(
                "{pattern}: the name '{}' is not UTF-8 text; name the directory instead",
                Shown(entry.file_name())
            )));
        }
        *taken += front.len() + name.len() + 2 * size_of::<String>();
        if *taken > room || into.try_reserve(1).is_err() {
            return Err(Fail::error(format_args!("{pattern}: {}", Errno::E2BIG)));
        }
        let mut path = String::new();
        path.push_str(front);
        path.push_str(&name);
        into.push(path);
    }
    sort::sort(&mut into[start..]);
    Ok(())
}
