//! Makes the object that `ld -r` left fit for any kernel's link, and checks that it is: `xen9p-prelink IN OUT SYMBOL...`.
//!
//! Rust's prebuilt libraries call and load by a table of addresses, the GOT, that the last link is to make. Kernels that are
//! linked without one, or as ELF64 turned into ELF32, call into the void then, without a word of the linker. So each such
//! access is made a direct one here, as linkers do where they may, and what is left is checked: four sections, no
//! relocation but plain ones, no global symbol but `xen9p_*`, nothing undefined but the symbols named.

mod elf;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::{env, fs};

use elf::Object;

/// What an error says.
type Result<T> = std::result::Result<T, String>;

/// The sections that every kernel's linker script knows.
const SECTIONS: [&str; 4] = [".text", ".rodata", ".data", ".bss"];

/// Plain relocations: a whole address, and a distance.
const R_X86_64_64: u32 = 1;
const R_X86_64_PC32: u32 = 2;
/// A distance, by way of a table if the linker likes.
const R_X86_64_PLT32: u32 = 4;
/// The distance to an entry of the GOT: as it is, and with the promise that the instruction may be changed.
const R_X86_64_GOTPCREL: [u32; 3] = [9, 41, 42];

/// Makes an access by the GOT a direct one: `place` is where the distance stands in the code.
fn make_direct(code: &mut [u8], place: usize) -> Result<()> {
    let before = place
        .checked_sub(3)
        .and_then(|start| code.get_mut(start..place));
    match before {
        // call *x@GOTPCREL(%rip) becomes addr32 call x.
        Some([_, first @ 0xff, second @ 0x15]) => (*first, *second) = (0x67, 0xe8),
        // jmp *x@GOTPCREL(%rip) becomes addr32 jmp x.
        Some([_, first @ 0xff, second @ 0x25]) => (*first, *second) = (0x67, 0xe9),
        // mov x@GOTPCREL(%rip), %reg becomes lea x(%rip), %reg.
        Some([0x48 | 0x4c, opcode @ 0x8b, modrm]) if *modrm & 0xc7 == 0x05 => *opcode = 0x8d,
        other => {
            return Err(format!(
                "an access by the GOT at .text+{place:#x} that can't be made direct: {other:x?}"
            ));
        }
    }
    Ok(())
}

/// Makes all accesses direct; returns how many went by the GOT.
fn prelink(object: &mut Object) -> Result<usize> {
    let mut changed = 0;
    for (section, mut relocation) in object.relocations()? {
        let kind = relocation.kind;
        if kind == R_X86_64_PLT32 {
            relocation.kind = R_X86_64_PC32;
        } else if R_X86_64_GOTPCREL.contains(&kind) {
            make_direct(object.section_mut(&section)?, relocation.offset as usize)?;
            relocation.kind = R_X86_64_PC32;
            changed += 1;
        }
        if relocation.kind != kind {
            object.set_kind(&relocation)?;
        }
    }
    Ok(changed)
}

/// What is wrong with the object.
fn faults(object: &Object, allowed: &BTreeSet<String>) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for name in object.loaded_sections()? {
        if !SECTIONS.contains(&name.as_str()) {
            faults.push(format!("has a section {name}"));
        }
    }
    for (section, relocation) in object.relocations()? {
        if ![R_X86_64_64, R_X86_64_PC32].contains(&relocation.kind) {
            let (offset, kind) = (relocation.offset, relocation.kind);
            faults.push(format!(
                "has a relocation of kind {kind} at {section}+{offset:#x}"
            ));
        }
    }
    let mut undefined = BTreeSet::new();
    for symbol in object
        .symbols()?
        .into_iter()
        .filter(|symbol| symbol.is_global)
    {
        if !symbol.is_defined {
            undefined.insert(symbol.name);
        } else if !symbol.name.starts_with("xen9p_") {
            faults.push(format!("defines {} for others", symbol.name));
        }
    }
    for name in undefined.difference(allowed) {
        faults.push(format!("asks for {name}, which the header does not list"));
    }
    for name in allowed.difference(&undefined) {
        faults.push(format!("does not ask for {name}, which the header lists"));
    }
    Ok(faults)
}

fn run() -> Result<()> {
    let mut args = env::args().skip(1);
    let (Some(from), Some(to)) = (args.next(), args.next()) else {
        return Err("usage: xen9p-prelink IN OUT SYMBOL...".into());
    };
    let allowed = args.collect();
    let bytes = fs::read(&from).map_err(|error| format!("{from}: {error}"))?;
    let mut object = Object::new(bytes)?;
    let changed = prelink(&mut object)?;
    let faults = faults(&object, &allowed)?;
    if !faults.is_empty() {
        return Err(format!("{from} {}", faults.join("\nxen9p-prelink: it ")));
    }
    fs::write(&to, object.into_bytes()).map_err(|error| format!("{to}: {error}"))?;
    println!("{to}: {changed} accesses by a GOT made direct ones");
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xen9p-prelink: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn becomes(before: &[u8], after: &[u8]) {
        let mut code = before.to_vec();
        make_direct(&mut code, before.len() - 4).unwrap();
        assert_eq!(code, after);
    }

    #[test]
    fn accesses_become_direct() {
        // As GNU as encodes them: call *f@GOTPCREL(%rip), jmp, mov to rax and to r15.
        becomes(
            &[0x90, 0xff, 0x15, 0, 0, 0, 0],
            &[0x90, 0x67, 0xe8, 0, 0, 0, 0],
        );
        becomes(
            &[0x90, 0xff, 0x25, 0, 0, 0, 0],
            &[0x90, 0x67, 0xe9, 0, 0, 0, 0],
        );
        becomes(
            &[0x48, 0x8b, 0x05, 0, 0, 0, 0],
            &[0x48, 0x8d, 0x05, 0, 0, 0, 0],
        );
        becomes(
            &[0x4c, 0x8b, 0x3d, 0, 0, 0, 0],
            &[0x4c, 0x8d, 0x3d, 0, 0, 0, 0],
        );
    }

    #[test]
    fn others_are_refused() {
        for bytes in [
            // cmp x@GOTPCREL(%rip), %rax; push; mov to a 32-bit register; mov from another place.
            &[0x48, 0x3b, 0x05, 0, 0, 0, 0][..],
            &[0x90, 0xff, 0x35, 0, 0, 0, 0],
            &[0x90, 0x8b, 0x05, 0, 0, 0, 0],
            &[0x48, 0x8b, 0x45, 0, 0, 0, 0],
        ] {
            let mut code = bytes.to_vec();
            make_direct(&mut code, 3).unwrap_err();
            assert_eq!(code, bytes);
        }
        make_direct(&mut [0xff, 0x15], 2).unwrap_err();
        make_direct(&mut [0xff, 0x15], 9).unwrap_err();
    }
}
