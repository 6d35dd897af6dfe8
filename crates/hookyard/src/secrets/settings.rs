//! The section `[secrets]` of the settings, and the keys that it names.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use hookyard_chassis::settings::Secret;
use hookyard_domain::vault::MasterKey;
use serde::{Deserialize, Serialize};

/// The master keys that secrets in the database are sealed with (section `[secrets]`).
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// The key that is sealed with: 32 bytes as base64 or hexadecimal. Default: none; `hookyard up` then keeps one in its data
    /// directory.
    pub(crate) master_key: Option<Secret>,
    /// A file with that key, instead of it. Default: none.
    pub(crate) master_key_file: Option<PathBuf>,
    /// Keys that values may still, or already, be sealed with: they open and do not seal. Default: none. From the environment:
    /// separated by commas.
    pub(crate) previous_master_keys: Vec<Secret>,
    /// Files with such keys. Default: none. From the environment: separated by commas.
    pub(crate) previous_master_key_files: Vec<PathBuf>,
}

impl Settings {
    /// Whether every key can be read.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        self.current()?;
        self.previous()?;
        Ok(())
    }

    /// The key that is sealed with, if one is named.
    pub(crate) fn current(&self) -> anyhow::Result<Option<MasterKey>> {
        match (&self.master_key, &self.master_key_file) {
            (Some(_), Some(_)) => {
                anyhow::bail!(
                    "secrets.master_key and secrets.master_key_file are both set: remove one of them"
                )
            }
            (Some(text), None) => {
                parsed(text.expose()).context("secrets.master_key is not acceptable").map(Some)
            }
            (None, Some(path)) => read(path).context("secrets.master_key_file is not acceptable").map(Some),
            (None, None) => Ok(None),
        }
    }

    /// The keys that open and do not seal.
    pub(crate) fn previous(&self) -> anyhow::Result<Vec<MasterKey>> {
        let texts = self
            .previous_master_keys
            .iter()
            .map(|text| parsed(text.expose()).context("secrets.previous_master_keys is not acceptable"));
        let files = self
            .previous_master_key_files
            .iter()
            .map(|path| read(path).context("secrets.previous_master_key_files is not acceptable"));
        texts.chain(files).collect()
    }
}

/// The key in a file.
pub(super) fn read(path: &Path) -> anyhow::Result<MasterKey> {
    /// A key in any spelling with white space; more is another file.
    const LONGEST: u64 = 1024;
    let length = std::fs::metadata(path).with_context(|| format!("cannot read `{}`", path.display()))?.len();
    ensure!(length <= LONGEST, "`{}` is too long to be a master key", path.display());
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    parsed(&text).with_context(|| format!("`{}` does not hold a master key", path.display()))
}

fn parsed(text: &str) -> anyhow::Result<MasterKey> {
    Ok(MasterKey::parse(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> MasterKey {
        MasterKey::from_bytes([byte; 32])
    }

    #[test]
    fn the_current_key_has_one_source() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, format!("{}\n", key(2).expose())).unwrap();
        let (text, file) = (Some(Secret::new(key(1).expose())), Some(file));
        let id = |master_key: &Option<Secret>, master_key_file: &Option<PathBuf>| {
            let settings = Settings {
                master_key: master_key.clone(),
                master_key_file: master_key_file.clone(),
                ..Settings::default()
            };
            settings.current().map(|key| key.map(|key| key.id())).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(id(&None, &None), Ok(None));
        assert_eq!(id(&text, &None), Ok(Some(key(1).id())));
        assert_eq!(id(&None, &file), Ok(Some(key(2).id())));
        assert!(id(&text, &file).unwrap_err().contains("both set"));
    }

    #[test]
    fn previous_keys_come_from_both_lists() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, key(2).expose()).unwrap();
        let settings = Settings {
            previous_master_keys: vec![Secret::new(key(1).expose())],
            previous_master_key_files: vec![file],
            ..Settings::default()
        };
        let ids: Vec<_> = settings.previous().unwrap().iter().map(MasterKey::id).collect();
        assert_eq!(ids, [key(1).id(), key(2).id()]);
    }

    #[test]
    fn a_refusal_names_the_setting_and_not_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let (short, long) = (dir.path().join("short"), dir.path().join("long"));
        std::fs::write(&short, "hush").unwrap();
        std::fs::write(&long, "A".repeat(1025)).unwrap();
        let with_file =
            |path: &Path| Settings { master_key_file: Some(path.to_owned()), ..Settings::default() };
        let cases = [
            (
                Settings { master_key: Some(Secret::new("hush")), ..Settings::default() },
                "secrets.master_key ",
            ),
            (with_file(&short), "does not hold a master key"),
            (with_file(&long), "too long"),
            (with_file(&dir.path().join("none")), "cannot read"),
            (
                Settings { previous_master_keys: vec![Secret::new("hush")], ..Settings::default() },
                "secrets.previous_master_keys ",
            ),
            (
                Settings { previous_master_key_files: vec![short.clone()], ..Settings::default() },
                "secrets.previous_master_key_files ",
            ),
        ];
        for (settings, told) in cases {
            let error = format!("{:#}", settings.check().unwrap_err());
            assert!(error.contains(told) && !error.contains("hush"), "{told}: {error}");
        }
    }
}
