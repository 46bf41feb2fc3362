//! What people type that is no command here.

/// Commands of other shells, a group of names in a string, and the command here that comes nearest.
#[rustfmt::skip]
static ELSEWHERE: &[(&str, &str)] = &[
    ("less more most", "cat"),
    ("chdir", "cd"),
    ("chgrp", "chown"),
    ("diff", "cmp"),
    ("copy dd rsync", "cp"),
    ("lsblk", "devices"),
    ("halt logout poweroff quit reboot shutdown", "exit"),
    ("tree", "find"),
    ("egrep fgrep", "grep"),
    ("dmesg", "log"),
    ("dir l la ll", "ls"),
    ("md", "mkdir"),
    ("move ren rename", "mv"),
    ("del unlink", "rm"),
    ("rd", "rmdir"),
    ("cksum md5sum sha1sum sha256sum", "sha256"),
    ("ash bash sh", "shell"),
    ("free ps top uptime", "stats"),
    ("ed emacs nano tee vi vim", "write"),
];

/// Commands of shells that have variables.
const OF_VARIABLES: &[&str] = &["declare", "env", "export", "printenv", "set", "unset"];

/// What there is instead of what was typed for a command.
pub enum Instead {
    /// A command that comes near.
    Command(&'static str),
    /// It is about variables, which are not there.
    NoVariables,
    Nothing,
}

/// What there is instead of the command `name`.
pub fn instead(name: &str) -> Instead {
    if is_assignment(name) || OF_VARIABLES.contains(&name) {
        return Instead::NoVariables;
    }
    let mut groups = ELSEWHERE.iter();
    match groups.find(|(names, _)| names.split(' ').any(|it| it == name)) {
        Some((_, command)) => Instead::Command(command),
        None => Instead::Nothing,
    }
}

/// Whether a shell would set a variable.
fn is_assignment(word: &str) -> bool {
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name = word.split_once('=').map_or("", |(name, _)| name);
    !name.is_empty() && name.chars().all(is_of_a_name)
}

#[cfg(test)]
mod tests {
    use super::super::COMMANDS;
    use super::{ELSEWHERE, OF_VARIABLES};

    #[test]
    fn what_is_not_there_leads_to_what_is() {
        let is_command = |name: &str| COMMANDS.iter().any(|command| command.name == name);
        let mut seen = OF_VARIABLES.to_vec();
        for (names, command) in ELSEWHERE {
            assert!(is_command(command), "{command}");
            seen.extend(names.split(' '));
        }
        for name in &seen {
            assert!(!is_command(name), "{name} is a command");
        }
        let count = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), count, "a name is there twice");
    }
}
