//! The starting catalogue: what every tenant has without doing anything.
//!
//! Codat's platform events with the names they had before (source 2), the task events (source 1) and our own `hook.*`.
//! The tables stand in `accounting` and `automation`; here is what is made of them. Nothing in them reserves a name: a
//! tenant that adds a type of the same name replaces ours. Payloads of ours are described and not checked, until a tenant
//! says so.

mod accounting;
mod automation;

use std::sync::LazyLock;

use super::CatalogueEntry;
use crate::event::EventType;

/// A type of the starting catalogue.
#[derive(Clone, Debug)]
pub struct SeedType {
    /// The type.
    pub name: EventType,
    description: String,
    schema: String,
    example: String,
    aliases: Vec<EventType>,
    feature_group: &'static str,
}

impl SeedType {
    /// The type as an entry of a tenant's catalogue.
    #[must_use]
    pub fn entry(&self) -> CatalogueEntry {
        CatalogueEntry {
            description: self.description.clone(),
            schema: Some(self.schema.as_bytes().to_vec()),
            example: Some(self.example.as_bytes().to_vec()),
            aliases: self.aliases.clone(),
            feature_group: Some(self.feature_group.to_owned()),
            own: false,
            ..CatalogueEntry::new(self.name.clone())
        }
    }

    /// `None` when a name breaks the rules of event types; a test holds that none does.
    fn of(line: &Line) -> Option<Self> {
        let aliases: Result<Vec<EventType>, _> = line.aliases.iter().map(|alias| alias.parse()).collect();
        Some(Self {
            name: line.name.parse().ok()?,
            description: line.description.clone(),
            schema: line.schema.clone(),
            example: line.example.clone(),
            aliases: aliases.ok()?,
            feature_group: line.feature_group,
        })
    }
}

/// A line of the tables.
struct Line {
    name: String,
    aliases: &'static [&'static str],
    feature_group: &'static str,
    description: String,
    /// Canonical JSON of a JSON Schema.
    schema: String,
    /// Canonical JSON.
    example: String,
}

