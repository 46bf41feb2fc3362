//! What is served to other domains at the shell: serve, unserve, exports, on the simulated Xen.

use std::rc::Rc;
use std::time::Duration;

use xen9p::errno::Errno;
use xen9p::fs::{Fs, MountOptions};
use xen9p::hypercall::DomId;
use xen9p::time::Instant;
use xen9p::transport::serving::{Serving, Sizes};
use xen9p::transport::vchan::{self, VchanError};
use xen9p::transport::xen9pfs::{self, Config};
use xen9p::xen::Xen;
use xen9p::xen::event::Events;
use xen9p_testing::fake::{DeviceSpec, FakePlatform, FakeXen, Peer};

use crate::backends::Memory;

type Desk = crate::desk::Desk<Memory>;

const SERVER: DomId = DomId(2);

/// The simulated machine, with the domain that the commands run in.
pub struct Machine {
    fake: FakeXen,
    pub serving: Rc<Serving<FakePlatform>>,
}

/// The domain while its shell waits.
struct Waiting {
    xen: Xen<FakePlatform>,
    serving: Rc<Serving<FakePlatform>>,
}

impl Peer for Waiting {
    fn step(&mut self, fake: &FakeXen) -> bool {
        let progressed = self.xen.events.dispatch();
        self.serving.poll();
        progressed || self.serving.next_check() <= fake.now()
    }

    fn wakes_at(&self) -> Option<Instant> {
        Some(self.serving.next_check())
    }
}

/// A new domain, with the permission to write below its own `data`, as xl makes it.
fn domain(fake: &FakeXen, id: DomId) -> Xen<FakePlatform> {
    let platform = fake.add_domain(id);
    fake.dom0().make_home(id);
    Xen::new(Events::new(platform)).unwrap()
}

impl Machine {
    fn new() -> Machine {
        let fake = FakeXen::new();
        let xen = domain(&fake, SERVER);
        let serving = Rc::new(Serving::new(&xen, Sizes::default(), None));
        let waiting = Waiting {
            xen,
            serving: Rc::clone(&serving),
        };
        fake.share_peer(Rc::new(std::cell::RefCell::new(waiting)));
        Machine { fake, serving }
    }

    /// Lets the machine run as long as that.
    fn runs(&self, seconds: u64) {
        self.fake.run_for(Duration::from_secs(seconds));
    }

    /// Makes a device of this domain's as the toolstack does.
    fn plug(&self, frontend: DomId, path: &str) {
        let spec = DeviceSpec {
            kind: "9pfs",
            backend_kind: "9pfs",
            frontend,
            id: 0,
        };
        let nodes = [("path", path), ("security_model", "none")];
        let server = self.fake.domain(SERVER);
        server.add_device(&spec, &[("tag", "share")], &nodes);
    }
}

fn by_vchan(xen: &Xen<FakePlatform>, name: &str) -> Result<Fs, VchanError> {
    let stream = vchan::connect(xen, SERVER, name, Duration::from_secs(5))?;
    let transport = vchan::framed(stream, vchan::DEFAULT_MESSAGE);
    Ok(Fs::mount(transport, &MountOptions::new()).unwrap())
}

fn by_device(xen: &Xen<FakePlatform>) -> Option<Fs> {
    let device = xen9pfs::device(xen, None).unwrap();
    let transport = xen9pfs::connect(xen, device, &Config::default()).ok()?;
    Some(Fs::mount(transport, &MountOptions::new()).unwrap())
}

fn desk() -> (Desk, FakeXen) {
    let mut desk = Desk::new().unwrap();
    let machine = Machine::new();
    let fake = machine.fake.clone();
    desk.machine = Some(machine);
    (desk, fake)
}

