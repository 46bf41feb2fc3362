//! Reads settings from a file of lines `key = value` and obeys them: `/app.conf` on the share, or the file named on the
//! command line.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use xen9p::fs::Fs;
use xen9p::{println, rt};

xen9p::entry!(main);

fn main(fs: &Fs) -> Result<(), String> {
    let words = rt::args().map_err(|error| format!("{error}"))?;
    let path = words.first().map_or("/app.conf", String::as_str);
    let text = fs
        .read_to_string(path)
        .map_err(|error| format!("{path}: {error}"))?;
    let settings = parse(&text).map_err(|line| format!("{path}:{line}: expected key = value"))?;

    let greeting = settings.get("greeting").map_or("Hello", |text| text);
    let times = settings
        .get("times")
        .map_or(Ok(1), |text| text.parse::<u32>());
    let times = times.map_err(|_| format!("{path}: times is no number"))?;
    for _ in 0..times.min(100) {
        println!("{greeting}");
    }
    Ok(())
}

/// The settings, or the number of the line that is none. `#` begins a comment.
fn parse(text: &str) -> Result<BTreeMap<&str, &str>, usize> {
    let mut settings = BTreeMap::new();
    for (number, line) in (1_usize..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let (key, value) = line.split_once('=').ok_or(number)?;
        settings.insert(key.trim(), value.trim());
    }
    Ok(settings)
}
