//! Taking the event types of a document into a tenant's catalogue. What the document says replaces what was there; what it does
//! not speak of (aliases, validation, archived) stays. The same document twice changes nothing the second time.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::{Connection as _, PgConnection};
use serde_json::{Value, json};

use super::{
    CatalogueEntry, Validation, check_names, of_tenant,
    openapi::{Found, Item},
    schema::{Compiled, Violation},
    store,
};
use crate::{
    Error, Result,
    audit::{self, Action, Actor, Entry},
    id::TenantId,
    wire::parse_stored,
};

/// How types are taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taking {
    /// Only look what would change.
    pub dry_run: bool,
    /// Take what can be taken, although something cannot.
    pub skip_invalid: bool,
    /// Validation of types that are new. Types that are there keep theirs.
    pub validation: Validation,
}

/// What an import changed, or would change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// New types.
    pub created: Vec<String>,
    /// Types that changed, and what of them.
    pub updated: Vec<(String, Vec<&'static str>)>,
    /// Types that are as the document says.
    pub unchanged: Vec<String>,
    /// What could not be taken.
    pub problems: Vec<Violation>,
    /// Whether publishers are treated otherwise than before.
    pub rules_changed: bool,
}

impl Report {
    /// Whether nothing may be written: something cannot be taken, and it is not to be passed over.
    #[must_use]
    pub fn is_refused(&self, taking: Taking) -> bool {
        !self.problems.is_empty() && !taking.skip_invalid
    }

    /// The report as callers read it.
    #[must_use]
    pub fn render(&self, taking: Taking) -> Value {
        let updated: Vec<Value> =
            self.updated.iter().map(|(name, changed)| json!({"name": name, "changed": changed})).collect();
        let problems: Vec<Value> = self
            .problems
            .iter()
            .map(|problem| json!({"path": problem.path, "reason": problem.reason}))
            .collect();
        json!({
            "dry_run": taking.dry_run,
            "created": self.created,
            "updated": updated,
            "unchanged": self.unchanged,
            "skipped": problems,
        })
    }
}

/// Takes types in, in the caller's transaction, and tells the audit log of each. Nothing is written when the report
/// [is refused](Report::is_refused), nor in a dry run.
///
/// # Errors
/// [`crate::Error::Conflict`] when there is no room for them; when the database is away.
pub fn take(
    conn: &mut PgConnection,
    tenant: TenantId,
    found: Found,
    taking: Taking,
    actor: &Actor,
    now: DateTime<Utc>,
) -> Result<Report> {
    store::lock(conn, tenant)?;
    let (report, changed) = plan(of_tenant(conn, tenant)?, found, taking);
    if report.is_refused(taking) || changed.is_empty() {
        return Ok(report);
    }
    // A dry run is written, too, so that it tells whether there is room, and taken back.
    let written = conn.transaction(|conn| {
        for (_, after) in &changed {
            store::overwrite(conn, tenant, after, now)?;
        }
        store::check_room(conn, tenant)?;
        if taking.dry_run { Err(Undone::AsWished) } else { Ok(()) }
    });
    match written {
        Err(Undone::AsWished) => return Ok(report),
        Err(Undone::Failed(error)) => return Err(error),
        Ok(()) => {}
    }
    let entries: Vec<Entry> = changed
        .iter()
        .map(|(before, after)| match before {
            None => after.audited(tenant, Action::EventTypeCreated).after(after.properties()),
            Some(before) => after
                .audited(tenant, Action::EventTypeUpdated)
                .before(before.properties())
                .after(after.properties()),
        })
        .collect();
    audit::record_all(conn, actor, &entries, now)?;
    Ok(report)
}

/// Why nothing stays of what was written.
enum Undone {
    AsWished,
    Failed(Error),
}