#[test]
fn a_directory_is_served_from_when_that_is_typed_until_its_end() {
    let (mut desk, fake) = desk();
    desk.ok("mkdir /data /other; write /data/file text");
    assert_eq!(desk.ok("exports"), "");
    let client = domain(&fake, DomId(5));
    assert_eq!(
        by_vchan(&client, "d").map(drop),
        Err(VchanError::NotPublished(Duration::from_secs(5)))
    );
    desk.ok("serve /data vchan!5!d; serve -r #mem vchan!5!m");
    assert_eq!(
        desk.ok("exports"),
        "/data\tvchan!5!d\trw\tdomain 5 not connected\n#mem\tvchan!5!m\tro\tdomain 5 not connected\n"
    );
    let fs = by_vchan(&client, "d").unwrap();
    assert_eq!(fs.read_to_string("/file").unwrap(), "text\n");
    fs.write("/back", "from there\n").unwrap();
    assert_eq!(desk.ok("cat /data/back"), "from there\n");
    // What is mounted later is seen there, too.
    desk.ok("mkdir /data/m; mount #mem /data/m; write /data/m/f new");
    assert_eq!(fs.read_to_string("/m/f").unwrap(), "new\n");
    let read_only = by_vchan(&client, "m").unwrap();
    assert_eq!(read_only.write("/x", "").unwrap_err().errno(), Errno::EROFS);
    assert_eq!(
        desk.ok("exports > /list; cat /list"),
        "/data\tvchan!5!d\trw\tdomain 5 connected\n#mem\tvchan!5!m\tro\tdomain 5 connected\n"
    );
    desk.ok("unserve /data vchan!5!d");
    assert!(fs.read("/file").is_err());
    drop(fs);
    assert_eq!(
        desk.ok("exports"),
        "#mem\tvchan!5!m\tro\tdomain 5 connected\n"
    );
    assert!(by_vchan(&client, "d").is_err());
    // And again: by the same target another tree.
    desk.ok("serve /other vchan!5!d");
    assert!(
        by_vchan(&client, "d")
            .unwrap()
            .read_dir("/")
            .unwrap()
            .next()
            .is_none()
    );
}

#[test]
fn devices_get_what_is_served_for_their_path_until_its_end() {
    let (mut desk, fake) = desk();
    desk.ok("mkdir /a /b; write /a/file a; write /b/file b");
    let clients = [5, 6].map(|id| domain(&fake, DomId(id)));
    desk.machine.as_ref().unwrap().plug(DomId(5), "/a");
    desk.ok("serve /a 9pfs; serve -r /b 9pfs");
    desk.machine.as_ref().unwrap().plug(DomId(6), "/b");
    let [first, second] = clients.each_ref().map(|xen| by_device(xen).unwrap());
    assert_eq!(
        desk.ok("exports"),
        "/a\t9pfs\trw\tdomain 5 connected\n/b\t9pfs\tro\tdomain 6 connected\n"
    );
    first.write("/file", "more\n").unwrap();
    assert_eq!(second.read_to_string("/file").unwrap(), "b\n");
    assert_eq!(second.write("/x", "").unwrap_err().errno(), Errno::EROFS);
    desk.ok("unserve /a 9pfs");
    desk.machine.as_ref().unwrap().runs(2);
    assert!(first.read("/file").is_err());
    assert_eq!(second.read_to_string("/file").unwrap(), "b\n");
    assert_eq!(desk.ok("exports"), "/b\t9pfs\tro\tdomain 6 connected\n");
    drop(first);
    assert!(by_device(&clients[0]).is_none());
    desk.ok("serve /a 9pfs");
    let shown = desk.ok("exports");
    let refused = "/a\t9pfs\trw\tdomain 5 not connected, last error: the path /a is not one";
    assert!(shown.contains(refused), "{shown}");
    desk.machine.as_ref().unwrap().runs(2);
    let again = by_device(&clients[0]).unwrap();
    assert_eq!(again.read_to_string("/file").unwrap(), "more\n");
}

#[test]
fn what_went_wrong_with_a_client_is_told() {
    let (mut desk, fake) = desk();
    desk.ok("serve / vchan!5!d; serve / 9pfs");
    assert!(desk.ok("exports").ends_with("/\t9pfs\trw\tno device\n"));
    let client = domain(&fake, DomId(5));
    desk.machine.as_ref().unwrap().runs(2);
    let mut stream = vchan::connect(&client, SERVER, "d", Duration::from_secs(5)).unwrap();
    let sent = xen9p::transport::stream::ByteStream::write(&mut stream, &[0xff; 64]);
    assert_eq!(sent, Ok(64));
    desk.machine.as_ref().unwrap().runs(2);
    let shown = desk.ok("exports");
    assert!(
        shown.starts_with("/\tvchan!5!d\trw\tdomain 5 not connected, last error: "),
        "{shown}"
    );
    drop(stream);
    // It may come again, and that it leaves is no error.
    drop(by_vchan(&client, "d").unwrap());
}

