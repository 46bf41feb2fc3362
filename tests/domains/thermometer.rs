//! A device that an application makes as files, in thirty lines of code, is one for another domain: examples/thermometer.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::rc::Rc;

use xen9p::errno::Errno;
use xen9p::fs::Fs;
use xen9p::server::Rights;
use xen9p_testing::fake::FakeXen;

use crate::common::{CLIENT, domain, mount, server};

#[path = "../../examples/thermometer/device.rs"]
mod device;

/// The files of the thermometer in another domain, and what it measures.
fn mounted(rights: Rights) -> (Fs, Rc<Cell<i32>>) {
    let fake = FakeXen::new();
    let (serving, client) = (server(&fake), domain(&fake, CLIENT));
    let degrees = Rc::new(Cell::new(21));
    let measured = Rc::clone(&degrees);
    let device = device::thermometer(move || measured.get()).unwrap();
    let target = "vchan!5!thermometer".parse().unwrap();
    serving
        .serve("/thermometer", &device, &target, rights)
        .unwrap();
    let fs = mount(&client, "thermometer").unwrap();
    (fs, degrees)
}

#[test]
fn another_domain_reads_what_is_measured_when_it_reads() {
    let (fs, degrees) = mounted(Rights::ReadWrite);
    let names = fs
        .read_dir("/")
        .unwrap()
        .map(|entry| entry.unwrap().file_name_lossy().into_owned());
    assert_eq!(names.collect::<Vec<_>>(), ["celsius", "ctl"]);
    assert_eq!(fs.read_to_string("/celsius").unwrap(), "21\n");
    degrees.set(-3);
    assert_eq!(fs.read_to_string("/celsius").unwrap(), "-3\n");
    fs.write("/ctl", "offset 4\n").unwrap();
    assert_eq!(fs.read_to_string("/celsius").unwrap(), "1\n");
    assert_eq!(fs.read("/ctl").unwrap_err().errno(), Errno::EACCES);
    degrees.set(i32::MAX);
    assert_eq!(
        fs.read_to_string("/celsius").unwrap(),
        format!("{}\n", i32::MAX)
    );
}

#[test]
fn what_the_device_does_not_take_is_an_error_and_changes_nothing() {
    let (fs, _) = mounted(Rights::ReadWrite);
    for line in [
        "",
        "4",
        "offset",
        "offset x",
        "offset 99999999999",
        "offset 4 5",
    ] {
        let taken = fs.write("/ctl", line).map_err(|error| error.errno());
        // Nothing written is nothing taken.
        let expected = if line.is_empty() {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        };
        assert_eq!(taken, expected, "{line:?}");
    }
    assert_eq!(
        fs.write("/ctl", b"\xff").unwrap_err().errno(),
        Errno::EINVAL
    );
    assert_eq!(
        fs.write("/celsius", "30").unwrap_err().errno(),
        Errno::EACCES
    );
    assert_eq!(fs.read_to_string("/celsius").unwrap(), "21\n");
    let (fs, _) = mounted(Rights::ReadOnly);
    assert_eq!(
        fs.write("/ctl", "offset 4").unwrap_err().errno(),
        Errno::EROFS
    );
    assert_eq!(fs.read_to_string("/celsius").unwrap(), "21\n");
}

#[test]
fn the_application_has_thirty_lines_of_code_and_the_document_shows_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let files = ["device", "main"].map(|name| read(&format!("examples/thermometer/{name}.rs")));
    let lines = files.iter().flat_map(|file| file.lines());
    let is_code = |line: &&str| !line.is_empty() && !line.trim_start().starts_with("//");
    assert_eq!(lines.filter(is_code).count(), 30);
    let document = read("docs/domains.md");
    for file in files {
        let shown = file.split_once("\n\n").unwrap().1;
        assert!(document.contains(shown), "not in docs/domains.md:\n{shown}");
    }
}
