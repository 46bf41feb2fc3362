//! Commands on lines of text: head, tail, wc.

use alloc::format;
use core::ops::ControlFlow;

use super::args::units;
use super::files::{Input, buffer, read_through};
use super::place::Place;
use super::{Args, Fail, Shell};

/// How much of a file, and from which end.
#[derive(Clone, Copy)]
struct Amount {
    count: u64,
    /// Bytes, not lines.
    bytes: bool,
    /// From the Nth on, counted from the start.
    from_start: bool,
}

impl Amount {
    /// What the options -n and -c say; ten lines by default.
    fn of(args: &Args<'_>) -> Result<Amount, Fail> {
        let bytes = args.last_of(&['n', 'c']) == Some('c');
        let text = args.value(if bytes { 'c' } else { 'n' }).unwrap_or("10");
        let count = units(text.strip_prefix('+').unwrap_or(text));
        let what = if bytes { "bytes" } else { "lines" };
        Ok(Amount {
            count: count
                .ok_or_else(|| Fail::usage(format_args!("invalid number of {what}: '{text}'")))?,
            bytes,
            from_start: text.starts_with('+'),
        })
    }
}

/// Runs `print` on each file, with its name above if there are several.
fn titled(
    shell: &mut Shell<'_>,
    args: &Args<'_>,
    mut print: impl FnMut(&mut Shell<'_>, &Place) -> Result<(), Fail>,
) -> Result<(), Fail> {
    let titles = match args.last_of(&['q', 'v']) {
        Some(letter) => letter == 'v',
        None => args.operands.len() > 1,
    };
    let mut first = true;
    shell.each(&args.operands, |shell, place| {
        // What can't be opened has no title.
        place.open()?;
        if titles {
            let line = if core::mem::take(&mut first) {
                ""
            } else {
                "\n"
            };
            shell.say(format_args!("{line}==> {place} <==\n"));
        }
        print(shell, place)
    })
}

pub fn head(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let amount = Amount::of(args)?;
    titled(shell, args, |shell, place| {
        let mut left = amount.count;
        pieces(shell, place, left == 0, |shell, piece| {
            let end = front(piece, amount.bytes, &mut left);
            shell.print(&piece[..end]);
            match left {
                0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        })
    })
}

/// The length of the first `left` lines or bytes of a piece, which are counted down.
fn front(piece: &[u8], bytes: bool, left: &mut u64) -> usize {
    if bytes {
        let len = usize::try_from(*left)
            .unwrap_or(usize::MAX)
            .min(piece.len());
        *left -= len as u64;
        return len;
    }
    for (at, _) in piece.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        *left = left.saturating_sub(1);
        if *left == 0 {
            return at + 1;
        }
    }
    piece.len()
}

/// Reads a file in pieces until one is the last.
fn pieces(
    shell: &mut Shell<'_>,
    place: &Place,
    mut done: bool,
    mut see: impl FnMut(&mut Shell<'_>, &[u8]) -> ControlFlow<()>,
) -> Result<(), Fail> {
    let mut input = Input::open(place)?;
    while !done {
        let count = input.fill(shell, place)?;
        done = count == 0 || see(shell, input.bytes(count)).is_break();
        shell.check_output()?;
    }
    Ok(())
}

pub fn tail(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let amount = Amount::of(args)?;
    titled(shell, args, |shell, place| {
        if amount.from_start {
            let mut skip = amount.count.saturating_sub(1);
            return pieces(shell, place, false, |shell, piece| {
                let start = if skip == 0 {
                    0
                } else {
                    front(piece, amount.bytes, &mut skip)
                };
                shell.print(&piece[start..]);
                ControlFlow::Continue(())
            });
        }
        let mut input = Input::open(place)?;
        let size = place.metadata()?.len();
        // What tells no size, as a file that is made up does, is printed whole.
        let start = match amount.bytes {
            true => size.saturating_sub(amount.count),
            false => last_lines(place, size, amount.count)?,
        };
        input.skip_to(start, place)?;
        loop {
            match input.fill(shell, place)? {
                0 => return Ok(()),
                count => shell.print(input.bytes(count)),
            }
            shell.check_output()?;
        }
    })
}

/// Where the last `count` lines of a file begin.
fn last_lines(place: &Place, size: u64, count: u64) -> Result<u64, Fail> {
    let file = place.open()?;
    let mut buffer = buffer(size)?;
    let (mut end, mut left) = (size, count);
    while end > 0 && count > 0 {
        let start = end.saturating_sub(buffer.len() as u64);
        let piece = &mut buffer[..(end - start) as usize];
        file.read_exact_at(piece, start)
            .map_err(|error| place.fail(error))?;
        for (at, _) in piece
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, byte)| **byte == b'\n')
        {
            let behind = start + at as u64 + 1;
            // The end of the last line is not the beginning of one.
            if behind == size {
                continue;
            }
            left -= 1;
            if left == 0 {
                return Ok(behind);
            }
        }
        end = start;
    }
    Ok(if count == 0 { size } else { 0 })
}

/// Lines, words, characters and bytes.
type Counts = [u64; 4];

pub fn wc(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    // Characters are bytes, as in the locale C.
    let mut shown = ['l', 'w', 'm', 'c'].map(|letter| args.has(letter));
    if shown == [false; 4] {
        shown = [true, true, false, true];
    }
    let columns = shown.iter().filter(|shown| **shown).count();
    // As wide as the largest number can be.
    let mut size = 0_u64;
    for path in &args.operands {
        let place = shell.place(path)?;
        let len = place
            .ns
            .metadata(&place.path)
            .map_or(0, |found| found.len());
        size = u64::saturating_add(size, len);
    }
    let width = match (columns, args.operands.len()) {
        (1, 1) => 1,
        _ => format!("{size}").len(),
    };
    let line = |shell: &mut Shell<'_>, counts: Counts| {
        let mut first = true;
        for (count, _) in counts.iter().zip(shown).filter(|(_, shown)| *shown) {
            let blank = if core::mem::take(&mut first) { "" } else { " " };
            shell.say(format_args!("{blank}{count:>width$}"));
        }
    };
    let mut total = Counts::default();
    shell.each(&args.operands, |shell, place| {
        let mut counts = Counts::default();
        let mut in_word = false;
        read_through(shell, place, |_, piece| {
            for byte in piece {
                let is_blank = matches!(byte, b' ' | b'\t'..=b'\r');
                counts[0] += u64::from(*byte == b'\n');
                counts[1] += u64::from(in_word && is_blank);
                in_word = !is_blank;
            }
            counts[2] += piece.len() as u64;
            counts[3] = counts[2];
            Ok(())
        })?;
        counts[1] += u64::from(in_word);
        for (total, count) in total.iter_mut().zip(counts) {
            *total += count;
        }
        line(shell, counts);
        shell.say(format_args!(" {place}\n"));
        Ok(())
    })?;
    if args.operands.len() > 1 {
        line(shell, total);
        shell.say(format_args!(" total\n"));
    }
    Ok(())
}
