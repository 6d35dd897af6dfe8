//! Where settings come from, collected by the `config` crate into one tree in which every value from the environment
//! knows its variable. The environment is handed in, so that tests need not change their own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{fs, io};

use config::{Config, ConfigError, File, FileFormat, Map, Source, Value, ValueKind};

use super::SettingsError;

/// Variables that begin with this are ours, and an unknown one is an error.
const PREFIX: &str = "HOOKYARD__";
const SEPARATOR: &str = "__";

/// The file, the environment and the aliases of one [`super::load`].
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Must exist.
    file: Option<PathBuf>,
    /// May exist; not looked at when `file` is given.
    default_file: Option<PathBuf>,
    variables: Vec<(OsString, OsString)>,
    aliases: Vec<(&'static str, &'static str)>,
}

impl Sources {
    /// The sources of a real process: `file` if the operator named one, else `./hookyard.toml` if there is one; and
    /// the environment of the process.
    pub fn process(file: Option<PathBuf>) -> Self {
        Self { file, ..Self::new(std::env::vars_os()).default_file("hookyard.toml") }
    }

    /// Only these environment variables: no file, no alias.
    pub fn new<K: Into<OsString>, V: Into<OsString>>(variables: impl IntoIterator<Item = (K, V)>) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { variables, ..Self::default() }
    }

    /// A file that must exist.
    #[must_use]
    pub fn file(self, path: impl Into<PathBuf>) -> Self {
        Self { file: Some(path.into()), ..self }
    }

    /// A file that is read if it exists and no other was named.
    #[must_use]
    pub fn default_file(self, path: impl Into<PathBuf>) -> Self {
        Self { default_file: Some(path.into()), ..self }
    }

    /// Lets the environment variable `variable` (for example `DATABASE_URL`) set `key` (`database.url`). It wins over
    /// the file and over `HOOKYARD__…`. An empty alias counts as absent: compose files pass unset variables on so.
    #[must_use]
    pub fn alias(mut self, variable: &'static str, key: &'static str) -> Self {
        self.aliases.push((variable, key));
        self
    }

    /// The merged tree, and the file that was read.
    pub(super) fn collect(self) -> Result<(Map<String, Value>, Option<PathBuf>), SettingsError> {
        let mut builder = Config::builder();
        let file = self.read_file()?;
        if let Some((path, text)) = &file {
            check_syntax(path, text)?;
            builder = builder.add_source(File::from_str(text, FileFormat::Toml));
        }
        builder = builder.add_source(Variables(self.prefixed()?));
        builder = builder.add_source(Variables(self.aliased()?));
        let path = file.map(|(path, _text)| path);
        let merged = builder.build().and_then(|config| config.collect());
        merged.map(|tree| (tree, path.clone())).map_err(|error| unmergeable(path, &error))
    }

    fn read_file(&self) -> Result<Option<(PathBuf, String)>, SettingsError> {
        let (path, required) = match (&self.file, &self.default_file) {
            (Some(path), _) => (path, true),
            (None, Some(path)) => (path, false),
            (None, None) => return Ok(None),
        };
        match fs::read_to_string(path) {
            Ok(text) => Ok(Some((path.clone(), text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !required => Ok(None),
            Err(source) => Err(SettingsError::File { path: path.clone(), source }),
        }
    }

    fn prefixed(&self) -> Result<Map<String, Value>, SettingsError> {
        let mut found = Vec::new();
        for (name, value) in &self.variables {
            let Some(path) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
            let name = format!("{PREFIX}{path}");
            let keys: Vec<String> = path.to_ascii_lowercase().split(SEPARATOR).map(str::to_owned).collect();
            if !keys.iter().all(|key| is_key(key)) {
                return Err(unusable(name, "is not of the form `HOOKYARD__SECTION__KEY`"));
            }
            found.push((keys, text_of(&name, value)?, name));
        }
        // A section's own name sorts before its keys, and the outcome must not depend on the order of the environment.
        found.sort();
        let mut tree = Map::new();
        for (keys, text, name) in found {
            insert(&mut tree, &keys, text, &name)?;
        }
        Ok(tree)
    }

    fn aliased(&self) -> Result<Map<String, Value>, SettingsError> {
        let mut tree = Map::new();
        for (alias, key) in &self.aliases {
            let set = self.variables.iter().find(|(name, value)| name == alias && !value.is_empty());
            if let Some((_name, value)) = set {
                let keys: Vec<String> = key.split('.').map(str::to_owned).collect();
                insert(&mut tree, &keys, text_of(alias, value)?, alias)?;
            }
        }
        Ok(tree)
    }
}

/// Nested tables whose leaves have a variable's name as their origin.
#[derive(Debug, Clone)]
struct Variables(Map<String, Value>);

impl Source for Variables {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// `config` reads a key as a path expression, in which `a[9999999]` is a very long list.
fn is_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

fn text_of(name: &str, value: &OsString) -> Result<String, SettingsError> {
    value.to_str().map(str::to_owned).ok_or_else(|| unusable(name, "is not UTF-8"))
}

fn insert(
    tree: &mut Map<String, Value>,
    keys: &[String],
    text: String,
    name: &str,
) -> Result<(), SettingsError> {
    let origin = name.to_owned();
    let (key, rest) = match keys {
        [] => return Ok(()),
        [key] => {
            let taken = tree.insert(key.clone(), Value::new(Some(&origin), text));
            let Some(taken) = taken else { return Ok(()) };
            return Err(twice(name, &taken));
        }
        [key, rest @ ..] => (key, rest),
    };
    let section =
        tree.entry(key.clone()).or_insert_with(|| Value::new(Some(&origin), Map::<String, Value>::new()));
    match &mut section.kind {
        ValueKind::Table(table) => insert(table, rest, text, name),
        ValueKind::Nil
        | ValueKind::Boolean(_)
        | ValueKind::I64(_)
        | ValueKind::I128(_)
        | ValueKind::U64(_)
        | ValueKind::U128(_)
        | ValueKind::Float(_)
        | ValueKind::String(_)
        | ValueKind::Array(_) => Err(twice(name, section)),
    }
}

fn twice(name: &str, taken: &Value) -> SettingsError {
    unusable(name, format!("sets what `{}` sets as well", taken.origin().unwrap_or("another variable")))
}

fn unusable(name: impl Into<String>, reason: impl Into<String>) -> SettingsError {
    SettingsError::Variable { name: name.into(), reason: reason.into() }
}

/// `config` would report a syntax error together with the line, and a line may hold a password.
fn check_syntax(path: &Path, text: &str) -> Result<(), SettingsError> {
    let Err(error) = toml::from_str::<toml::Table>(text) else { return Ok(()) };
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = 1 + before.matches('\n').count();
    let reason = error.message().lines().next().unwrap_or_default().to_owned();
    Err(SettingsError::Syntax { path: path.to_owned(), line, reason })
}

/// What is left once the syntax is known to be good, such as a number that 64 bits cannot hold.
fn unmergeable(path: Option<PathBuf>, error: &ConfigError) -> SettingsError {
    let reason = match error {
        ConfigError::FileParse { cause, .. } => {
            cause.to_string().lines().next().unwrap_or_default().to_owned()
        }
        _ => "cannot be read".to_owned(),
    };
    SettingsError::Syntax { path: path.unwrap_or_default(), line: 1, reason }
}
