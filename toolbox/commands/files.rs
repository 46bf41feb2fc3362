//! Commands on the content of files, and those without any file.

use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use sha2::{Digest, Sha256};
use xen9p::errno::Errno;
use xen9p::fs::{OpenOptions, Permissions, SeekFrom};
use xen9p::ns::File;

use super::args::units;
use super::change::changed;
use super::place::{Place, concat};
use super::{Args, Fail, Shell};

/// The most that is read or written at once: enough to keep all rings busy.
const CHUNK: usize = 1 << 20;

/// The least that is tried when memory is short.
const LEAST_CHUNK: usize = 16 << 10;

/// A buffer of up to [`CHUNK`] bytes, as large as memory allows and no larger than `need`.
pub fn buffer(need: u64) -> Result<Vec<u8>, Fail> {
    let need = usize::try_from(need).unwrap_or(CHUNK);
    let mut size = need.clamp(LEAST_CHUNK, CHUNK);
    loop {
        let mut buffer = Vec::new();
        if buffer.try_reserve_exact(size).is_ok() {
            buffer.resize(size, 0);
            return Ok(buffer);
        }
        if size <= LEAST_CHUNK {
            return Err(Fail::out_of_memory());
        }
        size /= 2;
    }
}

/// A file that is read from its start to its end in large pieces.
pub struct Input {
    file: File,
    buffer: Vec<u8>,
}

impl Input {
    pub fn open(place: &Place) -> Result<Input, Fail> {
        let file = place.open()?;
        let found = file.metadata().map_err(|error| place.fail(error))?;
        if found.is_dir() {
            return Err(place.fail(Errno::EISDIR.into()));
        }
        // One byte more than the file is thought to have, so that its end shows in the first read.
        let buffer = buffer(found.len().saturating_add(1))?;
        Ok(Input { file, buffer })
    }

    /// Reads the next piece; how many bytes it has, 0 at the end.
    pub fn fill(&mut self, shell: &mut Shell<'_>, place: &Place) -> Result<usize, Fail> {
        let count = self.file.read(&mut self.buffer);
        let count = count.map_err(|error| place.fail(error))?;
        if count > 0 {
            shell.host.bytes_arrived();
        }
        Ok(count)
    }

    /// Goes on at an offset.
    pub fn skip_to(&mut self, offset: u64, place: &Place) -> Result<(), Fail> {
        let moved = self.file.seek(SeekFrom::Start(offset));
        moved.map(drop).map_err(|error| place.fail(error))
    }

    /// The first `count` bytes of the piece that was read.
    pub fn bytes(&self, count: usize) -> &[u8] {
        &self.buffer[..count]
    }
}

