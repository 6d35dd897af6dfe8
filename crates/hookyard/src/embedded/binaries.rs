//! Finds the PostgreSQL that is installed on this machine. It never downloads or installs one.

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::Settings;

/// The oldest PostgreSQL the embedded cluster runs on.
const OLDEST: u32 = 14;

/// What has to lie beside each other for us to create, start and stop a cluster.
const NEEDED: [&str; 3] = ["postgres", "initdb", "pg_ctl"];

/// Where distributions keep server binaries that are not in PATH: parent, then what follows the version directory.
const PACKAGED: [(&str, &str); 2] = [("/usr/lib/postgresql", "bin"), ("/usr", "bin")];

/// One directory with the server's binaries, and their major version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Installation {
    dir: PathBuf,
    /// 15 for PostgreSQL 15.4.
    pub(super) major: u32,
}

impl Installation {
    /// The installation to use: of version `wanted` when there is already a cluster, which no other version can open.
    pub(super) fn find(settings: &Settings, wanted: Option<u32>) -> Result<Self> {
        if let Some(dir) = &settings.bin_dir {
            let Some(found) = Self::at(dir) else {
                bail!("embedded.bin_dir `{}` does not have {}", dir.display(), List(&NEEDED));
            };
            return choose(vec![found], wanted);
        }
        choose(installed(), wanted)
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The installation in `dir`, if it is complete and tells its version.
    fn at(dir: &Path) -> Option<Self> {
        // Links in /usr/local/bin lead to where all of the server lies.
        let dir = dir.join("postgres").canonicalize().ok()?.parent()?.to_owned();
        NEEDED.iter().all(|name| is_executable(&dir.join(name))).then_some(())?;
        let answer = Command::new(dir.join("postgres")).arg("--version").output().ok()?;
        let major = parse_version(&String::from_utf8_lossy(&answer.stdout))?;
        Some(Self { dir, major })
    }
}

/// Everything that is installed, in the order of preference.
fn installed() -> Vec<Installation> {
    let mut dirs: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    if let Ok(answer) = Command::new("pg_config").arg("--bindir").output()
        && answer.status.success()
    {
        dirs.push(PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim()));
    }
    for (parent, bin) in PACKAGED {
        let mut packaged: Vec<(u32, PathBuf)> = std::fs::read_dir(parent)
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let name = entry.ok()?.file_name();
                let version = name.to_str()?.trim_start_matches("pgsql-").parse().ok()?;
                Some((version, Path::new(parent).join(name).join(bin)))
            })
            .collect();
        packaged.sort_by(|left, right| right.cmp(left));
        dirs.extend(packaged.into_iter().map(|(_, dir)| dir));
    }
    dirs.iter().filter_map(|dir| Installation::at(dir)).collect()
}

/// The first of `found` that is new enough and, when a cluster exists, of its version.
fn choose(found: Vec<Installation>, wanted: Option<u32>) -> Result<Installation> {
    let suits = |found: &&Installation| match wanted {
        Some(wanted) => found.major == wanted,
        None => OLDEST <= found.major,
    };
    if let Some(found) = found.iter().find(suits) {
        return Ok(found.clone());
    }
    let known = if found.is_empty() { "none".to_owned() } else { List(&found).to_string() };
    match wanted {
        Some(wanted) => bail!(
            "the data directory was made by PostgreSQL {wanted}, which is not installed (found: {known}): install PostgreSQL {wanted} (Debian, Ubuntu: apt-get install postgresql-{wanted}), upgrade the cluster with pg_upgrade, or name another --data-dir"
        ),
        None => bail!(
            "no PostgreSQL server of version {OLDEST} or newer found in PATH, `pg_config --bindir` or /usr/lib/postgresql/*/bin (found: {known}): install one (Debian, Ubuntu: apt-get install postgresql; Fedora: dnf install postgresql-server; macOS: brew install postgresql), or name its directory in embedded.bin_dir, or set DATABASE_URL to use a running server"
        ),
    }
}

/// The major version in the answer of `postgres --version`, such as `postgres (PostgreSQL) 15.4 (Debian 15.4-1)`.
fn parse_version(answer: &str) -> Option<u32> {
    let (_, version) = answer.split_once("(PostgreSQL) ")?;
    let end = version.find(|symbol: char| !symbol.is_ascii_digit()).unwrap_or(version.len());
    version.get(..end)?.parse().ok()
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

impl fmt::Display for Installation {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "PostgreSQL {} in {}", self.major, self.dir.display())
    }
}

/// Items with commas between them.
struct List<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for List<'_, T> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, item) in self.0.iter().enumerate() {
            write!(to, "{}{item}", if position == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installation(major: u32) -> Installation {
        Installation { dir: PathBuf::from(format!("/opt/pg{major}/bin")), major }
    }

    #[test]
    fn the_version_is_read_from_releases_and_previews() {
        let cases = [
            ("postgres (PostgreSQL) 15.4\n", Some(15)),
            ("postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\n", Some(15)),
            ("postgres (PostgreSQL) 18devel", Some(18)),
            ("postgres (PostgreSQL) 17beta2", Some(17)),
            ("postgres (PostgreSQL) 9.6.24", Some(9)),
            ("postgres (PostgreSQL) ", None),
            ("postgres 15", None),
            ("", None),
        ];
        for (answer, expected) in cases {
            assert_eq!(parse_version(answer), expected, "{answer}");
        }
    }

    #[test]
    fn the_first_is_taken_unless_a_cluster_wants_its_own_version() {
        let found = vec![installation(13), installation(17), installation(15)];
        assert_eq!(choose(found.clone(), None).unwrap(), installation(17));
        assert_eq!(choose(found.clone(), Some(15)).unwrap(), installation(15));
        let error = choose(found, Some(16)).unwrap_err().to_string();
        assert!(error.contains("made by PostgreSQL 16, which is not installed"), "{error}");
        assert!(error.contains("PostgreSQL 15 in /opt/pg15/bin"), "{error}");
    }

    #[test]
    fn without_a_server_the_error_says_what_to_install() {
        for found in [vec![], vec![installation(13)]] {
            let error = choose(found, None).unwrap_err().to_string();
            assert!(error.contains("apt-get install postgresql"), "{error}");
            assert!(error.contains("DATABASE_URL"), "{error}");
        }
    }

    #[test]
    fn a_directory_without_binaries_is_refused_by_name() {
        let empty = tempfile::tempdir().unwrap();
        let settings = Settings { bin_dir: Some(empty.path().to_owned()), ..Settings::default() };
        let error = Installation::find(&settings, None).unwrap_err().to_string();
        assert!(error.contains(&empty.path().display().to_string()), "{error}");
        assert!(error.contains("postgres, initdb, pg_ctl"), "{error}");
    }
}
