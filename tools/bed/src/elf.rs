//! What an image can be booted as: its ELF notes (Xen public/elfnote.h) are looked at before a machine is booted for it.

use std::fs;
use std::path::Path;

use crate::domain::Kind;
use crate::fail;
use crate::host::{Context, Result};

/// XEN_ELFNOTE_PHYS32_ENTRY, where a PVH guest begins.
const PHYS32_ENTRY: u32 = 18;

/// XEN_ELFNOTE_GUEST_OS and XEN_ELFNOTE_LOADER, one of which a PV guest's image needs.
const GUEST_OS: u32 = 6;
const LOADER: u32 = 8;

/// Program header types.
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
/// Section header type.
const SHT_NOTE: u32 = 7;

/// What kinds of domain an image boots as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Boots {
    pv: bool,
    pvh: bool,
}

/// The kind of domain for an image: the one that is asked for, or else the one it can be, PVH first. Fails if it can't.
pub fn kind(path: &Path, asked: Option<Kind>) -> Result<Kind> {
    let bytes = fs::read(path).during("read the kernel", path)?;
    let boots = boots(&bytes).map_err(|reason| fail!("{}: {reason}", path.display()))?;
    match (asked, boots) {
        (None, Boots { pvh: true, .. }) => Ok(Kind::Pvh),
        (None, Boots { pv: true, .. }) => Ok(Kind::Pv),
        (Some(Kind::Pvh), Boots { pvh: false, .. }) => Err(fail!(
            "{}: no PVH guest can begin there, as it has no ELF note XEN_ELFNOTE_PHYS32_ENTRY (type 18); it boots as PV",
            path.display()
        )),
        (None | Some(Kind::Pv), Boots { pv: false, .. }) => Err(fail!(
            "{}: it is no PV image, as it has no ELF note XEN_ELFNOTE_LOADER (type 8) that says \"generic\"{}",
            path.display(),
            if boots.pvh { "; it boots as PVH" } else { "" }
        )),
        (Some(kind), _) => Ok(kind),
    }
}

/// Fails unless a program is linked statically: dom0 has its own libraries.
pub fn check_static(path: &Path) -> Result<()> {
    let bytes = fs::read(path).during("read", path)?;
    let elf = Elf::new(&bytes).map_err(|reason| fail!("{}: {reason}", path.display()))?;
    match elf.segments().any(|segment| segment.kind == PT_INTERP) {
        true => Err(fail!(
            "{}: it needs shared libraries, which dom0 has not; build it with RUSTFLAGS='-C target-feature=+crt-static'",
            path.display()
        )),
        false => Ok(()),
    }
}

/// The error is the reason why it can't be booted.
fn boots(bytes: &[u8]) -> std::result::Result<Boots, String> {
    const ALL: Boots = Boots {
        pv: true,
        pvh: true,
    };
    // What xl unpacks is not looked into: gzip, and Linux's bzImage.
    if bytes.starts_with(&[0x1f, 0x8b]) || bytes.get(0x202..0x206) == Some(b"HdrS") {
        return Ok(ALL);
    }
    let elf = Elf::new(bytes)?;
    let notes = elf.notes();
    // Older images have a section of text instead.
    if notes.is_empty() && !elf.has_xen_guest_section() {
        return Err(
            "it has no Xen ELF note; a PVH guest needs XEN_ELFNOTE_PHYS32_ENTRY (type 18), in a PT_NOTE segment".to_owned(),
        );
    }
    // A PV guest begins as Linux does, or as Xen's generic loader has it.
    let says = |kind, text: &[u8]| {
        notes
            .iter()
            .any(|note| note.kind == kind && note.content.starts_with(text))
    };
    Ok(Boots {
        pv: says(LOADER, b"generic") || says(GUEST_OS, b"linux") || notes.is_empty(),
        pvh: notes.iter().any(|note| note.kind == PHYS32_ENTRY),
    })
}

/// An ELF file, of which no word is trusted.
struct Elf<'a> {
    bytes: &'a [u8],
    is_64_bit: bool,
}

struct Segment<'a> {
    kind: u32,
    content: &'a [u8],
}

