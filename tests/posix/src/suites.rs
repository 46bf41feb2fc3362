//! The suites, each in a process of its own and for a limited time.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How one test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// Every test by name.
pub type Outcomes = BTreeMap<String, Outcome>;

/// Where the programs are and where to write.
pub struct Suites {
    pub pjdfstest: PathBuf,
    pub fsx: PathBuf,
    /// Configurations and output.
    pub logs: PathBuf,
    /// A file system other than those under test.
    pub other_fs: PathBuf,
}

impl Suites {
    /// Runs pjdfstest in `dir`, or those of its tests whose names contain one of `only`. What it says
    /// goes to the file `NAME-pjdfstest.log`.
    pub fn pjdfstest(
        &self,
        name: &str,
        dir: &Path,
        only: &[&str],
        limit: Duration,
    ) -> io::Result<Outcomes> {
        let config = self.logs.join("pjdfstest.toml");
        fs::write(&config, pjdfstest_config()?)?;
        let log = self.logs.join(format!("{name}-pjdfstest.log"));
        let mut command = Command::new(&self.pjdfstest);
        command
            .arg("-c")
            .arg(config)
            .arg("-p")
            .arg(dir)
            .arg("-s")
            .arg(&self.other_fs)
            .args(only);
        // Its status says whether tests failed, which is seen better from the list.
        let status = run(&mut command, &log, limit)?;
        let outcomes = parse(&fs::read_to_string(&log)?);
        if outcomes.is_empty() {
            return Err(io::Error::other(format!(
                "pjdfstest ran no test ({status}); see {}",
                log.display()
            )));
        }
        Ok(outcomes)
    }

    /// Runs fsx on a file in `dir`, with this many operations of a sequence that `seed` decides.
    pub fn fsx(
        &self,
        name: &str,
        dir: &Path,
        config: &str,
        operations: u32,
        seed: u64,
        limit: Duration,
    ) -> io::Result<()> {
        let file = self.logs.join(format!("{name}.toml"));
        fs::write(&file, config)?;
        let log = self.logs.join(format!("{name}.log"));
        let mut command = Command::new(&self.fsx);
        command
            .arg("-f")
            .arg(file)
            .args(["-N", &operations.to_string(), "-S", &seed.to_string()]);
        command.arg("-P").arg(&self.logs).arg(dir.join("fsx"));
        let status = run(&mut command, &log, limit)?;
        if status.success() {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "fsx failed ({status}); see {}",
            log.display()
        )))
    }
}

/// Runs a command with all it says going to a file; ends it when it takes longer than `limit`.
fn run(command: &mut Command, log: &Path, limit: Duration) -> io::Result<ExitStatus> {
    let output = File::create(log)?;
    command
        .stdin(Stdio::null())
        .stderr(output.try_clone()?)
        .stdout(output);
    let mut child = command.spawn()?;
    let deadline = Instant::now() + limit;
    // std has no way to wait with a limit.
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.kill()?;
    child.wait()?;
    Err(io::Error::other(format!(
        "not done after {limit:?}; see {}",
        log.display()
    )))
}

/// Two users that every Linux has take the place of the suite's own; it wants their groups' names.
fn pjdfstest_config() -> io::Result<String> {
    let mut entries = Vec::new();
    for user in ["nobody", "daemon"] {
        let output = Command::new("id").args(["-gn", user]).output()?;
        entries.push(format!(
            "[{user:?}, {:?}]",
            String::from_utf8_lossy(&output.stdout).trim()
        ));
    }
    Ok(format!(
        "[features]\nposix_fallocate = {{}}\nrename_ctime = {{}}\nutimensat = {{}}\nutime_now = {{}}\n\
         [settings]\nnaptime = 0.02\nallow_remount = false\n\
         [dummy_auth]\nentries = [{}]\n",
        entries.join(", ")
    ))
}

/// Reads pjdfstest's list: a line for each test, reasons in indented lines.
fn parse(output: &str) -> Outcomes {
    let line = |line: &str| {
        if line.starts_with(char::is_whitespace) {
            return None;
        }
        let (name, outcome) = line.rsplit_once(' ')?;
        let outcome = match outcome {
            "ok" => Outcome::Passed,
            "FAILED" => Outcome::Failed,
            "skipped" => Outcome::Skipped,
            _ => return None,
        };
        Some((name.trim_end().to_owned(), outcome))
    };
    output.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read() {
        let output = "chmod::a::regular          ok\nchmod::b    FAILED\n\twhy ok\nopen::c  skipped\n\treason\n\n\
                      Summary: 1 failed, 1 skipped, 1 passed, 0 expected failures, 3 total\n";
        let outcomes = parse(output);
        let expected = [
            ("chmod::a::regular", Outcome::Passed),
            ("chmod::b", Outcome::Failed),
            ("open::c", Outcome::Skipped),
        ];
        assert_eq!(
            outcomes,
            expected
                .map(|(name, outcome)| (name.to_owned(), outcome))
                .into()
        );
    }
}
