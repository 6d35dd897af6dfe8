//! What was found out, as lines for people and as JSON for programs.

use chrono::{DateTime, NaiveDate, Utc};
use hookyard_domain::{event::wire_time, retention::inventory::Inventory};
use hookyard_registry::Settings;
use serde_json::{Value, json};

use super::{
    Database, Facts,
    checks::{Finding, Level},
    kept::{self, Next, Size},
};

/// Tables that are not cut by day, of which people see so many.
const SHOWN: usize = 10;

pub(super) fn as_text(
    facts: &Facts,
    findings: &[Finding],
    settings: &Settings,
    now: DateTime<Utc>,
) -> Vec<String> {
    let mut lines = vec![format!("Checks, {}", wire_time(now))];
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    for finding in findings {
        let Finding { check, level, found, advice } = finding;
        lines.push(format!("  {:<8}{check:<width$}  {found}", level.word()));
        if let Some(advice) = advice {
            lines.push(format!("  {:<8}{:<width$}  -> {advice}", "", ""));
        }
    }
    if let Some(Ok(Database { inventory, migrated: true, .. })) = &facts.database {
        lines.push(String::new());
        lines.extend(of_inventory(inventory, settings));
    }
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Good);
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    lines.push(String::new());
    lines.push(match worst {
        Level::Good => "All is well.".to_owned(),
        Level::Warning | Level::Broken => {
            format!("{} broken, {} to look at.", count(Level::Broken), count(Level::Warning))
        }
    });
    lines
}

fn of_inventory(inventory: &Inventory, settings: &Settings) -> Vec<String> {
    let mut rows = vec![
        ["kept by day", "days", "oldest", "newest", "rows", "size", "of it payloads"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for table in kept::tables(inventory) {
        rows.push(vec![
            table.name,
            table.partitions.to_string(),
            table.oldest.to_string(),
            table.newest.to_string(),
            grouped(table.rows),
            Size(table.bytes).to_string(),
            Size(table.payload_bytes).to_string(),
        ]);
    }
    let mut lines = aligned(&rows);
    lines.push("Rows and payloads are estimates.".to_owned());
    lines.push(String::new());
    let mut rows = vec![["other tables", "rows", "size"].map(str::to_owned).to_vec()];
    for table in inventory.tables.iter().take(SHOWN) {
        rows.push(vec![table.name.clone(), grouped(table.rows), Size(table.bytes).to_string()]);
    }
    lines.extend(aligned(&rows));
    lines.push(String::new());
    let days = |keep: u32| if keep == 1 { "1 day".to_owned() } else { format!("{keep} days") };
    lines.push(format!(
        "Kept with these settings: events {}, payloads {}.",
        days(settings.retention_days),
        { days(settings.payload_retention_days.unwrap_or(settings.retention_days)) }
    ));
    let told = |what: &str, next: Option<Next>| {
        next.map(|Next { day, on, bytes }| {
            format!("Next {what}: {day}, on {on} at 00:00 UTC, {}.", Size(bytes))
        })
    };
    lines.extend(told("day to lose its payloads", kept::purged_next(inventory, settings)));
    lines.extend(told("day to go", kept::dropped_next(inventory, settings)));
    if !inventory.later_days.is_empty() {
        let days: Vec<String> = inventory.later_days.iter().map(NaiveDate::to_string).collect();
        lines
            .push(format!("Kept longer, because events of them were posted for later: {}.", days.join(", ")));
    }
    lines
}

/// Rows of cells in columns: the first to the left, numbers to the right.
fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, width))| {
                if at == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            cells.collect::<Vec<_>>().join("  ")
        })
        .collect()
}

/// A number with commas between thousands.
fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

pub(super) fn as_json(
    facts: &Facts,
    findings: &[Finding],
    settings: &Settings,
    now: DateTime<Utc>,
) -> anyhow::Result<String> {
    let level = |level: Level| level.word().to_lowercase();
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Good);
    let checks: Vec<Value> = findings
        .iter()
        .map(|finding| {
            json!({
                "check": finding.check,
                "level": level(finding.level),
                "found": finding.found,
                "advice": finding.advice,
            })
        })
        .collect();
    let mut report =
        json!({"at": wire_time(now), "level": level(worst), "checks": checks, "kept": null, "queues": null});
    if let Some(Ok(Database { inventory, migrated: true, .. })) = &facts.database {
        report["kept"] = kept_as_json(inventory, settings);
    }
    if let Some(Ok(Some(depths))) = &facts.broker {
        let queues = depths
            .iter()
            .map(|depth| json!({"queue": depth.queue, "messages": depth.messages, "readers": depth.readers}));
        report["queues"] = queues.collect();
    }
    Ok(serde_json::to_string(&report)?)
}

fn kept_as_json(inventory: &Inventory, settings: &Settings) -> Value {
    let next = |next: Option<Next>| {
        next.map(
            |Next { day, on, bytes }| json!({"day": day.to_string(), "on": on.to_string(), "bytes": bytes}),
        )
    };
    let tables = kept::tables(inventory).into_iter().map(|table| {
        let days =
            inventory.partitions.iter().filter(|partition| partition.table == table.name).map(|partition| {
                json!({
                    "day": partition.day.to_string(), "rows": partition.rows, "bytes": partition.bytes,
                    "payload_bytes": partition.payload_bytes,
                })
            });
        json!({
            "table": table.name, "partitions": table.partitions, "oldest": table.oldest.to_string(),
            "newest": table.newest.to_string(), "rows": table.rows, "bytes": table.bytes,
            "payload_bytes": table.payload_bytes, "days": days.collect::<Vec<_>>(),
        })
    });
    let others = inventory
        .tables
        .iter()
        .map(|table| json!({"table": table.name, "rows": table.rows, "bytes": table.bytes}));
    let days = |days: &[NaiveDate]| days.iter().map(NaiveDate::to_string).collect::<Vec<_>>();
    json!({
        "retention_days": settings.retention_days,
        "payload_retention_days": settings.payload_retention_days.unwrap_or(settings.retention_days),
        "by_day": tables.collect::<Vec<_>>(),
        "others": others.collect::<Vec<_>>(),
        "dropped_next": next(kept::dropped_next(inventory, settings)),
        "payloads_purged_next": next(kept::purged_next(inventory, settings)),
        "purged_days": days(&inventory.purged_days),
        "days_kept_longer": days(&inventory.later_days),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        assert_eq!(
            aligned(&[row(["a", "rows", "x"]), row(["longer", "1,000", "y"])]),
            ["a        rows  x", "longer  1,000  y"]
        );
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
