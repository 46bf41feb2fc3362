//! This terminal's keys for a console elsewhere, as `xl console` does it.

use std::io::{Read, stdin};
use std::sync::mpsc::{self, Receiver};

use crate::leave::RawTerminal;

/// Ctrl-], which ends it all.
const GIVE_UP: u8 = 0x1d;

/// Ctrl-D.
const END: u8 = 4;

/// The keys that are typed. Dropping it makes the terminal what it was.
pub struct Keyboard {
    keys: Receiver<Vec<u8>>,
    /// If stdin is a terminal.
    terminal: Option<RawTerminal>,
}

impl Keyboard {
    /// Takes the keyboard: stdin, whether or not it is a terminal.
    pub fn take() -> Keyboard {
        let terminal = RawTerminal::new();
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
        Keyboard { keys, terminal }
    }

    /// What was typed since the last call, and whether to give up.
    pub fn typed(&self) -> (Vec<u8>, bool) {
        let typed: Vec<u8> = self.keys.try_iter().flatten().collect();
        let give_up = self.terminal.is_some() && typed.contains(&GIVE_UP);
        (typed, give_up)
    }
}
