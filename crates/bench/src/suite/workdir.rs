//! The suite's folder of temporary files: logs of the children, data of private clusters. Deleted at the end unless kept.

use std::{
    cell::Cell,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The folder; its `Drop` deletes it.
pub(crate) struct WorkDir {
    path: PathBuf,
    kept: Cell<bool>,
}

impl WorkDir {
    /// Makes a folder for this process in `parent`, which every user can enter.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn create(parent: &Path) -> Result<Self> {
        let path = parent.join(format!("hookyard-bench-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        // When the suite runs as root, the private Postgres runs as another user and has to get in.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Self { path: path.canonicalize()?, kept: Cell::new(false) })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Lets the folder stay when the suite ends, if there is anything in it; tells whether there is.
    pub(crate) fn keep(&self) -> bool {
        let mut entries = fs::read_dir(&self.path).into_iter().flatten();
        self.kept.set(entries.next().is_some());
        self.kept.get()
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if !self.kept.get()
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            eprintln!("cannot delete {}: {error}", self.path.display());
        }
    }
}
