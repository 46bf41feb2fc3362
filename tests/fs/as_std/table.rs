//! Each name in the table of docs/from-std.md is used here by code that is compiled twice, once against `std` and once against
//! this library; so is each that is used here in the table.

use std::collections::BTreeSet;

/// Names, each with code that uses it as `std` has it.
macro_rules! uses {
    ($taken:tt; $($name:literal => $code:block)*) => {
        const USED: &[&str] = &[$($name),*];

        #[allow(unused, clippy::all, reason = "that it compiles is the test")]
        mod theirs {
            use std::{ffi, fs, io, os, path};
            use self::{fs::File, io::{BufRead, Read, Seek, Write}};

            fn code $taken -> io::Result<()> {
                $($code)*
                Ok(())
            }
        }

        #[allow(unused, clippy::all, reason = "that it compiles is the test")]
        mod ours {
            use xen9p::std::{ffi, fs, io, os, path};
            use self::{fs::File, io::{BufRead, Read, Seek, Write}};

            fn code $taken -> io::Result<()> {
                $($code)*
                Ok(())
            }
        }
    };
}

uses! {
    (file: &mut File, entry: fs::DirEntry, found: fs::Metadata, path: &path::Path);
    "fs::canonicalize" => { let _: path::PathBuf = fs::canonicalize("/a")?; }
    "fs::copy" => { let _: u64 = fs::copy("/a", path)?; }
    "fs::create_dir" => { let _: () = fs::create_dir("/a")?; }
    "fs::create_dir_all" => { let _: () = fs::create_dir_all("/a".to_string())?; }
    "fs::exists" => { let _: bool = fs::exists("/a")?; }
    "fs::hard_link" => { let _: () = fs::hard_link("/a", "/b")?; }
    "fs::metadata" => { let _: fs::Metadata = fs::metadata(path)?; }
    "fs::read" => { let _: Vec<u8> = fs::read(path.join("a"))?; }
    "fs::read_dir" => { for entry in fs::read_dir("/a")? { let _: fs::DirEntry = entry?; } }
    "fs::read_link" => { let _: path::PathBuf = fs::read_link("/a")?; }
    "fs::read_to_string" => { let _: String = fs::read_to_string("/a")?; }
    "fs::remove_dir" => { let _: () = fs::remove_dir("/a")?; }
    "fs::remove_dir_all" => { let _: () = fs::remove_dir_all("/a")?; }
    "fs::remove_file" => { let _: () = fs::remove_file(&path.to_path_buf())?; }
    "fs::rename" => { let _: () = fs::rename("/a", "/b")?; }
    "fs::set_permissions" => { let _: () = fs::set_permissions("/a", found.permissions())?; }
    "fs::symlink_metadata" => { let _: fs::Metadata = fs::symlink_metadata("/a")?; }
    "fs::write" => { fs::write("/a", "text")?; fs::write("/a", [0_u8; 3])?; fs::write("/a", vec![1_u8])?; }
    "os::unix::fs::symlink" => { let _: () = os::unix::fs::symlink("/a", path)?; }
    "os::unix::fs::chown" => { let _: () = os::unix::fs::chown("/a", Some(1), None)?; }
    "os::unix::fs::lchown" => { let _: () = os::unix::fs::lchown("/a", None, Some(1))?; }
    "File::create" => { let _: File = File::create("/a")?; }
    "File::create_new" => { let _: File = File::create_new("/a")?; }
    "File::metadata" => { let _: fs::Metadata = file.metadata()?; }
    "File::open" => { let _: File = fs::File::open(path)?; }
    "File::options" => { let _: File = File::options().read(true).open("/a")?; }
    "File::set_len" => { let _: () = file.set_len(0)?; }
    "File::set_permissions" => { let _: () = file.set_permissions(found.permissions())?; }
    "File::set_times" => { let _: () = file.set_times(fs::FileTimes::new())?; }
    "File::sync_all" => { let _: () = file.sync_all()?; }
    "File::sync_data" => { let _: () = file.sync_data()?; }
    "OpenOptions::append" => { let _ = fs::OpenOptions::new().append(true).open("/a")?; }
    "OpenOptions::create" => { let _ = fs::OpenOptions::new().write(true).create(true).open("/a")?; }
    "OpenOptions::create_new" => { let _ = fs::OpenOptions::new().write(true).create_new(true).open("/a")?; }
    "OpenOptions::open" => { let mut how = fs::OpenOptions::new(); how.read(true); let _: File = how.open(path)?; }
    "OpenOptions::read" => { let _ = fs::OpenOptions::new().read(true).open("/a")?; }
    "OpenOptions::truncate" => { let _ = fs::OpenOptions::new().write(true).truncate(true).open("/a")?; }
    "OpenOptions::write" => { let _ = fs::OpenOptions::new().write(true).open("/a")?; }
    "DirBuilder::create" => { let _: () = fs::DirBuilder::new().create("/a")?; }
    "DirBuilder::recursive" => { let _: () = fs::DirBuilder::new().recursive(true).create("/a")?; }
    "DirEntry::file_name" => { let _: ffi::OsString = entry.file_name(); let _ = entry.file_name().to_string_lossy(); }
    "DirEntry::file_type" => { let _: fs::FileType = entry.file_type()?; }
    "DirEntry::metadata" => { let _: fs::Metadata = entry.metadata()?; }
    "DirEntry::path" => { let _: path::PathBuf = entry.path(); }
    "FileType::is_dir" => { let _: bool = found.file_type().is_dir(); }
    "FileType::is_file" => { let _: bool = found.file_type().is_file(); }
    "FileType::is_symlink" => { let _: bool = found.file_type().is_symlink(); }
    "Metadata::file_type" => { let _: fs::FileType = found.file_type(); }
    "Metadata::is_dir" => { let _: bool = found.is_dir(); }
    "Metadata::is_file" => { let _: bool = found.is_file(); }
    "Metadata::is_symlink" => { let _: bool = found.is_symlink(); }
    "Metadata::len" => { let _: u64 = found.len(); }
    "Metadata::permissions" => { let _: fs::Permissions = found.permissions(); }
    "Permissions::readonly" => { let _: bool = found.permissions().readonly(); }
    "Permissions::set_readonly" => { let mut changed = found.permissions(); changed.set_readonly(true); }
    "io::copy" => { let _: u64 = io::copy(&mut File::open("/a")?, file)?; }
    "io::Error::kind" => { let _: io::ErrorKind = fs::read("/a").unwrap_err().kind(); }
    "io::ErrorKind" => { if let Err(error) = fs::read("/a") && error.kind() == io::ErrorKind::NotFound {} }
    "Read::by_ref" => { let _ = Read::by_ref(file).read(&mut [0])?; }
    "Read::read" => { let _: usize = file.read(&mut [0; 8])?; }
    "Read::read_exact" => { let _: () = file.read_exact(&mut [0; 8])?; }
    "Read::read_to_end" => { let _: usize = file.read_to_end(&mut Vec::new())?; }
    "Read::read_to_string" => { let _: usize = file.read_to_string(&mut String::new())?; }
    "Write::flush" => { let _: () = file.flush()?; }
    "Write::write" => { let _: usize = file.write(b"text")?; let _ = (&*file).write(b"text")?; }
    "Write::write_all" => { let _: () = file.write_all("text".as_bytes())?; }
    "write!, writeln!" => { write!(file, "{}", 1)?; writeln!(file)?; writeln!(io::BufWriter::new(&*file), "{path:?}")?; }
    "Seek::rewind" => { let _: () = file.rewind()?; }
    "Seek::seek" => { let _: u64 = file.seek(io::SeekFrom::End(-1))?; }
    "Seek::stream_position" => { let _: u64 = file.stream_position()?; }
    "Read::take" => { let _: usize = Read::by_ref(file).take(3).read_to_end(&mut Vec::new())?; }
    "Read::bytes" => { for byte in io::BufReader::new(File::open("/a")?).take(3).bytes() { let _: u8 = byte?; } }
    "BufRead::split" => { for piece in io::BufReader::new(File::open("/a")?).split(b' ') { let _: Vec<u8> = piece?; } }
    "BufRead::lines" => { for line in io::BufReader::new(File::open("/a")?).lines() { let _: String = line?; } }
    "BufRead::read_line" => { let _: usize = io::BufReader::new(&*file).read_line(&mut String::new())?; }
    "BufRead::read_until" => { let _: usize = io::BufReader::new(&*file).read_until(b';', &mut Vec::new())?; }
    "BufReader" => { let _: File = io::BufReader::with_capacity(512, File::open("/a")?).into_inner(); }
    "BufWriter" => { let mut out = io::BufWriter::new(File::create("/a")?); out.write_all(b"text")?; let _: &[u8] = out.buffer(); }
    "Path::display" => { let _: String = path.display().to_string(); let _ = format!("{}", path.display()); }
    "Path::exists" => { let _: bool = path.exists(); }
    "Path::extension" => { let _ = path.extension().is_some_and(|end| end == "txt"); }
    "Path::file_name" => { let _: Option<String> = path.file_name().and_then(|name| name.to_str()).map(String::from); }
    "Path::file_stem" => { let _: Option<&str> = path.file_stem().and_then(|name| name.to_str()); }
    "Path::is_absolute" => { let _: bool = path.is_absolute() || path.is_relative(); }
    "Path::is_dir" => { let _: bool = path.is_dir(); }
    "Path::is_file" => { let _: bool = path.is_file(); }
    "Path::join" => { let _: path::PathBuf = path::Path::new("/a").join("b").join(path); }
    "Path::metadata" => { let _: fs::Metadata = path.metadata()?; }
    "Path::parent" => { let _: Option<&path::Path> = path.parent(); }
    "Path::read_dir" => { let _: fs::ReadDir = path.read_dir()?; }
    "Path::starts_with" => { let _: bool = path.starts_with("/a"); }
    "Path::to_path_buf" => { let _: path::PathBuf = path.to_path_buf(); }
    "Path::to_str" => { let _: Option<&str> = path.to_str(); }
    "Path::to_string_lossy" => { let _: String = path.to_string_lossy().into_owned(); }
    "Path::with_extension" => { let _: path::PathBuf = path.with_extension("txt"); }
    "Path::with_file_name" => { let _: path::PathBuf = path.with_file_name("a"); }
    "PathBuf::from" => { let _ = path::PathBuf::from("/a"); let _ = path::PathBuf::from(String::from("/a")); }
    "PathBuf::pop" => { let _: bool = path.to_path_buf().pop(); }
    "PathBuf::push" => { let mut longer = path::PathBuf::new(); longer.push("a"); }
    "PathBuf::set_extension" => { let _: bool = path.to_path_buf().set_extension("txt"); }
    "PathBuf::set_file_name" => { path.to_path_buf().set_file_name("a"); }
}

#[test]
fn the_document_lists_what_is_the_same() {
    let document = include_str!("../../../docs/from-std.md");
    let (_, table) = document.split_once("<!-- what is the same -->").unwrap();
    let (table, _) = table.split_once("<!-- end -->").unwrap();
    let names = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let listed: Vec<&str> = names
        .filter_map(|line| line.split_once("` |"))
        .flat_map(|(names, _)| names.split("`, `"))
        .collect();
    let once: BTreeSet<&str> = listed.iter().copied().collect();
    assert_eq!(once.len(), listed.len(), "a name is listed twice");
    let used: BTreeSet<&str> = USED.iter().copied().collect();
    let unlisted: Vec<_> = used.difference(&once).collect();
    let unused: Vec<_> = once.difference(&used).collect();
    assert!(
        unlisted.is_empty() && unused.is_empty(),
        "{unlisted:?} {unused:?}"
    );
}
