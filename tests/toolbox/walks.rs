//! What hosts do to a share while it is used: on the servers of QEMU, diod and xen9pd.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use crate::backends::{Backend, Diod, Qemu, Xen9pd};
use crate::desk::{Desk, Sink};

/// Runs a walk on each kind of server.
fn on_hosts(name: &str, walk: impl Fn(&mut dyn Walker, &Path)) {
    on_host::<Qemu>(name, &walk);
    on_host::<Diod>(name, &walk);
    on_host::<Xen9pd>(name, &walk);
}

fn on_host<B: Backend>(name: &str, walk: impl Fn(&mut dyn Walker, &Path)) {
    if let Some(mut desk) = Desk::<B>::new() {
        let host: PathBuf = desk.host().expect("a directory of this machine");
        eprintln!("{name} on {}", std::any::type_name::<B>());
        walk(&mut desk, &host);
    }
}

/// A desk of any kind.
trait Walker {
    fn ok(&mut self, line: &str) -> String;
    fn run(&mut self, line: &str) -> (u8, String);
    fn sink(&mut self, sink: Option<Sink>);
}

impl<B: Backend> Walker for Desk<B> {
    fn ok(&mut self, line: &str) -> String {
        Desk::ok(self, line)
    }

    fn run(&mut self, line: &str) -> (u8, String) {
        Desk::run(self, line)
    }

    fn sink(&mut self, sink: Option<Sink>) {
        self.sink = sink;
    }
}

#[test]
fn two_hundred_directories_in_one_another() {
    on_hosts("depth", |desk, host| {
        let deep = host.join(["d"; 200].join("/"));
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("f"), "x").unwrap();
        desk.ok("cp -r /d /copy");
        assert_eq!(
            std::fs::read(host.join("copy").join(["d"; 199].join("/")).join("f")).unwrap(),
            b"x"
        );
        desk.ok("rm -r /d /copy");
        assert!(std::fs::read_dir(host).unwrap().next().is_none());
    });
}

#[test]
fn paths_as_long_as_linux_takes_them() {
    on_hosts("long paths", |desk, host| {
        // Eighteen names of 226 bytes and a last one make 4,095 bytes; the server's own are not counted.
        let name = "p".repeat(226);
        let above = format!("/{name}").repeat(18);
        for (length, last) in [(4095, 8), (4096, 9)] {
            let path = format!("{above}/{}", "l".repeat(last));
            assert_eq!(path.len(), length);
            let (status, text) = desk.run(&format!(
                "mkdir -p {above}; write {path} x; cat {path}; stat {path}"
            ));
            // What is too long for a host's call is told as such, and nothing else breaks.
            assert!(
                status == 0 || text.contains("(ENAMETOOLONG)"),
                "{length}: {text}"
            );
            let (status, text) = desk.run(&format!("rm -r /{name}"));
            assert!(
                status == 0 || text.contains("(ENAMETOOLONG)"),
                "{length}: {text}"
            );
            desk.ok("write /f x; rm /f");
            if host.join(&name).exists() {
                std::fs::remove_dir_all(host.join(&name)).unwrap();
            }
        }
    });
}

#[test]
fn twenty_thousand_entries_go_while_they_are_listed() {
    const COUNT: usize = 20_000;
    on_hosts("entries that go", |desk, host| {
        for line in ["ls /d", "ls -l /d", "cp -r /d /copy", "rm -r /d"] {
            let directory = host.join("d");
            std::fs::create_dir_all(&directory).unwrap();
            for n in 0..COUNT {
                std::fs::write(
                    directory.join(format!("an entry of this directory {n:06}")),
                    "x",
                )
                .unwrap();
            }
            let going = directory.clone();
            let host_removes = std::thread::spawn(move || std::fs::remove_dir_all(going));
            let (status, text) = desk.run(line);
            // The host may be hindered by nothing but `rm`, which removes the directory itself.
            let removed = host_removes.join().unwrap();
            assert!(
                removed.is_ok() || line.starts_with("rm"),
                "{line}: {removed:?}"
            );
            for line in text.lines().filter(|line| line.contains("(E")) {
                assert!(line.contains("(ENOENT)"), "{line}");
            }
            assert!(status <= 1, "{line}: {status}");
            let _ = std::fs::remove_dir_all(&directory);
            let _ = std::fs::remove_dir_all(host.join("copy"));
            desk.ok("write /f x; rm /f");
        }
    });
}

#[test]
fn files_that_the_host_grows_and_replaces_under_a_reader() {
    const SIZE: usize = 6 << 20;
    on_hosts("files that change", |desk, host| {
        let path = host.join("f");
        std::fs::write(&path, vec![b'a'; SIZE]).unwrap();
        let growing = path.clone();
        let mut grown = false;
        desk.sink(Some(Box::new(move |_| {
            if !std::mem::replace(&mut grown, true) {
                let mut file = std::fs::OpenOptions::new()
                    .append(true)
                    .open(&growing)
                    .unwrap();
                std::io::Write::write_all(&mut file, &vec![b'b'; SIZE]).unwrap();
            }
        })));
        desk.ok("cat /f");
        desk.sink(None);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 2 * SIZE as u64);

        // A file that another takes the name of stays the one that was opened, to its end.
        let (replacing, by) = (path.clone(), host.join("new"));
        std::fs::write(&by, vec![b'c'; SIZE]).unwrap();
        let mut replaced = false;
        let seen = std::rc::Rc::new(std::cell::Cell::new((0, 0)));
        let counts = seen.clone();
        desk.sink(Some(Box::new(move |bytes| {
            if !std::mem::replace(&mut replaced, true) {
                std::fs::rename(&by, &replacing).unwrap();
            }
            let (old, new) = counts.get();
            let fresh = bytes.iter().filter(|byte| **byte == b'c').count();
            counts.set((old + bytes.len() - fresh, new + fresh));
        })));
        desk.ok("cat /f");
        desk.sink(None);
        assert_eq!(seen.get(), (2 * SIZE, 0));
        // A link that leads out of the share shows what the share has there.
        symlink("/etc/passwd", host.join("out")).unwrap();
        assert!(desk.run("cat /out").1.contains("(ENOENT)"));
    });
}

#[test]
fn files_with_one_number_on_two_file_systems_are_two() {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

    // diod does not go from one file system to another.
    on_host::<Qemu>("two file systems", |desk, host| {
        let places = [host.join("a"), host.join("b")];
        for place in &places {
            std::fs::create_dir(place).unwrap();
            if mount("none", place, "tmpfs", MountFlags::empty(), None).is_err() {
                eprintln!("skipped: file systems can't be mounted here");
                return;
            }
        }
        let files = [places[0].join("f"), places[1].join("f")];
        // Until the clock of the file systems gives both the same times.
        let alike = (0..500).any(|_| {
            for (file, content) in files.iter().zip(["one\n", "two\n"]) {
                std::fs::write(file, content).unwrap();
            }
            let of = |file| std::fs::metadata(file).unwrap();
            let [a, b] = files.each_ref().map(of);
            let times = |of: &Metadata| (of.ctime(), of.ctime_nsec(), of.mtime_nsec());
            a.ino() == b.ino() && times(&a) == times(&b)
        });
        assert!(alike, "files that look the same");
        let line = ["cp /a/f /b/f", "mv /a/f /b/f"].map(|line| desk.run(line));
        let content = std::fs::read(&files[1]).unwrap();
        for place in &places {
            unmount(place, UnmountFlags::DETACH).unwrap();
        }
        for (status, text) in line {
            assert_eq!(status, 0, "{text}");
        }
        assert_eq!(content, b"one\n");
    });
}
