//! The data directory: what lies where, who may enter, and that only one process uses it.
//!
//! The top belongs to us; `postgres/`, `run/` and `log/` belong to the account of the server. As root we never
//! write into those three: whoever took over the server could have put a symbolic link there.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::account::Account;

/// The port is only part of the socket's name: nothing listens on TCP.
pub(super) const PORT: u16 = 5432;

/// A Unix socket's path must fit into 104 to 108 bytes with its end mark, depending on the system.
const LONGEST_SOCKET_PATH: usize = 100;

/// An existing data directory with an absolute, resolved path in UTF-8.
#[derive(Clone, Debug)]
pub(super) struct DataDir {
    top: PathBuf,
}

impl DataDir {
    /// Opens `path`, which is made (for us alone, or for root readable by all) when it does not exist.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let mode = if rustix::process::geteuid().is_root() { 0o755 } else { 0o700 };
        DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
            .with_context(|| format!("cannot make the data directory `{}`", path.display()))?;
        Self::open(path)
    }

    /// Opens `path`, which has to exist.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let top = path
            .canonicalize()
            .with_context(|| format!("cannot open the data directory `{}`", path.display()))?;
        // The path becomes part of a connection URL and of PostgreSQL's configuration.
        ensure!(
            top.to_str().is_some_and(|text| !text.contains(['\'', '"', '\\', '\n'])),
            "the path of the data directory `{}` has to be UTF-8 without quotes, backslashes and line breaks",
            top.display()
        );
        Ok(Self { top })
    }

    pub(super) fn top(&self) -> &Path {
        &self.top
    }

    /// PostgreSQL's own data directory.
    pub(super) fn cluster(&self) -> PathBuf {
        self.top.join("postgres")
    }

    /// Where a cluster is made before it is moved to [`Self::cluster`].
    pub(super) fn staging(&self) -> PathBuf {
        self.top.join("postgres.new")
    }

    /// PostgreSQL's logs, one per weekday.
    pub(super) fn logs(&self) -> PathBuf {
        self.top.join("log")
    }

    /// What PostgreSQL says before it opens its log.
    pub(super) fn start_log(&self) -> PathBuf {
        self.top.join("postgres-start.log")
    }

    /// PostgreSQL's configuration, written by us at every start.
    pub(super) fn configuration(&self) -> PathBuf {
        self.top.join("postgres.conf")
    }

    /// The major version of the cluster in here, none when there is no cluster yet.
    pub(super) fn version(&self) -> Result<Option<u32>> {
        let path = self.cluster().join("PG_VERSION");
        match std::fs::read_to_string(&path) {
            Ok(text) => match text.trim().parse() {
                Ok(version) => Ok(Some(version)),
                Err(_) => bail!("`{}` does not hold a version: {:?}", path.display(), text.trim()),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // Never overwrite what we do not know.
                ensure!(
                    !self.cluster().exists(),
                    "`{}` is not a PostgreSQL cluster",
                    self.cluster().display()
                );
                Ok(None)
            }
            Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        }
    }

    /// Makes the directory ours until the file is dropped or we die. Fails when another process has it.
    pub(super) fn lock(&self) -> Result<File> {
        let path = self.top.join("lock");
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("cannot open `{}`", path.display()))?;
        match file.try_lock() {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // Only for the message: a process that has just locked it may not have written its number yet.
                let known = file.read_to_string(&mut owner).is_ok() && !owner.trim().is_empty();
                let owner = if known { format!(" (process {})", owner.trim()) } else { String::new() };
                bail!(
                    "the data directory `{}` is in use by another hookyard{owner}: stop it, or name another --data-dir",
                    self.top.display()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock `{}`", path.display()));
            }
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()))?;
        Ok(file)
    }

    /// Makes the directories of the server and returns the one of its socket.
    pub(super) fn prepare(&self, account: &Account) -> Result<PathBuf> {
        private_dir(&self.logs(), account)?;
        let socket = self.socket_dir();
        private_dir(&socket, account)?;
        Ok(socket)
    }

    /// `run/`, or, where that is no path for a socket, a directory under the temporary one, named after the
    /// identity of the data directory so that every start takes the same.
    pub(super) fn socket_dir(&self) -> PathBuf {
        let usual = self.top.join("run");
        if may_hold_socket(&usual) {
            return usual;
        }
        let identity = std::fs::metadata(&self.top).map(|data| (data.dev(), data.ino())).unwrap_or_default();
        let name = format!("hookyard-{:x}-{:x}", identity.0, identity.1);
        let short = std::env::temp_dir().join(&name);
        // TMPDIR may be long, too.
        if may_hold_socket(&short) { short } else { Path::new("/tmp").join(name) }
    }
}

