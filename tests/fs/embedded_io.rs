//! The traits of `embedded-io` do for a file what the files API does.
#![cfg(feature = "embedded-io")]

use embedded_io::{ErrorKind, Read, Seek, SeekFrom, Write};
use xen9p::fs::OpenOptions;
use xen9p_testing::bed::memory::bed;

fn through_the_traits<F: Read + Write + Seek>(mut file: F) {
    file.write_all(b"0123456789").unwrap();
    file.flush().unwrap();
    assert_eq!(file.seek(SeekFrom::End(-3)).unwrap(), 7);
    assert_eq!(file.seek(SeekFrom::Current(-5)).unwrap(), 2);
    let mut buffer = [0; 4];
    file.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"2345");
    assert_eq!(file.stream_position().unwrap(), 6);
    file.rewind().unwrap();
    assert_eq!(file.read(&mut buffer).unwrap(), 4);
    assert!(file.seek(SeekFrom::Current(-5)).is_err());
}

#[test]
fn files_are_streams() {
    let bed = bed();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true);
    through_the_traits(options.open(&bed.fs, "/f").unwrap());
    let error = bed.fs.open("/none").unwrap_err();
    assert_eq!(ErrorKind::from(error.kind()), ErrorKind::NotFound);
    bed.finish();
}
