//! What passes between the image and the backend, as lines of the log and as a capture that tshark reads.

use std::path::Path;
use std::process::Command;

use super::Test;
use super::lab::{Lab, ends_with, shows};
use crate::domain::Backend;
use crate::fail;
use crate::host::{Context, Result};

pub const TESTS: &[Test] = &[("trace-lines", lines), ("trace-pcap", pcap)];

fn lines(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    share.write("motd", b"hello\n")?;
    let guest = lab
        .guest("log=info,p9=trace cat /motd /nope")
        .with("share", &share);
    let ended = lab.run(&guest)?;
    ends_with(&ended, 1)?;
    let refused = match lab.backend {
        Backend::Daemon => "Rerror {",
        _ => "Rlerror No such file or directory (ENOENT)",
    };
    for parts in [
        ["-> 65535 Tversion", "version: \"9P2000.L\""],
        [" Twalk {", "names: [\"motd\"]"],
        ["<- ", " Rread {"],
        ["<- ", refused],
    ] {
        let has = |line: &str| parts.iter().all(|part| line.contains(part));
        if !ended.console.lines().any(has) {
            return Err(fail!("no line of the trace has {parts:?}"));
        }
    }
    Ok(())
}

/// Two shares, a large file, and a command that fails: the capture is there all the same.
fn pcap(lab: &mut Lab<'_>) -> Result<()> {
    let (share, logs) = (lab.directory()?, lab.directory()?);
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7 / 5) as u8).collect();
    share.write("large.bin", &large)?;
    let line = "trace=pcap:logs:/run.pcap mount=share:/,logs:/logs cp /large.bin /logs/copy.bin; ls /; stats; cat /nope";
    let guest = lab.guest(line).with("share", &share).with("logs", &logs);
    let ended = lab.run(&guest)?;
    ends_with(&ended, 1)?;
    shows(&ended.console, "cat: /nope: No such file")?;
    logs.holds("copy.bin", &large)?;

    let packets = tshark(&logs.path.join("run.pcap"))?;
    let requests = packets.iter().filter(|(_, kind)| kind % 2 == 0).count();
    let counter = |name: &str| {
        let line = ended.console.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().last()?.parse::<usize>().ok())
    };
    // Counted by the client, shortly before the end.
    let counted = counter("requests ").ok_or_else(|| fail!("stats tells no requests"))?;
    if requests < counted || requests > counted + 20 {
        return Err(fail!(
            "{requests} requests in the capture, {counted} counted"
        ));
    }
    // Each connection begins with Tversion; Rlerror is of the last command; the large file was read and written.
    for wanted in [(0, 100), (1, 100), (0, 7), (0, 117), (1, 118)] {
        if !packets.contains(&wanted) {
            return Err(fail!("the capture has no {wanted:?}"));
        }
    }
    Ok(())
}

/// Number of the connection and message type of each packet, if every one is a sound 9P message.
fn tshark(path: &Path) -> Result<Vec<(u32, u8)>> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(path).args(["-T", "fields"]);
    for field in ["tcp.stream", "9p.msgtype", "_ws.malformed", "_ws.expert"] {
        command.args(["-e", field]);
    }
    let output = command.output().during("run", Path::new("tshark"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let packet = |line: &str| match line.split('\t').collect::<Vec<_>>()[..] {
        [stream, kind, "", ""] => Some((stream.parse().ok()?, kind.parse().ok()?)),
        _ => None,
    };
    text.lines()
        .map(|line| packet(line).ok_or_else(|| fail!("tshark on a message: {line}")))
        .collect()
}