/// Whether `dir` is short enough, and without a comma, which would make two hosts of it for libpq.
fn may_hold_socket(dir: &Path) -> bool {
    let socket = socket_path(dir);
    let text = socket.as_os_str().as_encoded_bytes();
    text.len() <= LONGEST_SOCKET_PATH && !text.contains(&b',')
}

/// The socket that a server with `dir` listens on.
pub(super) fn socket_path(dir: &Path) -> PathBuf {
    dir.join(format!(".s.PGSQL.{PORT}"))
}

/// `path` as the value of a parameter in a URL (RFC 3986 §2.1; slashes may stay as they are, §3.4).
pub(super) fn percent_encoded(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                text.push(char::from(*byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// Makes `path` a directory that `account` alone may enter. One that is there already has to be exactly that: under
/// the temporary directory anybody could have put something of this name.
fn private_dir(path: &Path, account: &Account) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => account.own(path),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let metadata = std::fs::symlink_metadata(path)
                .with_context(|| format!("cannot look at `{}`", path.display()))?;
            let private = metadata.is_dir() && metadata.permissions().mode() & 0o077 == 0;
            // A crash may have come between making it and giving it away.
            let half_made = private && metadata.uid() == rustix::process::geteuid().as_raw();
            if half_made {
                return account.own(path);
            }
            ensure!(
                private && account.owns(&metadata),
                "`{}` is not a private directory (mode 0700) of PostgreSQL's account: remove it",
                path.display()
            );
            Ok(())
        }
        Err(error) => Err(error).with_context(|| format!("cannot make `{}`", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_path_is_never_too_long_and_has_no_comma() {
        let parent = tempfile::tempdir().unwrap();
        let short = DataDir::create(&parent.path().join("a")).unwrap();
        assert_eq!(short.socket_dir(), short.top().join("run"));

        let comma = DataDir::create(&parent.path().join("a,b")).unwrap();
        assert_ne!(comma.socket_dir(), comma.top().join("run"));

        let long = DataDir::create(&parent.path().join("long".repeat(30))).unwrap();
        let socket = long.socket_dir();
        assert!(socket_path(&socket).as_os_str().len() <= LONGEST_SOCKET_PATH, "{}", socket.display());
        assert_eq!(socket, long.socket_dir(), "every start takes the same directory");
        let other = DataDir::create(&parent.path().join("gnol".repeat(30))).unwrap();
        assert_ne!(socket, other.socket_dir());
    }

    #[test]
    fn a_path_in_a_url_is_read_back_unchanged() {
        let cases = [
            ("/var/lib/hookyard/run", "/var/lib/hookyard/run"),
            ("/a b&c=%", "/a%20b%26c%3D%25"),
            ("/ö", "/%C3%B6"),
        ];
        for (path, expected) in cases {
            assert_eq!(percent_encoded(Path::new(path)), expected);
        }
    }

    #[test]
    fn a_path_that_would_break_configuration_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["a'b", "a\"b", "a\\b", "a\nb"] {
            let error = DataDir::create(&parent.path().join(name)).unwrap_err().to_string();
            assert!(error.contains("without quotes"), "{name}: {error}");
        }
        DataDir::create(&parent.path().join("mit leerzeichen, Komma & größer")).unwrap();
    }

    #[test]
    fn something_else_named_postgres_is_not_overwritten() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::create(parent.path()).unwrap();
        assert_eq!(dir.version().unwrap(), None);
        std::fs::create_dir(dir.cluster()).unwrap();
        let error = dir.version().unwrap_err().to_string();
        assert!(error.contains("is not a PostgreSQL cluster"), "{error}");
        std::fs::write(dir.cluster().join("PG_VERSION"), "17\n").unwrap();
        assert_eq!(dir.version().unwrap(), Some(17));
    }

    #[test]
    fn a_directory_that_others_may_enter_is_no_place_for_a_socket() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("run");
        let account = Account::choose(Path::new("/nonexistent")).unwrap();
        private_dir(&dir, &account).unwrap();
        private_dir(&dir, &account).unwrap();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        let error = private_dir(&dir, &account).unwrap_err().to_string();
        assert!(error.contains("is not a private directory"), "{error}");
    }
}
