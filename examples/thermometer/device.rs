//! A thermometer as files: `celsius` is measured when it is read, `ctl` takes the line `offset DEGREES`.

use alloc::rc::Rc;
use core::cell::Cell;

use xen9p::ns::{MemTree, Synthetic};
use xen9p::{errno::Errno, fs::Result};

pub fn thermometer(measure: impl Fn() -> i32 + 'static) -> Result<MemTree> {
    let offset = Rc::new(Cell::new(0));
    let added = offset.clone();
    let celsius = Synthetic::new().read_text(move || measure().saturating_add(added.get()));
    let take = move |line: &str| {
        let degrees = line.strip_prefix("offset ").ok_or(Errno::EINVAL)?;
        offset.set(degrees.parse().map_err(|_| Errno::EINVAL)?);
        Ok(())
    };
    let tree = MemTree::new();
    tree.put_synthetic("/celsius", celsius)?;
    tree.put_synthetic("/ctl", Synthetic::new().write_text(take))?;
    Ok(tree)
}