impl From<Error> for Undone {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<diesel::result::Error> for Undone {
    fn from(error: diesel::result::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// What changes: each type before, if it was there, and after.
fn plan(
    entries: Vec<CatalogueEntry>,
    found: Found,
    taking: Taking,
) -> (Report, Vec<(Option<CatalogueEntry>, CatalogueEntry)>) {
    let mut report = Report { problems: found.problems, ..Report::default() };
    let mut changed = Vec::new();
    let by_name: HashMap<_, _> = entries.iter().map(|entry| (entry.name.clone(), entry)).collect();
    for Item { path, entry: described } in found.items {
        let before = by_name.get(&described.name).copied();
        let after = merged(before, described, taking.validation);
        if before.is_none()
            && let Err(reason) = check_names(&entries, &after)
        {
            report.problems.push(Violation::at(path, reason.to_string()));
            continue;
        }
        if let Some(reason) = example_misses(&after) {
            report.problems.push(Violation::at(path, reason));
            continue;
        }
        let name = after.name.to_string();
        match before {
            None => report.created.push(name),
            Some(before) => match differences(before, &after) {
                differences if differences.is_empty() => {
                    report.unchanged.push(name);
                    continue;
                }
                differences => report.updated.push((name, differences)),
            },
        }
        let unruled = CatalogueEntry::new(after.name.clone());
        report.rules_changed |= after.rules_otherwise_than(before.unwrap_or(&unruled));
        changed.push((before.cloned(), after));
    }
    (report, changed)
}

/// What is described, with what was there of what no document speaks of. A document that has no schema, example, description or
/// group takes none away.
fn merged(
    before: Option<&CatalogueEntry>,
    described: CatalogueEntry,
    validation: Validation,
) -> CatalogueEntry {
    let Some(before) = before else { return CatalogueEntry { validation, ..described } };
    let description =
        if described.description.is_empty() { before.description.clone() } else { described.description };
    CatalogueEntry {
        description,
        schema: described.schema.or_else(|| before.schema.clone()),
        example: described.example.or_else(|| before.example.clone()),
        feature_group: described.feature_group.or_else(|| before.feature_group.clone()),
        deprecated: described.deprecated,
        ..before.clone()
    }
}

/// An example that was there may break a schema that is new.
fn example_misses(entry: &CatalogueEntry) -> Option<String> {
    let (schema, example) = (entry.schema.as_ref()?, entry.example.as_ref()?);
    let violations = Compiled::stored(schema).ok()?.violations(&parse_stored(example).ok()?);
    let first = violations.first()?;
    Some(format!("the example of `{}` does not match the schema: {first}", entry.name))
}

fn differences(before: &CatalogueEntry, after: &CatalogueEntry) -> Vec<&'static str> {
    [
        ("description", before.description != after.description),
        ("schema", before.schema != after.schema),
        ("example", before.example != after.example),
        ("feature_group", before.feature_group != after.feature_group),
        ("deprecated", before.deprecated != after.deprecated),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> CatalogueEntry {
        CatalogueEntry::new(name.parse().unwrap())
    }

    fn item(entry: CatalogueEntry) -> Item {
        Item { path: format!("/webhooks/{}", entry.name), entry }
    }

    #[test]
    fn a_document_replaces_what_it_speaks_of_and_nothing_else() {
        let before = CatalogueEntry {
            description: "Old.".to_owned(),
            aliases: vec!["A".parse().unwrap()],
            validation: Validation::Reject,
            feature_group: Some("Orders".to_owned()),
            ..entry("a")
        };
        let described = CatalogueEntry { description: "New.".to_owned(), deprecated: true, ..entry("a") };
        let same = CatalogueEntry { description: "Old.".to_owned(), ..entry("a") };
        let found = |items| Found { items, problems: Vec::new() };
        let (report, changed) =
            plan(vec![before.clone()], found(vec![item(described), item(entry("b"))]), Taking::default());
        assert_eq!(report.updated, [("a".to_owned(), vec!["description", "deprecated"])]);
        assert_eq!((report.created, report.rules_changed), (vec!["b".to_owned()], false));
        let expected = CatalogueEntry { description: "New.".to_owned(), deprecated: true, ..before.clone() };
        assert_eq!(changed[0], (Some(before.clone()), expected));
        let (report, changed) = plan(vec![before], found(vec![item(same)]), Taking::default());
        assert_eq!((report.unchanged, changed.len()), (vec!["a".to_owned()], 0));
    }

    #[test]
    fn what_cannot_be_taken_is_told() {
        let there = CatalogueEntry { aliases: vec!["b".parse().unwrap()], ..entry("a") };
        let example = CatalogueEntry { example: Some(b"{}".to_vec()), ..entry("c") };
        let schema = CatalogueEntry { schema: Some(br#"{"required":["id"]}"#.to_vec()), ..entry("c") };
        let found = Found { items: vec![item(entry("b")), item(schema)], problems: Vec::new() };
        let (report, changed) = plan(vec![there, example], found, Taking::default());
        let told: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "/webhooks/b: `b` is an alias of `a` already",
                r#"/webhooks/c: the example of `c` does not match the schema: "id" is a required property"#
            ]
        );
        assert!(changed.is_empty() && report.is_refused(Taking::default()));
        assert!(!report.is_refused(Taking { skip_invalid: true, ..Taking::default() }));
    }
}
