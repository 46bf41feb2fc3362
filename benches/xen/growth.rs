//! Some work, and ten times as much: time should grow no faster, and memory not at all.

use alloc::format;
use alloc::vec;

use crate::content::{MADE, SMALL, fill};
use crate::marks::{Marks, Result, check};
use crate::workload::{CALL, Host, write_file};

/// Some work, or ten times as much, to see that time grows no faster.
pub fn growth<H: Host>(
    host: &H,
    marks: &mut Marks,
    mode: &str,
    files: &str,
    out: &str,
    times: u64,
) -> Result<()> {
    const MIB: u64 = 4;
    const FILES: u64 = 40;

    host.create_dir(out)?;
    let mut buffer = vec![0; CALL];
    let mut file = host.open(&format!("{files}/big"))?;
    marks.row(host, mode, &format!("read-{times}"), 1, || {
        for number in 0..MIB * times {
            let offset = number * CALL as u64;
            let mut got = 0;
            while got < CALL {
                match host.read(&mut file, &mut buffer[got..])? {
                    0 => return Err("a file that ends early".into()),
                    count => got += count,
                }
            }
            check(MADE.looks_right(&buffer, offset), "a part of a file")?;
        }
        Ok(())
    })?;
    fill(&mut buffer);
    marks.row(host, mode, &format!("write-{times}"), 1, || {
        write_file(
            host,
            &format!("{out}/written"),
            &mut buffer,
            (times * MIB) << 20,
        )
    })?;
    host.create_dir(&format!("{out}/new"))?;
    marks.row(host, mode, &format!("create-{times}"), 1, || {
        for number in 0..FILES * times {
            let mut file = host.create(&format!("{out}/new/f{number}"))?;
            host.write(&mut file, &buffer[..SMALL])?;
        }
        Ok(())
    })?;
    marks.row(host, mode, &format!("list-{times}"), 1, || {
        let mut bytes = 0;
        host.list(&format!("{out}/new"), &mut |_, size| bytes += size)?;
        check(bytes == FILES * times * SMALL as u64, "a listing")
    })?;
    marks.row(host, mode, &format!("unlink-{times}"), 1, || {
        (0..FILES * times).try_for_each(|number| host.remove(&format!("{out}/new/f{number}")))
    })
}
