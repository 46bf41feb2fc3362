//! A program that keeps a journal: in `std.rs` for `std`, in `ours.rs` for this library. Two lines differ.

use xen9p::std::fs::{self, File, OpenOptions};
use xen9p::std::{
    io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// The files below a directory, without links.
fn files_below(directory: &Path, into: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() => files_below(&entry.path(), into)?,
            kind if kind.is_file() => into.push(entry.path()),
            _ => {}
        }
    }
    Ok(())
}

/// Keeps a small journal below `root`, and tells in words what it found.
pub fn journal(root: &Path) -> io::Result<String> {
    let mut told = Vec::new();
    let directory = root.join("journal").join("2026");
    fs::create_dir_all(&directory)?;
    let mut book = BufWriter::new(File::create(directory.join("november.txt"))?);
    for day in 1..=30 {
        writeln!(book, "{day}: {}", "x".repeat(day))?;
    }
    book.flush()?;
    let book = directory.join("november.txt");
    let mut more = OpenOptions::new().append(true).open(&book)?;
    write!(more, "end without a newline")?;
    drop(more);
    fs::copy(&book, directory.join("copy.txt"))?;
    fs::rename(directory.join("copy.txt"), root.join("moved.md"))?;
    fs::write(
        root.join("moved.md").with_extension("bin"),
        [0, 159, 146, 150],
    )?;
    let lines = BufReader::new(File::open(&book)?).lines();
    let longest = lines.map_while(Result::ok).max_by_key(String::len);
    writeln!(told, "longest line: {}", longest.unwrap_or_default())?;
    let mut file = File::options().read(true).write(true).open(&book)?;
    file.seek(SeekFrom::End(-7))?;
    let mut end = String::new();
    file.read_to_string(&mut end)?;
    file.set_len(100)?;
    writeln!(
        told,
        "it ends with {end:?}, and has {} bytes now",
        file.metadata()?.len()
    )?;
    let mut found = Vec::new();
    files_below(root, &mut found)?;
    found.sort();
    for path in found {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let kind = path
            .extension()
            .and_then(|end| end.to_str())
            .unwrap_or("none");
        let text = match fs::read_to_string(&path) {
            Ok(text) => format!("{} lines", text.lines().count()),
            Err(error) => format!("{:?}", error.kind()),
        };
        writeln!(
            told,
            "{name} ({kind}) in {}: {text}",
            path.parent().is_some()
        )?;
    }
    for (what, result) in [
        ("again", fs::create_dir(&directory)),
        ("full", fs::remove_dir(&directory)),
        ("none", fs::remove_file(root.join("none"))),
        ("below", fs::write(book.join("below"), "a file")),
    ] {
        writeln!(told, "{what}: {:?}", result.map_err(|error| error.kind()))?;
    }
    match File::create_new(&book) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => fs::remove_file(book)?,
        other => drop(other?),
    }
    String::from_utf8(told).map_err(|_| ErrorKind::InvalidData.into())
}
