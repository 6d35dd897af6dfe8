//! The master key that `hookyard up` keeps in its data directory when it is told none: for one machine, so that nobody has to
//! set up anything. Whoever keeps keys elsewhere names them in the settings.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use hookyard_domain::vault::MasterKey;

use super::settings;

/// Where the key is in a data directory.
pub(super) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("master.key")
}

/// The key in there; `None` when there is no file. Fails when others may read it.
pub(super) fn read(path: &Path) -> anyhow::Result<Option<MasterKey>> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    };
    ensure!(
        metadata.permissions().mode() & 0o077 == 0,
        "`{}` may be read by other accounts: chmod 600 it, and rotate the key if one of them may have",
        path.display()
    );
    settings::read(path).map(Some)
}

/// Keeps a new key, and returns the one that is kept: somebody else's, if they were quicker. The file is complete and on the
/// disk before it has its name: secrets that are sealed with a lost key are lost.
pub(super) fn make(path: &Path, key: &MasterKey) -> anyhow::Result<MasterKey> {
    let staging = path.with_extension(format!("key.{:016x}", rand::random::<u64>()));
    let made = write(&staging, key).and_then(|()| {
        // Unlike a renaming, a link does not replace what is there.
        let linked = std::fs::hard_link(&staging, path);
        std::fs::remove_file(&staging)?;
        match linked {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => File::open(path.parent().unwrap_or(path))?.sync_all(),
        }
    });
    made.with_context(|| format!("cannot make the master key `{}`", path.display()))?;
    read(path)?.with_context(|| format!("the master key `{}` has disappeared", path.display()))
}

fn write(path: &Path, key: &MasterKey) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", key.expose())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> MasterKey {
        MasterKey::from_bytes([byte; 32])
    }

    #[test]
    fn the_first_key_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path());
        assert!(read(&path).unwrap().is_none());
        assert_eq!(make(&path, &key(1)).unwrap().id(), key(1).id());
        assert_eq!(make(&path, &key(2)).unwrap().id(), key(1).id(), "never overwritten");
        assert_eq!(read(&path).unwrap().unwrap().id(), key(1).id());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let names: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(names, [path], "nothing stays behind");
    }

    #[test]
    fn of_many_that_make_it_at_once_all_have_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path());
        let ids: Vec<_> = std::thread::scope(|scope| {
            let path = &path;
            let makers: Vec<_> =
                (0..16).map(|byte| scope.spawn(move || make(path, &key(byte)).unwrap().id())).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path());
        make(&path, &key(1)).unwrap();
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o610, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path).is_ok(), good, "{mode:o}");
        }
    }
}