impl<'a> Elf<'a> {
    fn new(bytes: &'a [u8]) -> std::result::Result<Elf<'a>, String> {
        match bytes {
            [0x7f, b'E', b'L', b'F', class @ (1 | 2), 1, ..] => Ok(Elf {
                bytes,
                is_64_bit: *class == 2,
            }),
            [0x7f, b'E', b'L', b'F', ..] => Err("it is an ELF file of another byte order".into()),
            [] => Err("the file is empty".into()),
            _ => Err("it is no ELF file, which is what Xen boots (nor a Linux bzImage)".into()),
        }
    }

    /// A number of so many bytes.
    fn number(&self, at: u64, len: usize) -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let bytes = self.bytes.get(at..at.checked_add(len)?)?;
        let fold = |value, &byte: &u8| value << 8 | u64::from(byte);
        Some(bytes.iter().rev().fold(0, fold))
    }

    /// A number at one of two places, as large as an address.
    fn address(&self, table: u64, at: [u64; 2]) -> Option<u64> {
        let [at_32, at_64] = at;
        match self.is_64_bit {
            true => self.number(table.checked_add(at_64)?, 8),
            false => self.number(table.checked_add(at_32)?, 4),
        }
    }

    fn content(&self, start: u64, len: u64) -> &'a [u8] {
        let range = usize::try_from(start).ok().zip(
            start
                .checked_add(len)
                .and_then(|end| usize::try_from(end).ok()),
        );
        range
            .and_then(|(start, end)| self.bytes.get(start..end))
            .unwrap_or(&[])
    }

    /// Entries of a table: where its offset, the size of an entry and their number are in the file's header.
    fn table(
        &self,
        offset: [u64; 2],
        size: [u64; 2],
        count: [u64; 2],
    ) -> impl Iterator<Item = u64> {
        let pick = |at: [u64; 2]| at[usize::from(self.is_64_bit)];
        let start = self.address(0, offset).unwrap_or(0);
        let size = self.number(pick(size), 2).unwrap_or(0);
        let count = self.number(pick(count), 2).unwrap_or(0);
        (0..count).filter_map(move |index| start.checked_add(index * size))
    }

    fn segments(&self) -> impl Iterator<Item = Segment<'a>> {
        self.table([28, 32], [42, 54], [44, 56]).filter_map(|at| {
            let start = self.address(at, [4, 8])?;
            let len = self.address(at, [16, 32])?;
            Some(Segment {
                kind: u32::try_from(self.number(at, 4)?).ok()?,
                content: self.content(start, len),
            })
        })
    }

    fn sections(&self) -> impl Iterator<Item = Segment<'a>> {
        self.table([32, 40], [46, 58], [48, 60]).filter_map(|at| {
            let start = self.address(at, [16, 24])?;
            let len = self.address(at, [20, 32])?;
            Some(Segment {
                kind: u32::try_from(self.number(at.checked_add(4)?, 4)?).ok()?,
                content: self.content(start, len),
            })
        })
    }

    /// Xen's notes: of segments, or if there are none, of sections, as Xen itself looks for them.
    fn notes(&self) -> Vec<Note<'a>> {
        let of = |parts: Vec<Segment<'a>>, kind| -> Vec<Note<'a>> {
            let notes = parts.iter().filter(|part| part.kind == kind);
            notes.flat_map(|part| xen_notes(part.content)).collect()
        };
        let notes = of(self.segments().collect(), PT_NOTE);
        match notes.is_empty() {
            true => of(self.sections().collect(), SHT_NOTE),
            false => notes,
        }
    }

    fn has_xen_guest_section(&self) -> bool {
        let mut sections = self.sections();
        sections.any(|section| section.content.starts_with(b"GUEST_OS="))
    }
}

struct Note<'a> {
    kind: u32,
    content: &'a [u8],
}

