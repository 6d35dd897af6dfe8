//! `hookyard event-types`: a tenant's catalogue, and taking the types of an OpenAPI document into it.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use hookyard_domain::{
    catalogue::{
        self, CatalogueEntry, Validation,
        import::{self, Report, Taking},
        openapi::{self, MAX_DOCUMENT_BYTES, Reading},
    },
    clock::Clock,
    credential::directory::known_everywhere,
    db::Db,
    id::TenantId,
    wire::{Json, parse_stored},
};
use serde_json::json;

use crate::{
    command::{self, listing, operator},
    process,
    settings::Settings,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Takes the webhooks and callbacks of an OpenAPI document (3.0 or later 3.x) into the catalogue
    Import(Import),
    /// Lists the event types of a tenant, those of the starting catalogue, too
    List {
        /// The tenant's id.
        #[arg(long)]
        tenant: TenantId,
        /// Print JSON, an object per line.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The document, YAML or JSON; `-` for the standard input.
    file: PathBuf,
    /// The tenant's id.
    #[arg(long)]
    tenant: TenantId,
    /// Only tell what would change.
    #[arg(long)]
    dry_run: bool,
    /// Take what can be taken, and tell what cannot.
    #[arg(long)]
    skip_invalid: bool,
    /// What happens to payloads that break the schema of a new type: off, warn or reject.
    #[arg(long, default_value = "off")]
    validation: Validation,
    /// The member of the described body that is the payload, where the document describes an envelope.
    #[arg(long)]
    payload_member: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: Command, settings: Settings) -> anyhow::Result<()> {
    process::block_on(&settings.clone(), async move {
        let now = Clock::system().now();
        match command {
            Command::Import(wanted) => {
                let document = document(&wanted.file)?;
                take(&command::database(&settings)?, &wanted, &document, now).await
            }
            Command::List { tenant, json } => {
                let db = command::database(&settings)?;
                let entries = db.once(move |conn| catalogue::of_tenant(conn, tenant)).await?;
                let shown = |entry| Ok(if json { as_json(entry) } else { line(entry) });
                listing::lines(entries.iter().map(shown))
            }
        }
    })
}

/// Reads a document. What begins with a brace is JSON, anything else YAML.
fn document(file: &Path) -> anyhow::Result<Json> {
    let shown = file.display();
    let mut bytes = Vec::new();
    let reader: Box<dyn std::io::Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file).with_context(|| format!("cannot read {shown}"))?)
    };
    let limit = u64::try_from(MAX_DOCUMENT_BYTES).unwrap_or(u64::MAX);
    reader.take(limit + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {shown}"))?;
    anyhow::ensure!(bytes.len() <= MAX_DOCUMENT_BYTES, "{shown} has more than {MAX_DOCUMENT_BYTES} bytes");
    if bytes.trim_ascii_start().starts_with(b"{") {
        return parse_stored(&bytes).with_context(|| format!("{shown} is no JSON"));
    }
    let value: serde_json::Value =
        serde_yaml_ng::from_slice(&bytes).with_context(|| format!("{shown} is no YAML"))?;
    Ok(Json::from_serde(&value))
}

async fn take(db: &Db, wanted: &Import, document: &Json, now: DateTime<Utc>) -> anyhow::Result<()> {
    let taking =
        Taking { dry_run: wanted.dry_run, skip_invalid: wanted.skip_invalid, validation: wanted.validation };
    let reading = Reading { payload_member: wanted.payload_member.clone() };
    let found = openapi::read(document, &reading).map_err(|wrong| anyhow::anyhow!("the document {wrong}"))?;
    let tenant = wanted.tenant;
    let actor = operator::actor();
    let report = db.run(move |conn| import::take(conn, tenant, found, taking, &actor, now)).await?;
    if report.is_refused(taking) {
        let problems: Vec<String> = report.problems.iter().map(|problem| format!("\n  {problem}")).collect();
        anyhow::bail!("nothing was imported (--skip-invalid takes the others):{}", problems.concat());
    }
    if report.rules_changed && !taking.dry_run {
        known_everywhere().await;
    }
    if wanted.json {
        println!("{}", report.render(taking));
    } else {
        print(&report, taking);
    }
    Ok(())
}

fn print(report: &Report, taking: Taking) {
    let would = if taking.dry_run { "would be " } else { "" };
    for name in &report.created {
        println!("{name}  {would}created");
    }
    for (name, changed) in &report.updated {
        println!("{name}  {would}updated: {}", changed.join(", "));
    }
    for problem in &report.problems {
        println!("skipped  {problem}");
    }
    println!(
        "{} created, {} updated, {} unchanged, {} skipped{}",
        report.created.len(),
        report.updated.len(),
        report.unchanged.len(),
        report.problems.len(),
        if taking.dry_run { " (dry run: nothing was changed)" } else { "" }
    );
}

fn as_json(entry: &CatalogueEntry) -> String {
    let mut shown = entry.properties();
    shown["name"] = json!(entry.name.as_str());
    shown["own"] = json!(entry.own);
    shown.to_string()
}

fn line(entry: &CatalogueEntry) -> String {
    let mut words = vec![entry.name.to_string()];
    if entry.schema.is_some() {
        words.push(format!("schema: {}", entry.validation.as_str()));
    }
    for (is, word) in [(entry.own, "own"), (entry.deprecated, "deprecated"), (entry.archived, "archived")] {
        if is {
            words.push(word.to_owned());
        }
    }
    words.push(entry.description.clone());
    words.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> anyhow::Result<Json> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("document");
        std::fs::write(&file, text).unwrap();
        document(&file)
    }

    #[test]
    fn yaml_and_json_are_the_same_document() {
        let yaml = "openapi: '3.1.0'\nwebhooks:\n  a.b:\n    post:\n      responses:\n        200: {description: ok}\n        default: {description: no}\n      x-at: 2025-01-15\n";
        let json = r#" {"openapi":"3.1.0","webhooks":{"a.b":{"post":{"responses":{"200":{"description":"ok"},"default":{"description":"no"}},"x-at":"2025-01-15"}}}}"#;
        assert_eq!(written(yaml).unwrap(), written(json).unwrap());
        assert!(format!("{:#}", written("a: [").unwrap_err()).contains("is no YAML"));
        assert!(format!("{:#}", written("{").unwrap_err()).contains("is no JSON"));
    }

    #[test]
    fn a_document_has_at_most_4_mib() {
        let of_size = |bytes: usize| written(&format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8)));
        assert!(of_size(MAX_DOCUMENT_BYTES).is_ok());
        assert!(of_size(MAX_DOCUMENT_BYTES + 1).unwrap_err().to_string().contains("more than 4194304 bytes"));
    }
}
