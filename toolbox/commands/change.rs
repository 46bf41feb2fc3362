//! Commands that change what is known of files, or their names: touch, ln, chmod, chown, rmdir.

use xen9p::errno::Errno;
use xen9p::fs::{FileTimes, Metadata, OpenOptions, Permissions};

use super::place::{Place, Shown};
use super::target::is_directory;
use super::{Args, Fail, Shell};

pub fn touch(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let like = args.value('r');
    let like = like.map(|path| shell.place(path)?.metadata()).transpose()?;
    // -a and -m each mean one of both.
    let both = args.has('a') == args.has('m');
    let mut times = FileTimes::new();
    if both || args.has('a') {
        times = match &like {
            Some(found) => times.set_accessed(found.accessed()),
            None => times.set_accessed_now(),
        };
    }
    if both || args.has('m') {
        times = match &like {
            Some(found) => times.set_modified(found.modified()),
            None => times.set_modified_now(),
        };
    }
    shell.each(&args.operands, |_, place| {
        let cannot = |error| Fail::from_fs(format_args!("cannot touch '{place}'"), error);
        match place.ns.set_times(&place.path, times) {
            Err(error) if error.is_not_found() && args.has('c') => Ok(()),
            Err(error) if error.is_not_found() => {
                let mut new = OpenOptions::new();
                let made = new.write(true).create(true).open(&place.ns, &place.path);
                made.map_err(cannot)?;
                match like {
                    Some(_) => place.ns.set_times(&place.path, times).map_err(cannot),
                    None => Ok(()),
                }
            }
            done => done.map_err(cannot),
        }
    })
}

/// Access and modification time of a file, to be given to another.
pub fn times_of(found: &Metadata) -> FileTimes {
    let times = FileTimes::new().set_accessed(found.accessed());
    times.set_modified(found.modified())
}

pub fn rmdir(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    shell.each(&args.operands, |_, place| {
        let removed = place.ns.remove_dir(&place.path);
        removed.map_err(|error| Fail::from_fs(format_args!("failed to remove '{place}'"), error))
    })
}

pub fn ln(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let (targets, last) = match &*args.operands {
        [] => return Err(Fail::usage(format_args!("a target is missing"))),
        [target] => (core::slice::from_ref(target), "."),
        [targets @ .., last] => (targets, *last),
    };
    let last = shell.place(last)?;
    let into = is_directory(&last)?;
    if !into && targets.len() > 1 {
        return Err(Fail::error(format_args!("target '{last}' is no directory")));
    }
    let symbolic = args.has('s');
    for target in targets {
        let original = shell.place(target);
        let done = original.and_then(|original| {
            let link = if into {
                last.join(original.name())?
            } else {
                last.again()?
            };
            let kind = if symbolic { "symbolic" } else { "hard" };
            let cannot =
                |error| Fail::from_fs(format_args!("failed to create {kind} link '{link}'"), error);
            if !symbolic && original.share != link.share {
                return Err(cannot(Errno::EXDEV.into()));
            }
            let make = || match symbolic {
                true => link.ns.symlink(target, &link.path),
                false => link.ns.hard_link(&original.path, &link.path),
            };
            let made = match make() {
                Err(error) if args.has('f') && error.errno() == Errno::EEXIST => {
                    if original.is(&link)? {
                        return Err(super::moving::are_the_same(&original, &link));
                    }
                    link.ns.remove_file(&link.path).and_then(|()| make())
                }
                Err(error) if !symbolic && error.is_not_found() && original.there()?.is_none() => {
                    let what = format_args!("failed to access '{original}'");
                    return Err(Fail::from_fs(what, error));
                }
                made => made,
            };
            made.map_err(cannot)?;
            if args.has('v') {
                let arrow = if symbolic { "->" } else { "=>" };
                shell.say(format_args!(
                    "'{link}' {arrow} '{}'\n",
                    Shown(target.as_bytes())
                ));
            }
            Ok(())
        });
        shell.settle(done)?;
    }
    Ok(())
}

