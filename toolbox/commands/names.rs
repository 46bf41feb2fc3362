//! Commands on the name space: cd, pwd, mount, bind, unmount, ns.

use alloc::rc::Rc;
use core::fmt;

use xen9p::ns::{Bind, NsError, ReadOnly};

use super::place::{Place, Shown};
use super::{Args, Fail, Shell};

fn refused(what: fmt::Arguments<'_>, error: NsError) -> Fail {
    match error {
        NsError::NoSource(error) | NsError::NoPlace(error) => Fail::from_fs(what, error),
        error => Fail::error(format_args!("{what}: {error}")),
    }
}

pub fn cd(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let path = match *args.operands {
        [] => "/",
        [path] => path,
        _ => return Err(Fail::usage(format_args!("one directory is expected"))),
    };
    let goes_back = path == "-";
    let place = match goes_back {
        true => Place::new(shell.host.root(), "", shell.host.last_directory())?,
        false => shell.place(path)?,
    };
    if goes_back && place.path.is_empty() {
        return Err(Fail::error(format_args!("there was no directory before")));
    }
    if !place.share.is_empty() {
        return Err(Fail::error(format_args!(
            "{place}: a share can't be entered; mount it first"
        )));
    }
    let clean = place.ns.canonicalize(&place.path);
    let clean = clean.map_err(|error| place.fail(error))?;
    // Listing is what tells a directory from a file that may not be entered.
    place
        .ns
        .read_dir(&clean)
        .map_err(|error| place.fail(error))?;
    if goes_back {
        shell.say(format_args!("{}\n", Shown(&clean)));
    }
    *shell.host.last_directory() = core::mem::replace(shell.host.directory(), clean);
    Ok(())
}

pub fn pwd(shell: &mut Shell<'_>, _args: &Args<'_>) -> Result<(), Fail> {
    let here = shell.place(".")?;
    let here = here
        .ns
        .canonicalize(&here.path)
        .map_err(|error| here.fail(error))?;
    shell.say(format_args!("{}\n", Shown(&here)));
    Ok(())
}

pub fn mount(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let (source, at) = match *args.operands {
        [] => return ns(shell, args),
        [source, at] => (source, at),
        _ => {
            return Err(Fail::usage(format_args!(
                "a source and a path are expected"
            )));
        }
    };
    let place = shell.place(at)?;
    let mut tree = shell
        .host
        .tree(source)
        .map_err(|text| Fail::error(format_args!("{text}")))?;
    if args.has('r') {
        tree = Rc::new(ReadOnly::of(tree));
    }
    let mounted = place.ns.mount_shared(tree, &place.path);
    mounted.map_err(|error| refused(format_args!("cannot mount at '{place}'"), error))
}

pub fn bind(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let [new, old] = *args.operands else {
        return Err(Fail::usage(format_args!("two paths are expected")));
    };
    let how = match (args.has('a'), args.has('b')) {
        (false, false) => Bind::REPLACE,
        (true, false) => Bind::AFTER,
        (false, true) => Bind::BEFORE,
        (true, true) => return Err(Fail::usage(format_args!("-a and -b exclude each other"))),
    };
    let how = if args.has('c') { how.create() } else { how };
    let (new, old) = (shell.place(new)?, shell.place(old)?);
    if !new.share.is_empty() {
        return Err(Fail::error(format_args!(
            "{new}: a share can't be bound; mount it first"
        )));
    }
    let bound = old.ns.bind(&new.path, &old.path, how);
    bound.map_err(|error| refused(format_args!("cannot bind '{new}' to '{old}'"), error))
}

pub fn unmount(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let (new, old) = match *args.operands {
        [old] => (None, old),
        [new, old] => (Some(shell.place(new)?), old),
        _ => return Err(Fail::usage(format_args!("one or two paths are expected"))),
    };
    let old = shell.place(old)?;
    let done = match new {
        Some(new) => old.ns.unmount_from(&new.path, &old.path),
        None => old.ns.unmount(&old.path),
    };
    done.map_err(|error| refused(format_args!("cannot unmount '{old}'"), error))
}

pub fn ns(shell: &mut Shell<'_>, _args: &Args<'_>) -> Result<(), Fail> {
    for point in shell.host.root().mount_points() {
        shell.say(format_args!(
            "{}\t{}",
            Shown(&point.path),
            if point.is_dir { "directory" } else { "file" }
        ));
        if point.elements > 1 {
            shell.say(format_args!(", a union of {}", point.elements));
        }
        shell.print(b"\n");
    }
    for (tag, at) in shell.host.shares() {
        // An address has slashes, and is no tag that a path begins with.
        let end = if tag.contains('/') { "" } else { ":/" };
        let comma = if at.is_empty() { "" } else { ", at " };
        shell.say(format_args!("{tag}{end}\tshare{comma}{at}\n"));
    }
    Ok(())
}