/// The notes whose name is Xen's.
fn xen_notes(mut bytes: &[u8]) -> Vec<Note<'_>> {
    let mut found = Vec::new();
    let word = |bytes: &[u8], at: usize| {
        let word = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
    };
    while let (Some(name), Some(len), Some(kind)) = (word(bytes, 0), word(bytes, 4), word(bytes, 8))
    {
        let padded = |len: u32| (len as usize).next_multiple_of(4);
        if bytes.get(12..16) == Some(b"Xen\0") && name == 4 {
            let content = bytes.get(16..).unwrap_or(&[]);
            let content = content.get(..len as usize).unwrap_or(content);
            found.push(Note { kind, content });
        }
        bytes = bytes.get(12 + padded(name) + padded(len)..).unwrap_or(&[]);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file with one segment of this kind and content.
    fn elf(is_64_bit: bool, kind: u32, content: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 256];
        let mut put = |at: usize, value: u64, len: usize| {
            file[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
        };
        let class = if is_64_bit { 2 } else { 1 };
        put(
            0,
            u64::from_le_bytes([0x7f, b'E', b'L', b'F', class, 1, 1, 0]),
            8,
        );
        let (address, entry) = if is_64_bit { (8, 56) } else { (4, 32) };
        put(if is_64_bit { 32 } else { 28 }, 64, address);
        put(if is_64_bit { 54 } else { 42 }, entry, 2);
        put(if is_64_bit { 56 } else { 44 }, 1, 2);
        put(64, u64::from(kind), 4);
        put(64 + if is_64_bit { 8 } else { 4 }, 256, address);
        put(
            64 + if is_64_bit { 32 } else { 16 },
            content.len() as u64,
            address,
        );
        file.extend_from_slice(content);
        file
    }

    fn note(kind: u8, text: &[u8; 8]) -> Vec<u8> {
        [&[4, 0, 0, 0, 7, 0, 0, 0, kind, 0, 0, 0][..], b"Xen\0", text].concat()
    }

    fn pv() -> Vec<u8> {
        note(8, b"generic\0")
    }

    fn pvh() -> Vec<u8> {
        note(18, &[0; 8])
    }

    #[test]
    fn notes_tell_what_an_image_boots_as() {
        for is_64_bit in [false, true] {
            let image = elf(is_64_bit, PT_NOTE, &pvh());
            assert_eq!(
                boots(&image),
                Ok(Boots {
                    pv: false,
                    pvh: true
                })
            );
            let image = elf(is_64_bit, PT_NOTE, &[pv(), pvh()].concat());
            assert_eq!(
                boots(&image),
                Ok(Boots {
                    pv: true,
                    pvh: true
                })
            );
            let image = elf(is_64_bit, PT_NOTE, &pv());
            assert_eq!(
                boots(&image),
                Ok(Boots {
                    pv: true,
                    pvh: false
                })
            );
        }
    }

    #[test]
    fn what_xen_cannot_boot_is_named() {
        let reason = |bytes: &[u8]| boots(bytes).unwrap_err();
        assert!(reason(b"#!/bin/sh\n").contains("no ELF file"));
        assert!(reason(b"").contains("empty"));
        assert!(reason(&elf(true, 1, &pvh())).contains("no Xen ELF note"));
        let other = boots(&elf(true, PT_NOTE, &note(8, b"special\0")));
        assert_eq!(
            other,
            Ok(Boots {
                pv: false,
                pvh: false
            })
        );
        let other = [&[4, 0, 0, 0, 0, 0, 0, 0, 18, 0, 0, 0][..], b"GNU\0"].concat();
        assert!(reason(&elf(true, PT_NOTE, &other)).contains("no Xen ELF note"));
    }

    #[test]
    fn no_word_of_a_file_is_trusted() {
        let whole = elf(true, PT_NOTE, &[pv(), pvh()].concat());
        for len in 0..whole.len() {
            let _ = boots(&whole[..len]);
        }
        for at in 4..whole.len() {
            let mut bent = whole.clone();
            bent[at] = 0xff;
            let _ = boots(&bent);
            bent[at..].fill(0xff);
            let _ = boots(&bent);
        }
    }

    #[test]
    fn what_an_image_cannot_be_is_refused() {
        let path = std::env::temp_dir().join(format!("xen-bed-elf-{}", std::process::id()));
        fs::write(&path, elf(false, PT_NOTE, &pvh())).unwrap();
        assert_eq!(kind(&path, None).unwrap(), Kind::Pvh);
        assert_eq!(kind(&path, Some(Kind::Hvm)).unwrap(), Kind::Hvm);
        assert!(
            kind(&path, Some(Kind::Pv))
                .unwrap_err()
                .0
                .contains("boots as PVH")
        );
        fs::write(&path, elf(true, PT_NOTE, &pv())).unwrap();
        assert_eq!(kind(&path, None).unwrap(), Kind::Pv);
        assert!(
            kind(&path, Some(Kind::Pvh))
                .unwrap_err()
                .0
                .contains("PHYS32_ENTRY")
        );
        assert!(check_static(&path).is_ok());
        fs::write(&path, elf(true, PT_INTERP, b"/lib/ld.so")).unwrap();
        assert!(
            check_static(&path)
                .unwrap_err()
                .0
                .contains("shared libraries")
        );
        fs::remove_file(&path).unwrap();
    }
}