/// Reads a file from its start to its end.
pub fn read_through(
    shell: &mut Shell<'_>,
    place: &Place,
    mut piece: impl FnMut(&mut Shell<'_>, &[u8]) -> Result<(), Fail>,
) -> Result<(), Fail> {
    let mut input = Input::open(place)?;
    loop {
        match input.fill(shell, place)? {
            0 => return Ok(()),
            count => piece(shell, input.bytes(count))?,
        }
        shell.check_output()?;
    }
}

pub fn mkdir(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let mode = args.value('m').map(|text| {
        let mode = changed(text, 0o777, true);
        mode.ok_or_else(|| Fail::usage(format_args!("invalid mode '{text}'")))
    });
    let mode = mode.transpose()?;
    let verbose = args.has('v');
    shell.each(&args.operands, |shell, place| {
        let new = match args.has('p') && verbose {
            true => missing(place)?,
            false => vec![place.again()?],
        };
        let made = match args.has('p') {
            // One that is there is neither made nor changed.
            true if place.there()?.is_some_and(|there| there.is_dir()) => return Ok(()),
            true => place.ns.create_dir_all(&place.path),
            false => place.ns.create_dir(&place.path),
        };
        let set = made.and_then(|()| match mode {
            Some(mode) => place
                .ns
                .set_permissions(&place.path, Permissions::from_mode(mode)),
            None => Ok(()),
        });
        set.map_err(|error| {
            Fail::from_fs(format_args!("cannot create directory '{place}'"), error)
        })?;
        if verbose {
            for made in new {
                shell.say(format_args!("mkdir: created directory '{made}'\n"));
            }
        }
        Ok(())
    })
}

/// Those of the directories that lead to a place, and of the place itself, that are not there.
fn missing(place: &Place) -> Result<Vec<Place>, Fail> {
    let mut missing = Vec::new();
    let path = place.path.as_slice();
    let start = path.len() - place.typed().len();
    for end in start + 1..=path.len() {
        let is_end = path.get(end).is_none_or(|byte| *byte == b'/') && path[end - 1] != b'/';
        if !is_end {
            continue;
        }
        let above = place.at(concat(&[&path[..end]])?);
        if above.there()?.is_none() {
            missing.push(above);
        }
    }
    Ok(missing)
}

pub fn cat(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    shell.each(&args.operands, |shell, place| {
        read_through(shell, place, |shell, bytes| {
            shell.print(bytes);
            Ok(())
        })
    })
}

pub fn sha256(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    shell.each(&args.operands, |shell, place| {
        let mut hasher = Sha256::new();
        read_through(shell, place, |_, bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
        for byte in hasher.finalize() {
            shell.say(format_args!("{byte:02x}"));
        }
        shell.say(format_args!("  {place}\n"));
        Ok(())
    })
}

pub fn write(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    put(
        shell,
        args,
        OpenOptions::new().write(true).create(true).truncate(true),
    )
}

pub fn append(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    put(shell, args, OpenOptions::new().append(true).create(true))
}

fn put(shell: &mut Shell<'_>, args: &Args<'_>, how: &OpenOptions) -> Result<(), Fail> {
    let (end, arguments) = line_end(args);
    let [path, text @ ..] = arguments else {
        return Err(Fail::usage(format_args!("a path is missing")));
    };
    let place = shell.place(path)?;
    let text = text.join(" ") + end;
    let file = place
        .ns
        .open_with(&place.path, how)
        .map_err(|error| place.fail(error))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.close())
        .map_err(|error| place.fail(error))
}

pub fn echo(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let (end, text) = line_end(args);
    shell.say(format_args!("{}{end}", text.join(" ")));
    Ok(())
}

/// What ends the line: nothing behind a leading `-n`.
fn line_end<'a>(args: &'a Args<'a>) -> (&'static str, &'a [&'a str]) {
    match &*args.operands {
        ["-n", rest @ ..] => ("", rest),
        all => ("\n", all),
    }
}

pub fn truncate(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let size = args.value('s');
    let size = size.ok_or_else(|| Fail::usage(format_args!("a size is missing")))?;
    let bytes = units(size);
    let bytes = bytes.ok_or_else(|| Fail::usage(format_args!("'{size}' is no number of bytes")))?;
    shell.each(&args.operands, |_, place| {
        let mut options = OpenOptions::new();
        options.write(true).create(!args.has('c'));
        match place.ns.open_with(&place.path, &options) {
            Err(error) if error.is_not_found() && args.has('c') => Ok(()),
            opened => opened
                .and_then(|file| file.set_len(bytes))
                .map_err(|error| place.fail(error)),
        }
    })
}

pub fn sleep(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let [time] = *args.operands else {
        return Err(Fail::usage(format_args!(
            "one number of seconds is expected"
        )));
    };
    let time = if time == "infinity" {
        Duration::MAX
    } else {
        seconds(time)
            .ok_or_else(|| Fail::usage(format_args!("'{time}' is no number of seconds")))?
    };
    if shell.host.sleep(time) {
        Ok(())
    } else {
        Err(Fail::Interrupted)
    }
}

/// A number of seconds with up to nine decimals.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(decimals) || decimals.len() > 9 {
        return None;
    }
    let nanos = decimals.parse::<u32>().ok()? * 10_u32.pow(9 - decimals.len() as u32);
    Some(Duration::new(whole.parse().ok()?, nanos))
}