/// The schema of an object with these members. The word of a member is `string`, `integer`, `number`, `boolean`, `time`, `date`,
/// `url`, `object` or `any`, or a schema; one that ends with `?` may be `null`, and one whose name does may be missing.
fn shape(members: &[(&str, &str)]) -> String {
    let (mut properties, mut required) = (Vec::new(), Vec::new());
    for (name, word) in members {
        let plain = name.trim_end_matches('?');
        if plain == *name {
            required.push(format!("\"{plain}\""));
        }
        properties.push(format!("\"{plain}\":{}", schema_of(word)));
    }
    let (properties, required) = (properties.join(","), required.join(","));
    format!(r#"{{"type":"object","properties":{{{properties}}},"required":[{required}]}}"#)
}

fn schema_of(word: &str) -> String {
    if word.starts_with('{') {
        return word.to_owned();
    }
    let (plain, nullable) = word.strip_suffix('?').map_or((word, false), |plain| (plain, true));
    let (kind, format) = match plain {
        "any" => return "{}".to_owned(),
        "time" => ("string", Some("date-time")),
        "date" => ("string", Some("date")),
        "url" => ("string", Some("uri")),
        kind => (kind, None),
    };
    let kind = if nullable { format!(r#"["{kind}","null"]"#) } else { format!("\"{kind}\"") };
    let format = format.map(|format| format!(r#","format":"{format}""#)).unwrap_or_default();
    format!(r#"{{"type":{kind}{format}}}"#)
}

/// The schema of a list of such.
fn list_of(items: &str) -> String {
    format!(r#"{{"type":"array","items":{items}}}"#)
}

/// The schema of one of these words.
fn one_of(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    format!(r#"{{"type":"string","enum":[{}]}}"#, words.join(","))
}

fn lines() -> Vec<Line> {
    let mut lines = accounting::lines();
    lines.extend(automation::lines());
    lines
}

static SEED: LazyLock<Vec<SeedType>> = LazyLock::new(|| lines().iter().filter_map(SeedType::of).collect());

/// The starting catalogue.
#[must_use]
pub fn seed() -> &'static [SeedType] {
    &SEED
}

/// The pattern that stands for a former name which was split into several types; such a name cannot be the alias of one
/// of them. `DataConnectionStatusChanged` is `connection.*`.
#[must_use]
pub fn former_pattern(name: &str) -> Option<&'static str> {
    accounting::FORMER_PATTERNS.iter().find(|(former, _)| *former == name).map(|(_, pattern)| *pattern)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{
        catalogue::{MAX_ALIASES, MAX_DESCRIPTION_CHARS, check_group, schema},
        subscription::EventPattern,
        wire::{Json, parse, to_canonical},
    };

    #[test]
    fn every_line_becomes_a_type() {
        let (lines, seed) = (lines(), seed());
        let names = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            names(seed.iter().map(|ours| ours.name.as_str()).collect()),
            names(lines.iter().map(|line| line.name.as_str()).collect()),
            "a name or an alias breaks the rules of event types"
        );
        assert!(seed.len() > 60, "{}", seed.len());
    }

    #[test]
    fn every_example_is_a_canonical_object() {
        for line in lines() {
            let json =
                parse(line.example.as_bytes()).unwrap_or_else(|error| panic!("{}: {error}", line.name));
            assert!(matches!(&json, Json::Object(object) if !object.is_empty()), "{}", line.name);
            assert_eq!(String::from_utf8(to_canonical(&json)).unwrap(), line.example, "{}", line.name);
        }
    }

    #[test]
    fn every_example_keeps_its_schema() {
        for line in lines() {
            let schema =
                parse(line.schema.as_bytes()).unwrap_or_else(|error| panic!("{}: {error}", line.name));
            let stored = schema::check(&schema).unwrap_or_else(|error| panic!("{}: {error}", line.name));
            assert_eq!(String::from_utf8(stored.clone()).unwrap(), line.schema, "{}", line.name);
            let violations = schema::Compiled::stored(&stored)
                .unwrap()
                .violations(&parse(line.example.as_bytes()).unwrap());
            assert_eq!(violations, [], "{}", line.name);
            assert_eq!(check_group(line.feature_group), Ok(()), "{}", line.name);
            // Who validates is told of a member that is not what it was.
            let broken = schema::Compiled::stored(&stored).unwrap().violations(&parse(b"{}").unwrap());
            assert!(!broken.is_empty(), "{}", line.name);
        }
    }

    #[test]
    fn every_name_means_one_type() {
        let mut seen = HashSet::new();
        for line in lines() {
            assert!(line.aliases.len() <= MAX_ALIASES, "{}", line.name);
            for name in line.aliases.iter().copied().chain([line.name.as_str()]) {
                assert!(seen.insert(name.to_owned()), "{name} is there twice");
            }
        }
        for (former, pattern) in accounting::FORMER_PATTERNS {
            assert!(seen.insert((*former).to_owned()), "{former} is there twice");
            let pattern: EventPattern = pattern.parse().unwrap();
            assert!(pattern.is_exact().is_none(), "{former} stands for several types");
            assert!(
                seed().iter().any(|ours| pattern.matches(&ours.name)),
                "{former} stands for none of our types"
            );
        }
    }

    #[test]
    fn every_description_is_a_short_sentence() {
        for line in lines() {
            let length = line.description.chars().count();
            assert!(
                (10..=MAX_DESCRIPTION_CHARS).contains(&length) && line.description.ends_with('.'),
                "{}",
                line.name
            );
        }
    }

    #[test]
    fn former_names_lead_to_todays_types() {
        let entries: Vec<CatalogueEntry> = seed().iter().map(SeedType::entry).collect();
        for (former, today) in [
            ("NewCompanySynchronized", "read.completed.initial"),
            ("DataSyncCompleted", "read.completed"),
            ("SyncFailed", "expenses.sync.unsuccessful"),
            ("task_completed", "task.completed"),
            ("task_needs_input", "task.needs_input"),
            ("hook.disabled", "hook.disabled"),
        ] {
            let entry = crate::catalogue::resolve(&entries, former).unwrap();
            assert_eq!(entry.name.as_str(), today);
        }
        assert_eq!(former_pattern("PushOperationStatusChanged"), Some("*.write.*"));
        assert_eq!(former_pattern("NewCompanySynchronized"), None);
    }
}
