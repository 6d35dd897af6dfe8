//! Child processes whose output goes to a log file and that end with the value that holds them.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// How long a child may take to stop after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(20);
/// Lines of a log that an error shows.
const TAIL_LINES: usize = 15;

/// A running child; its `Drop` stops it with SIGTERM, and with SIGKILL when that does not help.
pub(crate) struct Process {
    /// Name in messages and reports.
    pub(crate) name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output in `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(name: &'static str, mut command: Command, log: PathBuf) -> Result<Self> {
        redirect(&mut command, &log)?;
        // A group of its own: Ctrl-C in the terminal reaches the suite only, which then stops its children in order.
        let child = command.process_group(0).spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, child, log })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes sure that it still runs.
    ///
    /// # Errors
    /// When it ended; the text shows the end of its log.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}\n{}", self.name, tail(&self.log)),
        }
    }

    /// The log and its last lines, for errors.
    pub(crate) fn log_tail(&self) -> String {
        tail(&self.log)
    }

    /// Waits until the child ended by itself.
    ///
    /// # Errors
    /// When it ended with another status than 0; the text shows the end of its log.
    pub(crate) async fn finished(&mut self) -> Result<()> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return succeeded(self.name, status, &self.log);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn wait_until(&mut self, deadline: Instant) -> bool {
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(_)) | Err(_) => return true,
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        false
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        signal(self.child.id(), "TERM");
        if !self.wait_until(Instant::now() + GRACE) {
            eprintln!("{} did not stop within {GRACE:?} and is killed", self.name);
            let _ended = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}

/// Sends a signal to a process that the suite started.
pub(crate) fn signal(pid: u32, name: &str) {
    // The kill program, because a safe Rust program has no system call for this.
    let sent = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status();
    if let Err(error) = sent {
        eprintln!("cannot signal process {pid}: {error}");
    }
}

/// Runs `command` to its end and returns its standard output; standard error goes to `log`.
///
/// # Errors
/// When it cannot be run or ends with another status than 0; the text shows the end of its log.
pub(crate) fn output(name: &str, command: &mut Command, log: &Path) -> Result<String> {
    command.stdin(Stdio::null()).stderr(append(log)?);
    let out = command.output().with_context(|| format!("cannot start {name}"))?;
    succeeded(name, out.status, log)?;
    Ok(String::from_utf8(out.stdout)?)
}

fn succeeded(name: &str, status: ExitStatus, log: &Path) -> Result<()> {
    if !status.success() {
        bail!("{name} ended with {status}\n{}", tail(log));
    }
    Ok(())
}

fn redirect(command: &mut Command, log: &Path) -> Result<()> {
    let file = append(log)?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    Ok(())
}

fn append(log: &Path) -> Result<File> {
    let file = File::options().create(true).append(true).open(log);
    file.with_context(|| format!("cannot write {}", log.display()))
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    format!("{}:\n  {}", log.display(), last.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("hookyard-bench-test-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_dropped_process_is_stopped() {
        let log = log("dropped");
        let mut command = Command::new("sleep");
        command.arg("600");
        let mut process = Process::start("sleep", command, log.clone()).unwrap();
        process.check().unwrap();
        let pid = process.pid();
        assert_eq!(crate::cost::parent(pid), Some(std::process::id()));
        drop(process);
        assert_eq!(crate::cost::parent(pid), None);
        fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_failed_command_shows_the_end_of_its_log() {
        let log = log("failed");
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo reason >&2; exit 3"]);
        let error = output("sh", &mut command, &log).unwrap_err().to_string();
        assert!(error.contains("reason") && error.contains("3"), "{error}");
        fs::remove_file(log).unwrap();
    }
}
