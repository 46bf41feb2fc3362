//! The files: made in dom0 for the guests to read, and checked in dom0 after the guests wrote.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::LazyLock;

use crate::content::{
    Amounts, BIG, IN_PAGES, MADE, PAGE, RANDOM, SCATTERED, SMALL, Seed, WRITTEN, deep, fill, places,
};
use crate::marks::Result;

/// Files in each directory of the tree that is copied.
const PER_DIRECTORY: usize = 10;

fn at<T>(path: &Path, result: std::io::Result<T>) -> Result<T> {
    result.map_err(|error| format!("{}: {error}", path.display()))
}

/// Makes everything that guests read.
pub fn prepare(files: &Path, amounts: Amounts) -> Result<()> {
    let directory = |name: &str| {
        let path = files.join(name);
        at(&path, fs::create_dir_all(&path)).map(|()| path)
    };
    directory("")?;
    make(&files.join("big"), BIG)?;
    make(&files.join("pages"), IN_PAGES)?;
    let small = directory("small")?;
    let mut content = vec![0; SMALL];
    fill(&mut content);
    for number in 0..amounts.files {
        MADE.put(&mut content, number as u64);
        write(&small.join(format!("f{number}")), &content)?;
    }
    for number in 0..amounts.paths {
        let path = files.join(deep(number));
        if let Some(parent) = path.parent() {
            at(parent, fs::create_dir_all(parent))?;
        }
        write(&path, &content[..number % 100])?;
    }
    let many = directory("many")?;
    for number in 0..amounts.entries {
        let name = format!("an-entry-with-a-name-{number}");
        write(&many.join(name), &content[..number % 100])?;
    }
    for number in 0..amounts.tree {
        let place = directory(&format!("tree/d{}", number / PER_DIRECTORY))?;
        make(&place.join(format!("f{number}")), PAGE as u64)?;
    }
    Ok(())
}

/// Makes the files that a guest is to remove.
pub fn doom(directory: &Path, amounts: Amounts) -> Result<()> {
    at(directory, fs::create_dir_all(directory))?;
    for number in 0..amounts.files {
        write(&directory.join(format!("f{number}")), b"doomed")?;
    }
    Ok(())
}

/// Checks every byte and every name that a guest wrote, and that what it removed is gone.
pub fn verify(files: &Path, out: &Path, amounts: Amounts) -> Result<()> {
    check(
        &out.join("written"),
        amounts.written,
        &scattered(amounts.written),
    )?;
    check(&out.join("written-4k"), IN_PAGES, &[])?;
    let mut content = Vec::new();
    let new = out.join("new");
    for number in 0..amounts.files {
        let path = new.join(format!("r{number}"));
        content.clear();
        at(
            &path,
            File::open(&path).and_then(|mut file| file.read_to_end(&mut content)),
        )?;
        if content.len() != SMALL || !is_right(WRITTEN, &content, number as u64) {
            return Err(format!("{}: wrong content", path.display()));
        }
    }
    count(&new, amounts.files)?;
    count(&out.join("doomed"), 0)?;
    match out.file_name() {
        // Copying takes what was read.
        Some(name) if name == "limit" => Ok(()),
        _ => same(&files.join("tree"), &out.join("tree")),
    }
}

/// Checks what one of many domains wrote.
pub fn verify_pair(out: &Path) -> Result<()> {
    check(&out.join("written-4k"), IN_PAGES, &[])
}

/// Checks what a sweep's guest wrote.
pub fn verify_sweep(out: &Path) -> Result<()> {
    check(&out.join("written"), BIG, &[])
}

/// The pages that were overwritten at random places.
fn scattered(size: u64) -> Vec<u64> {
    RANDOM
        .iter()
        .flat_map(|&(count, depth)| places(size, count, depth))
        .collect()
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    at(path, fs::write(path, content))
}

/// Makes a file of whole pages.
fn make(path: &Path, size: u64) -> Result<()> {
    let mut file = at(path, File::create(path))?;
    let mut buffer = vec![0; size.min(1 << 20) as usize];
    fill(&mut buffer);
    for offset in (0..size).step_by(buffer.len()) {
        MADE.put(&mut buffer, offset);
        at(path, file.write_all(&buffer))?;
    }
    Ok(())
}

