//! Commands on what is served to other domains: serve, unserve, exports.

use alloc::format;
use alloc::rc::Rc;

use xen9p::ns::Tree;
use xen9p::server::Rights;
use xen9p::transport::serving::{self, Client, Target};

use super::{Args, Fail, Shell};

/// A source, and a target.
fn operands<'a>(args: &Args<'a>) -> Result<(&'a str, Target), Fail> {
    let [source, target] = *args.operands else {
        return Err(Fail::usage(format_args!(
            "a source and a target are expected"
        )));
    };
    let target = target.parse();
    let target = target.map_err(|error| Fail::usage(format_args!("{error}")))?;
    Ok((source, target))
}

pub fn serve(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let (source, target) = operands(args)?;
    let tree: Rc<dyn Tree> = if source.starts_with('/') {
        let place = shell.place(source)?;
        let tree = serving::directory(&place.ns, &place.path);
        Rc::new(tree.map_err(|error| place.fail(error))?)
    } else {
        shell
            .host
            .tree(source)
            .map_err(|text| Fail::error(format_args!("{text}")))?
    };
    let rights = match args.has('r') {
        true => Rights::ReadOnly,
        false => Rights::ReadWrite,
    };
    let served = shell.host.serve(source, &*tree, &target, rights);
    served.map_err(|error| Fail::error(format_args!("{source} {target}: {error}")))
}

pub fn unserve(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let (source, target) = operands(args)?;
    let ended = shell.host.unserve(source, &target);
    ended.map_err(|error| Fail::error(format_args!("{source} {target}: {error}")))
}

pub fn exports(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let [] = *args.operands else {
        return Err(Fail::usage(format_args!("no argument is expected")));
    };
    for export in shell.host.exports() {
        let rights = match export.rights {
            Rights::ReadOnly => "ro",
            _ => "rw",
        };
        let what = format!("{}\t{}\t{rights}", export.source, export.target);
        if export.clients.is_empty() {
            shell.say(format_args!("{what}\tno device\n"));
        }
        for client in &export.clients {
            let Client { domain, error, .. } = client;
            let state = match client.is_connected {
                true => "connected",
                false => "not connected",
            };
            shell.say(format_args!("{what}\tdomain {domain} {state}"));
            if let Some(error) = error {
                shell.say(format_args!(", last error: {error}"));
            }
            shell.print(b"\n");
        }
    }
    Ok(())
}
