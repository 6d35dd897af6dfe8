//! Each name of an entry means that entry and no other.

use super::{CatalogueEntry, former_pattern};
use crate::event::EventType;

/// Why the names of an entry cannot stand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// An alias is the name, or is there twice.
    #[error("must differ from the name and from each other")]
    Repeated,
    /// Somebody else has it.
    #[error("`{name}` is {whose} already")]
    Taken {
        /// The name or alias.
        name: String,
        /// Whose it is: "an alias of `order.created`".
        whose: String,
    },
}

/// Looks at the names of one entry among all of a tenant's.
///
/// # Errors
/// The first name that does not mean this entry alone.
pub fn check_names(entries: &[CatalogueEntry], entry: &CatalogueEntry) -> Result<(), NameError> {
    let taken = |name: &EventType, whose: String| NameError::Taken { name: name.to_string(), whose };
    for (at, alias) in entry.aliases.iter().enumerate() {
        if *alias == entry.name || entry.aliases[..at].contains(alias) {
            return Err(NameError::Repeated);
        }
        if former_pattern(alias.as_str()).is_some() {
            return Err(taken(alias, "a former name of several types".to_owned()));
        }
    }
    for other in entries.iter().filter(|other| other.name != entry.name) {
        if other.aliases.contains(&entry.name) {
            return Err(taken(&entry.name, format!("an alias of `{}`", other.name)));
        }
        let clash = |alias: &&EventType| **alias == other.name || other.aliases.contains(alias);
        if let Some(alias) = entry.aliases.iter().find(clash) {
            return Err(taken(alias, format!("a name of `{}`", other.name)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, aliases: &[&str]) -> CatalogueEntry {
        CatalogueEntry {
            aliases: aliases.iter().map(|alias| alias.parse().unwrap()).collect(),
            ..CatalogueEntry::new(name.parse().unwrap())
        }
    }

    #[test]
    fn each_name_means_one_type() {
        for (ours, others, expected) in [
            (entry("a", &["b"]), vec![entry("c", &["d"])], None),
            (entry("a", &["a"]), vec![], Some("must differ from the name and from each other")),
            (entry("a", &["b", "b"]), vec![], Some("must differ from the name and from each other")),
            (entry("a", &["c"]), vec![entry("c", &[])], Some("`c` is a name of `c` already")),
            (entry("a", &["d"]), vec![entry("c", &["d"])], Some("`d` is a name of `c` already")),
            (entry("a", &[]), vec![entry("c", &["a"])], Some("`a` is an alias of `c` already")),
            (
                entry("a", &["DataConnectionStatusChanged"]),
                vec![],
                Some("`DataConnectionStatusChanged` is a former name of several types already"),
            ),
        ] {
            let entries: Vec<CatalogueEntry> = others.into_iter().chain([ours.clone()]).collect();
            let told = check_names(&entries, &ours).err().map(|error| error.to_string());
            assert_eq!(told.as_deref(), expected);
        }
    }
}
