//! The section `[embedded]` of the settings, and where its data lives when nobody says.
//!
//! Not here: anything that touches the disk.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hookyard_chassis::settings::in_range;
use serde::{Deserialize, Serialize};

/// How the private PostgreSQL cluster of `hookyard up` is found and run (section `[embedded]`).
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// Directory that holds the cluster, its socket and its logs. Default: `/var/lib/hookyard` for root,
    /// else `$XDG_DATA_HOME/hookyard` or `~/.local/share/hookyard`.
    pub(crate) data_dir: Option<PathBuf>,
    /// Directory with `postgres`, `initdb` and `pg_ctl`, version 14 or newer. Default: the first found of PATH,
    /// `pg_config --bindir` and `/usr/lib/postgresql/*/bin` (newest first).
    pub(crate) bin_dir: Option<PathBuf>,
    /// How long the cluster may take until it answers, crash recovery included, in seconds, 1 to 86,400. Default: 120.
    #[serde(deserialize_with = "in_range::<_, _, 1, 86_400>")]
    pub(crate) start_timeout_s: u64,
    /// How long a fast stop may take before connections are cut without a checkpoint, in seconds, 1 to 3,600.
    /// Default: 30.
    #[serde(deserialize_with = "in_range::<_, _, 1, 3_600>")]
    pub(crate) stop_timeout_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { data_dir: None, bin_dir: None, start_timeout_s: 120, stop_timeout_s: 30 }
    }
}

impl Settings {
    /// The data directory of these settings. Fails when there is neither a setting nor a home directory.
    pub(super) fn data_dir(&self) -> Result<PathBuf> {
        let dir = match &self.data_dir {
            Some(dir) => dir.clone(),
            None => {
                let root = rustix::process::geteuid().is_root();
                default_data_dir(root, std::env::var_os("XDG_DATA_HOME"), std::env::var_os("HOME"))
                    .context("no home directory (HOME is not set): name a directory with --data-dir")?
            }
        };
        std::path::absolute(&dir)
            .with_context(|| format!("cannot resolve data directory `{}`", dir.display()))
    }

    pub(super) fn start_timeout(&self) -> Duration {
        Duration::from_secs(self.start_timeout_s)
    }

    pub(super) fn stop_timeout(&self) -> Duration {
        Duration::from_secs(self.stop_timeout_s)
    }
}

/// The default of `data_dir`. A relative `XDG_DATA_HOME` is ignored, as the XDG base directory specification says.
fn default_data_dir(root: bool, xdg: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    if root {
        return Some(PathBuf::from("/var/lib/hookyard"));
    }
    xdg.map(PathBuf::from)
        .filter(|dir| dir.is_absolute())
        .or_else(|| home.filter(|home| !home.is_empty()).map(|home| PathBuf::from(home).join(".local/share")))
        .map(|dir| dir.join("hookyard"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_data_directory_follows_the_account_and_xdg() {
        let os = |text: &str| Some(OsString::from(text));
        let cases = [
            (true, os("/x"), os("/root"), Some("/var/lib/hookyard")),
            (false, os("/x"), os("/home/a"), Some("/x/hookyard")),
            (false, os("relative"), os("/home/a"), Some("/home/a/.local/share/hookyard")),
            (false, os(""), os("/home/a"), Some("/home/a/.local/share/hookyard")),
            (false, None, os("/home/a"), Some("/home/a/.local/share/hookyard")),
            (false, None, os(""), None),
            (false, None, None, None),
        ];
        for (root, xdg, home, expected) in cases {
            let case = format!("root {root}, XDG_DATA_HOME {xdg:?}, HOME {home:?}");
            assert_eq!(default_data_dir(root, xdg, home), expected.map(PathBuf::from), "{case}");
        }
    }
}
