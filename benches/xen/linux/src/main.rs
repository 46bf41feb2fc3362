//! The Linux side of the benchmark, one static program:
//!
//! | as | it does |
//! |---|---|
//! | first process of a guest | the workload over `std::fs` on v9fs, once for each set of mount options |
//! | `prepare DIRECTORY SCALE` in dom0 | makes the files that guests read |
//! | `doom DIRECTORY SCALE` in dom0 | makes those that a guest will remove |
//! | `verify FILES OUT SCALE` in dom0 | checks what a guest wrote |
//! | `verify-pair OUT`, `verify-sweep OUT` in dom0 | the same for one of many domains, and for one whose settings are varied |
//! | `meter CONTROL DOMID...` in dom0 | lets domains run and answers their marks |

extern crate alloc;

#[path = "../../content.rs"]
mod content;
mod dom0;
mod guest;
#[path = "../../marks.rs"]
mod marks;
mod meter;
mod sys;
#[path = "../../workload.rs"]
mod workload;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use marks::Result;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        guest::main();
    }
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match command(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn command(words: &[&str]) -> Result<()> {
    let scale = |text: &str, mode: &str| match text.parse() {
        Ok(scale) => Ok(content::Amounts::new(scale, mode)),
        Err(_) => Err(format!("{text}: not a number")),
    };
    match *words {
        ["prepare", directory, amounts] => dom0::prepare(Path::new(directory), scale(amounts, "")?),
        ["doom", directory, amounts] => dom0::doom(Path::new(directory), scale(amounts, "")?),
        ["verify", files, out, amounts] => {
            // What a guest writes is in a directory named after its mode.
            let mode = out.rsplit('/').next().unwrap_or_default();
            dom0::verify(Path::new(files), Path::new(out), scale(amounts, mode)?)
        }
        ["verify-sweep", out] => dom0::verify_sweep(Path::new(out)),
        ["verify-pair", out] => dom0::verify_pair(Path::new(out)),
        ["meter", control, ref domains @ ..] => meter::run(Path::new(control), domains),
        _ => Err(format!("what is {words:?}?")),
    }
}
