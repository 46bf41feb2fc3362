//! `bench`: how fast a file is written and read.

use alloc::string::ToString;
use core::time::Duration;

use xen9p::fs::OpenOptions;
use xen9p::ns::File;

use super::args::digits;
use super::files::buffer;
use super::format::{Bytes, Span};
use super::place::Place;
use super::progress::Progress;
use super::{Args, Fail, Shell};

/// The file that is made and removed, unless another is named.
const NAME: &str = "bench.tmp";

/// Its size in MiB, unless told.
const MIB: u64 = 32;

/// Reads at random places.
const READS: u64 = 1000;
const PAGE: usize = 4096;

pub fn bench(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let (path, mib) = match *args.operands {
        [] => (NAME, Some(MIB)),
        [path] => (path, Some(MIB)),
        [path, mib] => (path, digits(mib)),
        _ => {
            return Err(Fail::usage(format_args!(
                "a path and a number are expected"
            )));
        }
    };
    let size = mib
        .filter(|mib| (1..1 << 20).contains(mib))
        .map(|mib| mib << 20);
    let size =
        size.ok_or_else(|| Fail::usage(format_args!("the size is a number of MiB from 1 on")))?;
    let place = shell.place(path)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    let file = place
        .ns
        .open_with(&place.path, &options)
        .map_err(|error| Fail::from_fs(format_args!("cannot create '{place}'"), error))?;
    let done = measure(shell, &place, &file, size);
    drop(file);
    // Ctrl-C holds up what is cleaned up, too, until the shell has taken note of it.
    let removed = place.ns.remove_file(&place.path);
    if matches!(done, Err(Fail::Interrupted)) && removed.is_err() {
        shell.complain(&format_args!("'{place}' stays"));
    }
    done?;
    removed.map_err(|error| Fail::from_fs(format_args!("cannot remove '{place}'"), error))
}

fn measure(shell: &mut Shell<'_>, place: &Place, file: &File, size: u64) -> Result<(), Fail> {
    let mut buffer = buffer(size)?;
    for (byte, n) in buffer.iter_mut().zip(0_u32..) {
        *byte = (n ^ n >> 8) as u8;
    }
    let piece = buffer.len();
    let written = pass(shell, place, size, piece, |offset| {
        file.write_all_at(&buffer, offset)?;
        if offset + piece as u64 >= size {
            file.sync_data()?;
        }
        Ok(())
    })?;
    rate(shell, "write, sync", piece, size, written);
    let read = pass(shell, place, size, piece, |offset| {
        file.read_exact_at(&mut buffer, offset)
    })?;
    rate(shell, "read", piece, size, read);

    let mut page = [0; PAGE];
    let pages = size / PAGE as u64;
    let mut chance = 1_u64;
    let read = pass(shell, place, READS * PAGE as u64, PAGE, |_| {
        // Marsaglia, "Xorshift RNGs", 2003.
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        file.read_exact_at(&mut page, chance % pages * PAGE as u64)
    })?;
    let each = read / READS as u32;
    shell.say(format_args!(
        "{:<12} {:>9} anywhere  {:>9} each\n",
        "read",
        Bytes(PAGE as u64).to_string(),
        Span(each).to_string()
    ));
    Ok(())
}

/// Does something to each piece of a file, and tells how long all took.
fn pass(
    shell: &mut Shell<'_>,
    place: &Place,
    size: u64,
    piece: usize,
    mut work: impl FnMut(u64) -> xen9p::fs::Result<()>,
) -> Result<Duration, Fail> {
    let begun = shell.host.now();
    let mut progress = Progress::of_file(shell, size);
    let mut done = Ok(());
    for offset in (0..size).step_by(piece) {
        done = work(offset).map_err(|error| place.fail(error));
        if done.is_err() {
            break;
        }
        progress.add(shell, piece, place);
    }
    progress.end(shell);
    done.map(|()| shell.host.now() - begun)
}

fn rate(shell: &mut Shell<'_>, what: &str, piece: usize, size: u64, took: Duration) {
    let millis = took.as_millis().max(1) as u64;
    shell.say(format_args!(
        "{what:<12} {:>9} a call    {:>9}/s, {} in {}\n",
        Bytes(piece as u64).to_string(),
        Bytes(size.saturating_mul(1000) / millis).to_string(),
        Bytes(size),
        Span(took)
    ));
}
