//! tshark's 9P dissector reads the capture of a session, and finds the messages that were sent.

use std::process::Command;

use xen9p::fs::{Error, Fs, MountOptions};
use xen9p::p9::trace::Capture;
use xen9p::transport::Transport;
use xen9p_testing::server::TempDir;
use xen9p_testing::server::lanes::{LaneOptions, lanes};
use xen9p_testing::server::mem::{MemOptions, MemServer};
use xen9p_testing::server::qemu::{QemuOptions, qemu};
use xen9p_testing::server::real::{diod, find, ninep};

/// A packet as tshark sees it.
#[derive(Debug)]
struct Packet {
    /// The number of the TCP connection.
    stream: u32,
    kind: u8,
    tag: u16,
    cut: bool,
    /// Microseconds since 1970.
    at: u64,
}

/// What tshark makes of a capture; `None` if it isn't installed. Nothing in it may be malformed or out of order.
fn tshark(file: &[u8]) -> Option<Vec<Packet>> {
    let program = find("tshark", "tshark")?;
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("capture.pcap");
    std::fs::write(&path, file).unwrap();
    let fields = [
        "tcp.stream",
        "9p.msgtype",
        "9p.tag",
        "_ws.short",
        "frame.time_epoch",
        "_ws.malformed",
        "_ws.expert",
        "tcp.analysis.flags",
    ];
    let mut command = Command::new(program);
    command.arg("-r").arg(&path).args(["-T", "fields"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{output:?}",
        output = output.stderr
    );
    let packet = |line: &str| {
        let values: Vec<&str> = line.split('\t').collect();
        assert_eq!(values[5..], ["", "", ""], "{line}");
        Packet {
            stream: values[0].parse().unwrap(),
            kind: values[1].parse().expect(line),
            tag: values[2].parse().expect(line),
            cut: !values[3].is_empty(),
            at: (values[4].parse::<f64>().unwrap() * 1e6) as u64,
        }
    };
    Some(text.lines().map(packet).collect())
}

/// A bit of everything, with messages that are longer than a TCP segment can be.
fn work(fs: &Fs) -> Result<(), Error> {
    let large = vec![7; 300_000];
    fs.create_dir("/etc")?;
    fs.write("/etc/motd", "hello\nyou")?;
    fs.write("/large", &large)?;
    assert!(fs.read("/large")? == large);
    assert!(fs.read("/nope").is_err());
    for number in 0..20 {
        fs.write(format!("/etc/{number}"), "")?;
    }
    assert_eq!(fs.read_dir("/etc")?.count(), 21);
    fs.remove_file("/etc/motd")
}

/// Each reply answers the last request of its tag on its connection; returns the requests.
fn requests(packets: &[Packet], stream: u32) -> Vec<(u8, u16)> {
    let mut open = std::collections::HashMap::new();
    let mut requests = Vec::new();
    for packet in packets.iter().filter(|packet| packet.stream == stream) {
        if packet.kind % 2 == 0 {
            let before = open.insert(packet.tag, packet.kind);
            assert_eq!(before, None, "{packet:?} before an answer");
            requests.push((packet.kind, packet.tag));
        } else {
            let asked: u8 = open.remove(&packet.tag).expect("asked");
            let fits = packet.kind == asked + 1 || [7, 107].contains(&packet.kind);
            assert!(fits, "{packet:?} answers {asked}");
        }
    }
    assert!(open.is_empty(), "{open:?}");
    requests
}

#[test]
fn tshark_reads_every_message() {
    // 2023-11-14.
    const EPOCH: u64 = 1_700_000_000_000_000_000;
    let capture = Capture::new(8 << 20, EPOCH);
    let (mut controls, mut begun) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let mut server = MemServer::new(MemOptions {
            msize: 1 << 18,
            ..MemOptions::default()
        });
        let options = LaneOptions {
            lanes: 3,
            capacity: 1 << 19,
            ..LaneOptions::default()
        };
        let (transport, control) = lanes(options, move |request| server.handle(request));
        begun.push(control.now().as_nanos());
        let fs = Fs::mount(capture.watch(Box::new(transport)), &MountOptions::new()).unwrap();
        work(&fs).unwrap();
        controls.push(control);
    }
    assert_eq!(capture.missed(), 0);
    let Some(packets) = tshark(&capture.end().concat()) else {
        return;
    };
    for (stream, control) in controls.iter().enumerate() {
        let mut seen = requests(&packets, stream as u32);
        let mut served = control.served();
        seen.sort();
        served.sort();
        assert_eq!(seen, served);
    }
    assert!(packets.iter().any(|packet| packet.cut));
    assert!(packets.iter().any(|packet| !packet.cut));
    // Each has a clock of its own, the client's.
    for (packets, begun) in packets.chunk_by(|a, b| a.stream == b.stream).zip(begun) {
        assert!(packets.is_sorted_by_key(|packet| packet.at));
        assert!(packets[0].at.abs_diff((EPOCH + begun) / 1000) <= 1);
    }
}

/// As many packets as the client counted messages.
fn captured(transport: impl Transport + 'static, export: &TempDir, options: &MountOptions) {
    let capture = Capture::new(8 << 20, 0);
    let fs = Fs::mount(capture.watch(Box::new(transport)), options).unwrap();
    work(&fs).unwrap();
    fs.to_async().session().pump();
    let stats = fs.stats();
    let file = capture.end().concat();
    assert!(export.path().join("etc/19").exists());
    let Some(packets) = tshark(&file) else { return };
    let requests = packets.iter().filter(|packet| packet.kind % 2 == 0).count();
    assert_eq!(requests as u64, stats.requests);
    assert_eq!((packets.len() - requests) as u64, stats.replies);
}

#[test]
fn captures_of_real_servers() {
    let export = TempDir::new().unwrap();
    if let Some(transport) = diod(export.path()).unwrap() {
        let tree = MountOptions::new().tree(export.path().to_str().unwrap());
        captured(transport, &export, &tree);
    }
    let export = TempDir::new().unwrap();
    if let Some(transport) = qemu(export.path(), QemuOptions::default()).unwrap() {
        captured(transport, &export, &MountOptions::new());
    }
    // 9P2000.
    let export = TempDir::new().unwrap();
    let transport = ninep(export.path()).unwrap();
    captured(transport, &export, &MountOptions::new());
}

#[test]
fn what_comes_last_is_kept() {
    let mut server = MemServer::new(MemOptions::default());
    let (transport, control) = lanes(LaneOptions::default(), move |request| {
        server.handle(request)
    });
    let capture = Capture::new(0, 0);
    let fs = Fs::mount(capture.watch(Box::new(transport)), &MountOptions::new()).unwrap();
    for _ in 0..2000 {
        fs.write("/f", "").unwrap();
    }
    let messages = 2 * control.served().len() as u64;
    let pieces = capture.end();
    let memory: usize = pieces.iter().map(Vec::capacity).sum();
    assert!(memory < (128 << 10) + 100, "{memory}");
    // What passes after the end is not kept.
    fs.write("/g", "").unwrap();
    assert_eq!(capture.end().len(), 1);
    let Some(packets) = tshark(&pieces.concat()) else {
        return;
    };
    assert!(capture.missed() > 0 && packets.len() > 500);
    assert_eq!(capture.missed() + packets.len() as u64, messages);
}