#[test]
fn what_makes_no_sense_is_refused_with_the_reason() {
    let (mut desk, _) = desk();
    desk.ok("mkdir /data; write /file text; serve /data vchan!5!d; serve /data 9pfs");
    let usage = "usage: serve [-r] SOURCE 9pfs|vchan!DOMID!NAME|argo!DOMID!PORT\n";
    for (line, why) in [
        ("serve", "a source and a target are expected"),
        ("serve /data", "a source and a target are expected"),
        ("serve /data 9p", "'9p' is no way to serve"),
        ("serve /data vchan!5", "malformed address: there is no name"),
        (
            "serve /data vchan!x!d",
            "malformed address: the domain is not",
        ),
        (
            "serve /data vchan!32752!d",
            "malformed address: the domain is",
        ),
        ("serve /data argo!5!d", "malformed address: the port is not"),
        ("serve -x /data 9pfs", "unknown option -x"),
    ] {
        let said = desk.fails(2, line);
        assert!(said.starts_with(&format!("serve: {why}")), "{said}");
        assert!(said.ends_with(usage), "{said}");
    }
    for (line, why) in [
        (
            "serve /none 9pfs",
            "serve: /none: No such file or directory (ENOENT)\n",
        ),
        (
            "serve /file 9pfs",
            "serve: /file: Not a directory (ENOTDIR)\n",
        ),
        ("serve #none 9pfs", "serve: there is no tree '#none'\n"),
        (
            "serve /data 9pfs",
            "serve: /data 9pfs: something is served there already\n",
        ),
        (
            "serve / vchan!5!d",
            "serve: / vchan!5!d: something is served there already\n",
        ),
        (
            "serve / vchan!2!d",
            "serve: / vchan!2!d: the address is this domain's own, and a vchan leads to another one\n",
        ),
        ("unserve / 9pfs", "unserve: / 9pfs: this is not served\n"),
        (
            "unserve / vchan!5!d",
            "unserve: / vchan!5!d: this is not served\n",
        ),
    ] {
        assert_eq!(desk.fails(1, line), why);
    }
    let long = format!("serve / vchan!5!{}", "n".repeat(30));
    assert!(desk.fails(1, &long).contains("49"));
    desk.fails(2, "unserve /data");
    desk.fails(2, "exports /data");
    assert_eq!(desk.ok("exports").lines().count(), 2);
    assert!(desk.ok("serve --help").starts_with(usage));
    // Where nothing can be served, that is said.
    let mut alone = Desk::new().unwrap();
    assert_eq!(
        alone.fails(1, "serve / 9pfs"),
        "serve: / 9pfs: this image serves nothing\n"
    );
    assert_eq!(alone.ok("exports"), "");
}

/// A domain that is not there is waited for, and one that goes is noticed.
#[test]
fn each_domain_gets_its_own_tree_and_rights_and_nothing_of_the_others() {
    let (mut desk, fake) = desk();
    desk.ok("mkdir /b /c; write /b/f b; write /c/f c; serve -r /b vchan!5!t; serve /c vchan!6!t");
    desk.machine.as_ref().unwrap().runs(5);
    let clients = [5, 6].map(|id| domain(&fake, DomId(id)));
    let [b, c] = clients.each_ref().map(|xen| by_vchan(xen, "t").unwrap());
    assert_eq!(b.read_to_string("/f").unwrap(), "b\n");
    assert_eq!(c.read_to_string("/f").unwrap(), "c\n");
    assert_eq!(b.write("/f", "").unwrap_err().errno(), Errno::EROFS);
    c.write("/g", "c").unwrap();
    assert_eq!(b.read("/g").unwrap_err().errno(), Errno::ENOENT);
    assert_eq!(b.read("/../c/f").unwrap_err().errno(), Errno::ENOENT);
    // What is for the other is not to be had.
    let theirs = format!("/local/domain/{SERVER}/data/vchan/6/t/ring-ref");
    assert!(clients[0].store.read(&theirs).is_err());
    std::mem::forget((b, clients[0].clone()));
    fake.destroy(DomId(5));
    desk.machine.as_ref().unwrap().runs(3);
    assert!(!fake.is_zombie(DomId(5)));
    assert_eq!(
        desk.ok("exports"),
        "/b\tvchan!5!t\tro\tdomain 5 not connected\n/c\tvchan!6!t\trw\tdomain 6 connected\n"
    );
    assert_eq!(c.read_to_string("/g").unwrap(), "c");
}
