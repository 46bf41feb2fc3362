//! Where the sources of cp and mv go to.

use alloc::vec::Vec;

use super::place::Place;
use super::{Fail, Shell};

/// Runs `action` for each source with the place it goes to: the last path, or below it when that is, or
/// leads to, a directory.
pub fn to_target(
    shell: &mut Shell<'_>,
    paths: &[&str],
    mut action: impl FnMut(&mut Shell<'_>, &Place, &Place) -> Result<(), Fail>,
) -> Result<(), Fail> {
    let [sources @ .., target] = paths else {
        return Err(Fail::usage(format_args!("paths are missing")));
    };
    if sources.is_empty() {
        return Err(Fail::usage(format_args!(
            "the target after '{target}' is missing"
        )));
    }
    let target = shell.place(target)?;
    let into = is_directory(&target)?;
    if !into && sources.len() > 1 {
        return Err(Fail::error(format_args!(
            "target '{target}' is no directory"
        )));
    }
    let mut made: Vec<Place> = Vec::new();
    shell.each(sources, |shell, source| {
        if !into {
            return action(shell, source, &target);
        }
        let to = match source.name() {
            // What is in the directory above goes into the target, not into the one above that.
            b".." => target.again()?,
            name => target.join(name)?,
        };
        let is_made = made
            .iter()
            .try_fold(false, |is, made| Ok(is || made.is(&to)?))?;
        if is_made && to.there()?.is_some_and(|it| !it.is_dir()) {
            return Err(Fail::error(format_args!(
                "will not overwrite just-created '{to}' with '{source}'"
            )));
        }
        made.push(to.again()?);
        action(shell, source, &to)
    })
}

/// Whether the path leads to a directory. One that leads nowhere does not, nor does a link to itself.
pub fn is_directory(place: &Place) -> Result<bool, Fail> {
    match place.ns.metadata(&place.path) {
        Ok(found) => Ok(found.is_dir()),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => match place.ns.symlink_metadata(&place.path) {
            Ok(found) if found.is_symlink() => Ok(false),
            _ => Err(place.fail(error)),
        },
    }
}
