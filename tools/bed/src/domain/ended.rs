//! How guests end: what Xen is told, and what they say themselves.

/// What xl says of how a domain ended (Xen public/sched.h, SHUTDOWN_*).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The guest powered off.
    PowerOff,
    /// It asked to be started again.
    Reboot,
    /// It crashed, or told so.
    Crash,
    /// Something else: suspend, watchdog, soft reset.
    Other(u32),
}

impl Reason {
    pub(super) fn from_xl(output: &str) -> Option<Reason> {
        let rest = output.split("has shut down, reason code ").nth(1)?;
        let code = rest.split_whitespace().next()?.parse().ok()?;
        Some(match code {
            0 => Reason::PowerOff,
            1 => Reason::Reboot,
            3 => Reason::Crash,
            other => Reason::Other(other),
        })
    }
}

/// How a domain ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Why, as Xen was told; `None` if xl could not create it, or it vanished.
    pub reason: Option<Reason>,
    /// All that was on its console.
    pub console: String,
    /// What xl printed.
    pub xl: String,
}

/// What the guest itself had to say at its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// `[xen9p] exit N`
    Exit(i32),
    /// `[xen9p] panic: TEXT`
    Panic(String),
    /// Neither.
    Missing,
}

impl Verdict {
    /// Finds it on a console.
    pub fn from_console(console: &str) -> Verdict {
        for line in console.lines().rev() {
            if let Some((_, text)) = line.split_once("[xen9p] panic: ") {
                return Verdict::Panic(text.trim_end().to_owned());
            }
            if let Some((_, status)) = line.split_once("[xen9p] exit ")
                && let Ok(status) = status.trim().parse()
            {
                return Verdict::Exit(status);
            }
        }
        Verdict::Missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_verdict_counts() {
        assert_eq!(Verdict::from_console("hello\n"), Verdict::Missing);
        assert_eq!(
            Verdict::from_console("[xen9p] exit 3\r\n"),
            Verdict::Exit(3)
        );
        assert_eq!(
            Verdict::from_console("[xen9p] exit 0\nregisters\n[xen9p] panic: page fault at 0x10\n"),
            Verdict::Panic("page fault at 0x10".to_owned())
        );
    }

    #[test]
    fn reasons_are_read_from_what_xl_prints() {
        assert_eq!(
            Reason::from_xl("Domain 3 has shut down, reason code 3 0x3\n"),
            Some(Reason::Crash)
        );
        assert_eq!(Reason::from_xl("Parsing config\n"), None);
    }
}
