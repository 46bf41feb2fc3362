//! Directories of more entries than memory has room for names.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use xen9p::fs::{Fs, MountOptions};
use xen9p::ns::Namespace;
use xen9p_testing::count::with_memory;
use xen9p_testing::server::mem::MemOptions;
use xen9p_testing::server::real::memory;

use crate::backends::Memory;

type Desk = crate::desk::Desk<Memory>;

/// What a domain of 16 MiB has left for its program, and much less.
const SMALL: usize = 6 << 20;
const TINY: usize = 512 << 10;

/// A desk whose root share is served by another thread, with `count` files in "/many".
fn with_many(count: usize) -> Desk {
    let transport = memory(MemOptions::default(), move |server| {
        // Not in the order of their names.
        for n in 0..count {
            server.put(
                &format!("/many/a file with number {:07}", n * 7_919 % count),
                b"x",
            );
        }
    });
    let fs = Fs::mount(transport.unwrap(), &MountOptions::new().msize(1 << 16)).unwrap();
    let mut desk = Desk::new().unwrap();
    desk.root = Namespace::new(fs);
    desk
}

impl Desk {
    /// How many lines a command prints, which come in their order.
    fn sorted_lines(&mut self, line: &str) -> usize {
        let (count, last) = (Rc::new(Cell::new(0)), RefCell::new(Vec::new()));
        let counted = count.clone();
        let line_so_far = RefCell::new(Vec::new());
        self.sink = Some(Box::new(move |bytes| {
            for byte in bytes {
                if *byte != b'\n' {
                    line_so_far.borrow_mut().push(*byte);
                    continue;
                }
                let line = std::mem::take(&mut *line_so_far.borrow_mut());
                if line.starts_with(b"total ") {
                    continue;
                }
                let name = line.rsplit(|byte| *byte == b' ').next().unwrap().to_vec();
                let before = last.replace(name.clone());
                assert!(before < name, "{before:?} {name:?}");
                counted.set(counted.get() + 1);
            }
        }));
        let status = self.run(line).0;
        self.sink = None;
        assert_eq!(status, 0, "{line}");
        count.get()
    }
}

#[test]
fn two_hundred_thousand_entries_are_listed_and_removed_in_little_memory() {
    const COUNT: usize = 200_000;
    let mut desk = with_many(COUNT);
    with_memory(SMALL, || {
        assert_eq!(desk.sorted_lines("ls /many"), COUNT);
        desk.ok("rm -r /many");
        assert_eq!(desk.ok("ls /"), "");
    });
}

#[test]
fn twenty_thousand_entries_are_listed_copied_and_moved_in_hardly_any() {
    const COUNT: usize = 20_000;
    let mut desk = with_many(COUNT);
    desk.ok("mkdir /dirs");
    for n in 0..COUNT / 20 {
        desk.root
            .create_dir(format!("/dirs/{:05}", n * 7_919 % COUNT))
            .unwrap();
        desk.root
            .write(format!("/dirs/{:05}/f", n * 7_919 % COUNT), "x")
            .unwrap();
    }
    with_memory(TINY, || {
        assert_eq!(desk.sorted_lines("ls /many"), COUNT);
        assert_eq!(desk.sorted_lines("ls -l /many"), COUNT);
        desk.ok("cp -r /many /copy; cp -r /dirs /copy-of-dirs");
        assert_eq!(desk.sorted_lines("ls /copy"), COUNT);
        assert_eq!(desk.sorted_lines("ls /copy-of-dirs"), COUNT / 20);
        desk.ok("rm -r /many /copy /dirs");
        assert_eq!(desk.ok("ls /; rm -r /copy-of-dirs; ls /"), "copy-of-dirs\n");
    });
}

/// Commands that go through trees, and patterns that stand for too many names.
#[test]
fn trees_are_walked_and_summed_in_hardly_any_memory() {
    const COUNT: usize = 20_000;
    let mut desk = with_many(COUNT);
    for n in 0..COUNT / 20 {
        desk.root.create_dir(format!("/many/dir {n:05}")).unwrap();
    }
    with_memory(TINY, || {
        let count = Rc::new(Cell::new(0));
        for (line, lines) in [
            ("find /many", COUNT + COUNT / 20 + 1),
            ("find /many -type d", COUNT / 20 + 1),
            ("du -a /many", COUNT + COUNT / 20 + 1),
            ("chmod -Rv 700 /many", COUNT + COUNT / 20 + 1),
        ] {
            let counted = count.clone();
            count.set(0);
            desk.sink = Some(Box::new(move |bytes| {
                let ends = bytes.iter().filter(|byte| **byte == b'\n').count();
                counted.set(counted.get() + ends);
            }));
            assert_eq!(desk.run(line).0, 0, "{line}");
            desk.sink = None;
            assert_eq!(count.get(), lines, "{line}");
        }
        let error = desk.fails(1, "rm /many/*");
        assert!(error.contains("Argument list too long (E2BIG)"), "{error}");
        assert!(
            desk.fails(1, "ls -t /many > /many.txt")
                .contains("listed by name")
        );
        assert!(desk.ok("wc -l /many.txt").starts_with("21000"));
    });
}

/// Paths are as long as servers and users like. Where there is no room for one, that ends with ENOMEM.
#[test]
fn paths_without_room_are_enomem() {
    const LONG: usize = 60_000;
    let mut desk = with_many(3);
    desk.ok("mount #mem /m");
    let long = format!("/many/{}a", "./".repeat(LONG / 2));
    for line in [
        format!("cat {long}"),
        format!("stat {long}"),
        format!("ls {long}"),
        format!("cp {long} /m/x"),
        format!("cp -r {long} /m/x"),
        format!("mv {long} /m/x"),
        format!("rm {long}"),
        format!("rm -r {long}"),
    ] {
        let parsed = crate::commands::Line::parse(&line).unwrap();
        // For the path itself, and part of another like it.
        for room in [LONG + LONG / 10, LONG + LONG / 2, 2 * LONG + LONG / 10] {
            desk.ok("write /many/a x; rm -f /m/x");
            let printed = Rc::new(RefCell::new(Vec::with_capacity(4 * LONG)));
            let sink = printed.clone();
            desk.sink = Some(Box::new(move |bytes| {
                sink.borrow_mut().extend_from_slice(bytes);
            }));
            let mut status = 0;
            with_memory(room, || parsed.run(&mut desk, &mut status));
            desk.sink = None;
            let text = String::from_utf8(printed.take()).unwrap();
            let (line, end) = (&line[..12], &text[text.len().saturating_sub(60)..]);
            assert!(
                status == 1 && end.ends_with("(ENOMEM)\n") || status == 0,
                "{line} {room}: {status}, {end}"
            );
        }
    }
}
