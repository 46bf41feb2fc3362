//! QEMU's test interface: one line of text per access to the machine's memory and devices
//! (QEMU `softmmu/qtest.c`).

use std::io::{self, BufRead, BufReader, Write};
use std::mem;
use std::process::ChildStdin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::real::Process;

/// QEMU answers an access well within this, however busy the machine.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// A machine at the other end of two pipes.
pub struct Qtest {
    to: ChildStdin,
    lines: Receiver<String>,
    /// An interrupt was raised since this was last looked at.
    interrupted: bool,
    _process: Process,
}

impl Qtest {
    /// The machine of a QEMU with `-qtest stdio` and piped standard input and output.
    pub fn new(mut process: Process) -> Self {
        let (to, from) = process.pipes().expect("piped, and not taken yet");
        let (sender, lines) = channel();
        // Ends with QEMU, or with the receiver.
        thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Qtest {
            to,
            lines,
            interrupted: false,
            _process: process,
        }
    }

    /// Gives a command and returns what follows the "OK".
    fn command(&mut self, command: &str) -> io::Result<String> {
        // In one piece: QEMU wakes up for each.
        self.to.write_all(format!("{command}\n").as_bytes())?;
        loop {
            let line = self
                .lines
                .recv_timeout(REPLY_TIMEOUT)
                .map_err(io::Error::other)?;
            if let Some(answer) = line.strip_prefix("OK") {
                return Ok(answer.trim().to_owned());
            }
            if !self.notice(&line) {
                return Err(io::Error::other(format!("{command}: {line}")));
            }
        }
    }

    /// Takes note of an interrupt, if that is what the line is about.
    fn notice(&mut self, line: &str) -> bool {
        self.interrupted |= line.starts_with("IRQ raise");
        line.starts_with("IRQ")
    }

    /// Asks to be told of interrupts that reach a controller, instead of the processor.
    pub fn intercept(&mut self, controller: &str) -> io::Result<()> {
        self.command(&format!("irq_intercept_in {controller}"))
            .map(drop)
    }

    /// Whether there was an interrupt since this was last asked. Doesn't wait, and asks QEMU for nothing.
    pub fn interrupted(&mut self) -> io::Result<bool> {
        while !self.interrupted {
            match self.lines.try_recv() {
                Ok(line) => self.notice(&line),
                Err(TryRecvError::Empty) => break,
                Err(gone) => return Err(io::Error::other(gone)),
            };
        }
        Ok(mem::take(&mut self.interrupted))
    }

    /// Waits for an interrupt, no longer than `timeout`. It is left for [`Qtest::interrupted`] to tell.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        while !self.interrupted {
            match self.lines.recv_timeout(timeout) {
                Ok(line) => self.notice(&line),
                Err(RecvTimeoutError::Timeout) => break,
                Err(gone) => return Err(io::Error::other(gone)),
            };
        }
        Ok(())
    }

    pub fn read_u32(&mut self, address: u64) -> io::Result<u32> {
        let value = self.number(&format!("readl {address:#x}"))?;
        u32::try_from(value).map_err(io::Error::other)
    }

    pub fn read_u64(&mut self, address: u64) -> io::Result<u64> {
        self.number(&format!("readq {address:#x}"))
    }

    fn number(&mut self, command: &str) -> io::Result<u64> {
        let answer = self.command(command)?;
        let digits = answer.trim_start_matches("0x");
        u64::from_str_radix(digits, 16).map_err(io::Error::other)
    }

    pub fn write_u32(&mut self, address: u64, value: u32) -> io::Result<()> {
        self.command(&format!("writel {address:#x} {value:#x}"))
            .map(drop)
    }

    pub fn read(&mut self, address: u64, len: usize) -> io::Result<Vec<u8>> {
        let answer = self.command(&format!("b64read {address:#x} {len:#x}"))?;
        STANDARD.decode(answer).map_err(io::Error::other)
    }

    pub fn write(&mut self, address: u64, bytes: &[u8]) -> io::Result<()> {
        let text = STANDARD.encode(bytes);
        self.command(&format!("b64write {address:#x} {:#x} {text}", bytes.len()))
            .map(drop)
    }
}
