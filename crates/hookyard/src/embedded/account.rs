//! The account PostgreSQL runs under: ours, or an unprivileged one when we are root (PostgreSQL refuses root).
//!
//! Switching is left to the standard library: between fork and exec it drops the supplementary groups (because
//! no others are named), then sets gid and uid, then changes the directory.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

/// The accounts root gives its cluster to, best first. `nobody` is on every machine.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// A uid and gid, and whether we have to switch to them.
#[derive(Clone, Debug)]
pub(super) struct Account {
    uid: u32,
    gid: u32,
    switch: bool,
}

impl Account {
    /// The account for the cluster in `cluster`: its owner when it exists, else ours, else (for root) the first
    /// of [`CANDIDATES`]. Fails when the cluster belongs to somebody else whom we cannot become.
    pub(super) fn choose(cluster: &Path) -> Result<Self> {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let us = Self { uid: uid.as_raw(), gid: gid.as_raw(), switch: false };
        let owner = match std::fs::metadata(cluster) {
            Ok(metadata) => Some((metadata.uid(), metadata.gid())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot look at `{}`", cluster.display()));
            }
        };
        match owner {
            Some((0, _)) => bail!(
                "`{}` belongs to root, and PostgreSQL refuses to run as root: give it to an unprivileged account (chown -R)",
                cluster.display()
            ),
            Some((uid, gid)) if us.uid == 0 => Ok(Self { uid, gid, switch: true }),
            Some((uid, _)) => {
                ensure!(
                    uid == us.uid,
                    "`{}` belongs to the account with uid {uid}, we are uid {}: start hookyard as that account or as root, or name another --data-dir",
                    cluster.display(),
                    us.uid
                );
                Ok(us)
            }
            None if us.uid == 0 => {
                let passwd = std::fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
                unprivileged(&passwd).with_context(|| {
                    format!(
                        "PostgreSQL refuses to run as root, and there is none of the accounts {CANDIDATES:?}"
                    )
                })
            }
            None => Ok(us),
        }
    }

    /// A command of PostgreSQL under this account. The environment is not inherited: `PGDATA`, `PGPORT`,
    /// `PGOPTIONS` and the like would change what it does.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").stdin(Stdio::null()).current_dir("/");
        for name in ["PATH", "LD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if self.switch {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Gives `path` to this account. Does nothing when it is ours anyway.
    pub(super) fn own(&self, path: &Path) -> Result<()> {
        if self.switch {
            std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
                .with_context(|| format!("cannot give `{}` to uid {}", path.display(), self.uid))?;
        }
        Ok(())
    }

    /// Whether `path` belongs to this account.
    pub(super) fn owns(&self, metadata: &std::fs::Metadata) -> bool {
        metadata.uid() == self.uid
    }

    /// Fails, naming the obstacle, when this account cannot run `program` or cannot enter `dir`.
    pub(super) fn check_access(&self, program: &Path, dir: &Path) -> Result<()> {
        // The only answer that is right for modes, ACLs and mount options alike comes from trying.
        let attempt = |dir: &Path| {
            let mut command = self.command(program);
            command.arg("--version").current_dir(dir).stdout(Stdio::null()).stderr(Stdio::null()).status()
        };
        if attempt(dir).is_ok() {
            return Ok(());
        }
        attempt(Path::new("/")).with_context(|| {
            format!("the account with uid {} cannot run `{}`", self.uid, program.display())
        })?;
        let closed = dir.ancestors().filter(|dir| !self.may_enter(dir)).last().unwrap_or(dir);
        bail!(
            "PostgreSQL runs as the account with uid {} and cannot reach the data directory, because `{}` is closed to it: name another --data-dir (or open it: chmod o+x)",
            self.uid,
            closed.display()
        )
    }

    fn may_enter(&self, dir: &Path) -> bool {
        std::fs::metadata(dir).is_ok_and(|metadata| {
            let bit = if metadata.uid() == self.uid {
                0o100
            } else if metadata.gid() == self.gid {
                0o010
            } else {
                0o001
            };
            metadata.mode() & bit != 0
        })
    }
}

/// The first of [`CANDIDATES`] in the text of `/etc/passwd`.
fn unprivileged(passwd: &str) -> Option<Account> {
    CANDIDATES.iter().find_map(|candidate| {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next()? != *candidate {
                return None;
            }
            let uid = fields.nth(1)?.parse().ok().filter(|uid| *uid != 0)?;
            let gid = fields.next()?.parse().ok()?;
            Some(Account { uid, gid, switch: true })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_prefers_the_account_postgres_and_never_takes_uid_0() {
        let cases = [
            (
                "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/x\npostgres:x:105:111::/:/x",
                Some((105, 111)),
            ),
            ("root:x:0:0::/root:/bin/sh\nnobody:x:65534:65533::/:/x", Some((65534, 65533))),
            ("postgres:x:0:0::/:/x\nnobody:x:65534:65534::/:/x", Some((65534, 65534))),
            ("postgres:x\nnobody:x:many:1::", None),
            ("postgresql:x:1:1::\n", None),
            ("", None),
        ];
        for (passwd, expected) in cases {
            assert_eq!(unprivileged(passwd).map(|account| (account.uid, account.gid)), expected, "{passwd}");
        }
    }
}
