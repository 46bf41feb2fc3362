//! As much of ELF64's relocatable objects as is needed: sections, symbols, relocations with addends.

use super::Result;

const SHT_SYMTAB: u32 = 2;
const SHT_RELA: u32 = 4;
const SHF_ALLOC: u64 = 2;
const SECTION_HEADER: usize = 64;
const SYMBOL: usize = 24;
const RELOCATION: usize = 24;

/// A relocation and where it stands in the file.
#[derive(Clone, Copy, Debug)]
pub struct Relocation {
    /// The place in its section.
    pub offset: u64,
    /// R_X86_64_...
    pub kind: u32,
    at: usize,
}

/// A symbol.
#[derive(Debug)]
pub struct Symbol {
    /// Its name.
    pub name: String,
    /// Whether other objects see it.
    pub is_global: bool,
    /// Whether it is defined here.
    pub is_defined: bool,
}

struct Section {
    name: String,
    kind: u32,
    flags: u64,
    start: usize,
    size: usize,
    link: usize,
    info: usize,
}

/// A relocatable object for x86-64.
pub struct Object {
    bytes: Vec<u8>,
}

fn short() -> String {
    "the file ends in the middle of something".into()
}

impl Object {
    /// The object in these bytes.
    ///
    /// # Errors
    /// It is none.
    pub fn new(bytes: Vec<u8>) -> Result<Self> {
        // ELFCLASS64, little-endian; ET_REL, EM_X86_64.
        if !bytes.starts_with(b"\x7fELF\x02\x01") || bytes.get(16..20) != Some(&[1, 0, 62, 0]) {
            return Err("no relocatable ELF64 object for x86-64".into());
        }
        Ok(Object { bytes })
    }

    /// The file.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn number<const N: usize>(&self, at: usize) -> Result<u64> {
        let end = at.checked_add(N).ok_or_else(short)?;
        let bytes = self.bytes.get(at..end).ok_or_else(short)?;
        let digits = bytes.iter().rev();
        Ok(digits.fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
    }

    fn text(&self, at: usize) -> Result<String> {
        let bytes = self.bytes.get(at..).ok_or_else(short)?;
        let end = bytes.iter().position(|&byte| byte == 0).ok_or_else(short)?;
        Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    fn sections(&self) -> Result<Vec<Section>> {
        let table = self.number::<8>(40)? as usize;
        let count = self.number::<2>(60)? as usize;
        let names = table + self.number::<2>(62)? as usize * SECTION_HEADER;
        let names = self.number::<8>(names + 24)? as usize;
        let section = |index: usize| {
            let at = table + index * SECTION_HEADER;
            Ok(Section {
                name: self.text(names + self.number::<4>(at)? as usize)?,
                kind: self.number::<4>(at + 4)? as u32,
                flags: self.number::<8>(at + 8)?,
                start: self.number::<8>(at + 24)? as usize,
                size: self.number::<8>(at + 32)? as usize,
                link: self.number::<4>(at + 40)? as usize,
                info: self.number::<4>(at + 44)? as usize,
            })
        };
        (0..count).map(section).collect()
    }

    /// The names of the sections that take memory in a program.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn loaded_sections(&self) -> Result<Vec<String>> {
        let sections = self.sections()?.into_iter();
        let loaded = sections.filter(|section| section.flags & SHF_ALLOC != 0 && section.size > 0);
        Ok(loaded.map(|section| section.name).collect())
    }

    /// The bytes of a section.
    ///
    /// # Errors
    /// There is none of this name, or the file is damaged.
    pub fn section_mut(&mut self, name: &str) -> Result<&mut [u8]> {
        let sections = self.sections()?;
        let section = sections.iter().find(|section| section.name == name);
        let section = section.ok_or_else(|| format!("there is no section {name}"))?;
        let end = section.start.saturating_add(section.size);
        self.bytes.get_mut(section.start..end).ok_or_else(short)
    }

    /// All relocations, with the section that each is for.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn relocations(&self) -> Result<Vec<(String, Relocation)>> {
        let sections = self.sections()?;
        let mut found = Vec::new();
        for table in sections.iter().filter(|section| section.kind == SHT_RELA) {
            let target = sections.get(table.info).ok_or_else(short)?;
            for index in 0..table.size / RELOCATION {
                let at = table.start + index * RELOCATION;
                let relocation = Relocation {
                    offset: self.number::<8>(at)?,
                    kind: self.number::<4>(at + 8)? as u32,
                    at,
                };
                found.push((target.name.clone(), relocation));
            }
        }
        Ok(found)
    }

    /// Writes the kind of a relocation.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn set_kind(&mut self, relocation: &Relocation) -> Result<()> {
        let at = relocation.at + 8;
        let place = self.bytes.get_mut(at..at + 4).ok_or_else(short)?;
        place.copy_from_slice(&relocation.kind.to_le_bytes());
        Ok(())
    }

    /// All symbols with a name.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn symbols(&self) -> Result<Vec<Symbol>> {
        let sections = self.sections()?;
        let mut found = Vec::new();
        for table in sections.iter().filter(|section| section.kind == SHT_SYMTAB) {
            let names = sections.get(table.link).ok_or_else(short)?.start;
            for index in 0..table.size / SYMBOL {
                let at = table.start + index * SYMBOL;
                let name = self.text(names + self.number::<4>(at)? as usize)?;
                if !name.is_empty() {
                    found.push(Symbol {
                        name,
                        is_global: self.number::<1>(at + 4)? >> 4 != 0,
                        is_defined: self.number::<2>(at + 6)? != 0,
                    });
                }
            }
        }
        Ok(found)
    }
}