/// Checks a file that was written in order and then, at these places, once more.
fn check(path: &Path, size: u64, again: &[u64]) -> Result<()> {
    let file = at(path, File::open(path))?;
    let found = at(path, file.metadata())?.len();
    if found != size {
        return Err(format!("{}: {found} bytes, not {size}", path.display()));
    }
    let again: std::collections::HashSet<u64> = again.iter().copied().collect();
    let mut page = vec![0; PAGE];
    for offset in (0..size).step_by(PAGE) {
        at(path, file.read_exact_at(&mut page, offset))?;
        let seed = if again.contains(&offset) {
            SCATTERED
        } else {
            WRITTEN
        };
        if !is_right(seed, &page, offset) {
            return Err(format!("{}: wrong content at {offset}", path.display()));
        }
    }
    Ok(())
}

/// Whether every byte of a page is that of the one at `offset`.
fn is_right(seed: Seed, page: &[u8], offset: u64) -> bool {
    static FILLED: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut page = vec![0; PAGE];
        fill(&mut page);
        page
    });
    let inner = 8..page.len() - 8;
    seed.looks_right(page, offset) && page[inner.clone()] == FILLED[inner]
}

fn names(directory: &Path) -> Result<Vec<std::ffi::OsString>> {
    let mut names = at(directory, fs::read_dir(directory))?
        .map(|entry| Ok(at(directory, entry)?.file_name()))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn count(directory: &Path, expected: usize) -> Result<()> {
    let found = names(directory)?.len();
    if found == expected {
        Ok(())
    } else {
        Err(format!(
            "{}: {found} entries, not {expected}",
            directory.display()
        ))
    }
}

/// Whether two trees are the same.
fn same(left: &Path, right: &Path) -> Result<()> {
    if at(left, fs::metadata(left))?.is_file() {
        let (a, b) = (at(left, fs::read(left))?, at(right, fs::read(right))?);
        if a != b {
            return Err(format!("{}: not what was copied", right.display()));
        }
        return Ok(());
    }
    let names_here = names(left)?;
    if names_here != names(right)? {
        return Err(format!(
            "{}: other names than what was copied",
            right.display()
        ));
    }
    names_here
        .iter()
        .try_for_each(|name| same(&left.join(name), &right.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file as a guest should write it.
    fn written(path: &Path) -> Vec<u8> {
        let mut content = vec![0; IN_PAGES as usize];
        fill(&mut content);
        WRITTEN.put(&mut content, 0);
        fs::write(path, &content).unwrap();
        content
    }

    #[test]
    fn wrong_data_is_found_wherever_it_is() {
        let directory = std::env::temp_dir().join(format!("bench-verify-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("written-4k");
        let right = written(&path);
        assert_eq!(verify_pair(&directory), Ok(()));
        for at in [0, PAGE / 2, PAGE - 1, right.len() - 1] {
            let mut wrong = right.clone();
            wrong[at] ^= 1;
            fs::write(&path, wrong).unwrap();
            assert!(verify_pair(&directory).is_err(), "byte {at}");
        }
        let mut swapped = right.clone();
        let (first, rest) = swapped.split_at_mut(PAGE);
        first.swap_with_slice(&mut rest[..PAGE]);
        fs::write(&path, swapped).unwrap();
        assert!(verify_pair(&directory).is_err(), "pages in the wrong order");
        fs::write(&path, &right[PAGE..]).unwrap();
        assert!(verify_pair(&directory).is_err(), "a page that is missing");
        fs::remove_file(&path).unwrap();
        assert!(verify_pair(&directory).is_err(), "no file");
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn no_page_is_written_twice_at_random_places() {
        for size in [BIG, BIG / 16] {
            for (count, depth) in RANDOM {
                let all: std::collections::HashSet<u64> = places(size, count, depth).collect();
                assert_eq!(all.len() as u64, count);
                assert!(all.iter().all(|place| place + PAGE as u64 <= size));
            }
        }
    }
}
