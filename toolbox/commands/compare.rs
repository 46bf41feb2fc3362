//! `cmp`.

use super::files::Input;
use super::{Args, Fail, Shell};

/// The status of a cmp that met an error.
const TROUBLE: u8 = 2;

pub fn cmp(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let [first, second] = *args.operands else {
        return Err(Fail::usage(format_args!("two paths are expected")));
    };
    match compare(shell, args.has('s'), first, second) {
        Err(Fail::Error(text)) => {
            shell.complain(&text);
            Err(Fail::Reported(TROUBLE))
        }
        other => other,
    }
}

fn compare(shell: &mut Shell<'_>, silent: bool, first: &str, second: &str) -> Result<(), Fail> {
    let (a, b) = (shell.place(first)?, shell.place(second)?);
    let (mut left, mut right) = (Input::open(&a)?, Input::open(&b)?);
    let (mut offset, mut line) = (0_u64, 1_u64);
    let (mut from, mut till) = ((0, 0), (0, 0));
    let mut last = 0;
    loop {
        if from.0 == till.0 {
            (from.0, till.0) = (0, left.fill(shell, &a)?);
        }
        if from.1 == till.1 {
            (from.1, till.1) = (0, right.fill(shell, &b)?);
        }
        let (here, there) = (
            &left.bytes(till.0)[from.0..],
            &right.bytes(till.1)[from.1..],
        );
        let len = here.len().min(there.len());
        let differs = here.iter().zip(there).position(|(a, b)| a != b);
        let same = differs.unwrap_or(len);
        line += here[..same].iter().filter(|byte| **byte == b'\n').count() as u64;
        last = here[..same].last().copied().unwrap_or(last);
        offset += same as u64;
        if differs.is_some() {
            if !silent {
                shell.say(format_args!(
                    "{a} {b} differ: byte {}, line {line}\n",
                    offset + 1
                ));
            }
            return Err(Fail::Reported(1));
        }
        if len == 0 {
            let short = match (here.len(), there.len()) {
                (0, 0) => return Ok(()),
                (0, _) => &a,
                _ => &b,
            };
            match (silent, offset, last) {
                (true, ..) => {}
                (_, 0, _) => shell.complain(&format_args!("EOF on {short} which is empty")),
                (_, _, b'\n') => {
                    shell.complain(&format_args!(
                        "EOF on {short} after byte {offset}, line {}",
                        line - 1
                    ));
                }
                _ => shell.complain(&format_args!(
                    "EOF on {short} after byte {offset}, in line {line}"
                )),
            }
            return Err(Fail::Reported(1));
        }
        from = (from.0 + same, from.1 + same);
    }
}
