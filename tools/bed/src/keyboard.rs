//! This terminal's keys for the guest's console, as `xl console` does it.

use std::io::{IsTerminal, Read, stdin};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};

/// Ctrl-], which ends it all.
const GIVE_UP: u8 = 0x1d;

/// Ctrl-D.
const END: u8 = 4;

/// The keys that are typed. Dropping it makes the terminal what it was.
pub struct Keyboard {
    keys: Receiver<Vec<u8>>,
    /// The terminal's settings, if it is one.
    saved: Option<String>,
}

fn stty(arguments: &[&str]) -> Option<String> {
    let mut stty = Command::new("stty");
    let output = stty.args(arguments).stdin(Stdio::inherit()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

impl Keyboard {
    /// Takes the keyboard if the guest is to take commands from its console.
    pub fn for_app(command_line: &str) -> Option<Keyboard> {
        let is_shell = |command: &str| command.split_whitespace().any(|word| word == "shell");
        if !command_line.split(';').any(is_shell) {
            return None;
        }
        let saved = match stdin().is_terminal() {
            true => stty(&["-g"]),
            false => None,
        };
        if saved.is_some() {
            stty(&["raw", "-echo"]);
        }
        let (sender, keys) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 64];
            while let Ok(count @ 1..) = stdin().read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
            let _ = sender.send(vec![END]);
        });
        Some(Keyboard { keys, saved })
    }

    /// What was typed since the last call, and whether to give up.
    pub fn typed(&self) -> (Vec<u8>, bool) {
        let typed: Vec<u8> = self.keys.try_iter().flatten().collect();
        let give_up = self.saved.is_some() && typed.contains(&GIVE_UP);
        (typed, give_up)
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        if let Some(saved) = &self.saved {
            stty(&[saved]);
        }
    }
}