/// Runs `change` on each path and, with -R, on all that is below those that are directories.
fn throughout(
    shell: &mut Shell<'_>,
    args: &Args<'_>,
    paths: &[&str],
    mut change: impl FnMut(&mut Shell<'_>, &Place, bool) -> Result<(), Fail>,
) -> Result<(), Fail> {
    shell.each(paths, |shell, place| {
        change(shell, place, true)?;
        if !args.has('R') || !place.symlink_metadata()?.is_dir() {
            return Ok(());
        }
        shell.walk(place, usize::MAX, |shell, found| {
            let below = place.at(found.entry.path());
            let done = change(shell, &below, false);
            shell.settle(done)
        })
    })
}

pub fn chmod(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let [mode, paths @ ..] = &*args.operands else {
        return Err(Fail::usage(format_args!("a mode is missing")));
    };
    let invalid = || Fail::usage(format_args!("invalid mode '{mode}'"));
    // Judged once, before anything is changed.
    changed(mode, 0, false).ok_or_else(invalid)?;
    throughout(shell, args, paths, |shell, place, named| {
        let found = match named {
            true => place.metadata()?,
            false => place.symlink_metadata()?,
        };
        if found.is_symlink() {
            return Ok(());
        }
        let new = changed(mode, found.mode(), found.is_dir()).ok_or_else(invalid)?;
        let set = place
            .ns
            .set_permissions(&place.path, Permissions::from_mode(new));
        set.map_err(|error| {
            Fail::from_fs(format_args!("changing permissions of '{place}'"), error)
        })?;
        if args.has('v') {
            let (old, new) = (found.permissions(), Permissions::from_mode(new));
            match old == new {
                true => shell.say(format_args!(
                    "mode of '{place}' retained as {:04o} ({old})\n",
                    old.mode()
                )),
                false => shell.say(format_args!(
                    "mode of '{place}' changed from {:04o} ({old}) to {:04o} ({new})\n",
                    old.mode(),
                    new.mode()
                )),
            }
        }
        Ok(())
    })
}

/// What a mode such as `755` or `u+x,go=` makes of another; `None` if it makes no sense.
pub fn changed(text: &str, old: u32, is_dir: bool) -> Option<u32> {
    /// What new files would not get.
    const UMASK: u32 = 0o022;
    let old = old & 0o7777;
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        let mode = u32::from_str_radix(text, 8)
            .ok()
            .filter(|mode| *mode <= 0o7777)?;
        // The bits that are inherited in directories are not taken away by fewer than five digits.
        let kept = if is_dir && text.len() < 5 {
            old & 0o6000
        } else {
            0
        };
        return Some(mode | kept);
    }
    let mut mode = old;
    for clause in text.split(',') {
        let at = clause.find(['+', '-', '='])?;
        let (who, mut actions) = clause.split_at(at);
        let mut mask = 0;
        for c in who.chars() {
            mask |= match c {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o1007,
                'a' => 0o7777,
                _ => return None,
            };
        }
        let allowed = if who.is_empty() {
            0o7777 & !UMASK
        } else {
            mask
        };
        while let Some(operator) = actions.chars().next() {
            actions = &actions[1..];
            let end = actions.find(['+', '-', '=']).unwrap_or(actions.len());
            let (rights, rest) = actions.split_at(end);
            actions = rest;
            let mut bits = 0;
            for c in rights.chars() {
                bits |= match c {
                    'r' => 0o444,
                    'w' => 0o222,
                    'x' => 0o111,
                    'X' if is_dir || mode & 0o111 != 0 => 0o111,
                    'X' => 0,
                    's' => 0o6000,
                    't' => 0o1000,
                    'u' => (mode >> 6 & 7) * 0o111,
                    'g' => (mode >> 3 & 7) * 0o111,
                    'o' => (mode & 7) * 0o111,
                    _ => return None,
                };
            }
            bits &= allowed;
            match operator {
                '+' => mode |= bits,
                '-' => mode &= !bits,
                '=' => {
                    let replaced = if who.is_empty() { 0o7777 } else { mask };
                    let kept = if is_dir { 0o6000 } else { 0 };
                    mode = mode & !(replaced & !kept) | bits;
                }
                _ => return None,
            }
        }
    }
    Some(mode)
}

pub fn chown(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let [owner, paths @ ..] = &*args.operands else {
        return Err(Fail::usage(format_args!("an owner is missing")));
    };
    let (user, group) = owner.split_once([':', '.']).unwrap_or((owner, ""));
    let number = |text: &str| match text {
        "" => Ok(None),
        "root" => Ok(Some(0)),
        text => text.parse().map(Some).map_err(|_| {
            Fail::usage(format_args!(
                "'{text}' is no number; names of users are not known here"
            ))
        }),
    };
    let (uid, gid) = (number(user)?, number(group)?);
    throughout(shell, args, paths, |shell, place, named| {
        let set = match named && !args.has('h') {
            true => place.ns.chown(&place.path, uid, gid),
            false => place.ns.lchown(&place.path, uid, gid),
        };
        set.map_err(|error| Fail::from_fs(format_args!("changing ownership of '{place}'"), error))?;
        if args.has('v') {
            shell.say(format_args!("ownership of '{place}' changed to {owner}\n"));
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::changed;

    #[test]
    fn modes_are_those_of_chmod() {
        for (text, old, is_dir, new) in [
            ("755", 0o644, false, Some(0o755)),
            ("0", 0o2755, true, Some(0o2000)),
            ("00755", 0o2755, true, Some(0o755)),
            ("u+x", 0o644, false, Some(0o744)),
            ("+x", 0o644, false, Some(0o755)),
            ("+w", 0o444, false, Some(0o644)),
            ("go-rwx", 0o755, false, Some(0o700)),
            ("a=r", 0o755, false, Some(0o444)),
            ("u=rw,go=", 0o755, false, Some(0o600)),
            ("g=u", 0o740, false, Some(0o770)),
            ("a+X", 0o644, false, Some(0o644)),
            ("a+X", 0o644, true, Some(0o755)),
            ("u+s,+t", 0o755, false, Some(0o5755)),
            ("g+s", 0o755, false, Some(0o2755)),
            ("u+r-x", 0o100, false, Some(0o400)),
            ("8", 0, false, None),
            ("77777", 0, false, None),
            ("x+y", 0, false, None),
            ("u+q", 0, false, None),
            ("", 0, false, None),
            ("u", 0, false, None),
        ] {
            assert_eq!(changed(text, old, is_dir), new, "{text}");
        }
    }
}
