//! What is kept, table by table, and what goes next.

use std::{collections::BTreeMap, fmt};

use chrono::{Days, NaiveDate};
use hookyard_domain::retention::inventory::Inventory;
use hookyard_registry::Settings;

/// A number of bytes, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) i64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["B", "KiB", "MiB", "GiB", "TiB"];
        let (mut value, mut unit) = (self.0 as f64, 0);
        while value >= 1024.0 && unit + 1 < units.len() {
            value /= 1024.0;
            unit += 1;
        }
        let digits = usize::from(unit > 0 && value < 100.0);
        write!(f, "{value:.digits$} {}", units[unit])
    }
}

/// A table that is cut by day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) partitions: usize,
    pub(super) oldest: NaiveDate,
    pub(super) newest: NaiveDate,
    pub(super) rows: i64,
    pub(super) bytes: i64,
    pub(super) payload_bytes: i64,
}

/// The tables that are cut by day, by name.
pub(super) fn tables(inventory: &Inventory) -> Vec<Table> {
    let mut tables: BTreeMap<&str, Table> = BTreeMap::new();
    for partition in &inventory.partitions {
        let table = tables.entry(&partition.table).or_insert_with(|| Table {
            name: partition.table.clone(),
            partitions: 0,
            oldest: partition.day,
            newest: partition.day,
            rows: 0,
            bytes: 0,
            payload_bytes: 0,
        });
        table.partitions += 1;
        table.oldest = table.oldest.min(partition.day);
        table.newest = table.newest.max(partition.day);
        table.rows += partition.rows;
        table.bytes += partition.bytes;
        table.payload_bytes += partition.payload_bytes;
    }
    tables.into_values().collect()
}

/// What leaves at the beginning of a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Next {
    /// The day that leaves.
    pub(super) day: NaiveDate,
    /// When, at 00:00 UTC.
    pub(super) on: NaiveDate,
    /// How many bytes, about.
    pub(super) bytes: i64,
}

/// The day that is dropped next.
pub(super) fn dropped_next(inventory: &Inventory, settings: &Settings) -> Option<Next> {
    let day = first_day(inventory, &[])?;
    let of_day = inventory.partitions.iter().filter(|partition| partition.day == day);
    let bytes = of_day.map(|partition| partition.bytes).sum();
    Some(Next { day, on: leaves(day, settings.retention_days), bytes })
}

/// The day whose payloads go next; `None` when they leave with their events.
pub(super) fn purged_next(inventory: &Inventory, settings: &Settings) -> Option<Next> {
    let keep = settings.payload_retention_days.filter(|days| *days < settings.retention_days)?;
    let day = first_day(inventory, &inventory.purged_days)?;
    let of_day = inventory.partitions.iter().filter(|partition| partition.day == day);
    let bytes = of_day.map(|partition| partition.payload_bytes).sum();
    Some(Next { day, on: leaves(day, keep), bytes })
}

/// The first day with a partition that is not among these, and is not kept longer.
fn first_day(inventory: &Inventory, gone: &[NaiveDate]) -> Option<NaiveDate> {
    let days = inventory.partitions.iter().map(|partition| partition.day);
    days.filter(|day| !gone.contains(day) && !inventory.later_days.contains(day)).min()
}

/// A day leaves when it is more than so many days ago.
fn leaves(day: NaiveDate, keep: u32) -> NaiveDate {
    day.checked_add_days(Days::new(u64::from(keep) + 1)).unwrap_or(day)
}

#[cfg(test)]
mod tests {
    use hookyard_domain::retention::inventory::Partition;

    use super::*;

    #[test]
    fn sizes_are_told_in_their_largest_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_536, "1.5 KiB"),
            (150 << 20, "150 MiB"),
            (3 << 40, "3.0 TiB"),
            (i64::MAX, "8388608 TiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }

    #[test]
    fn what_leaves_next_is_the_oldest_that_is_still_there() {
        let day = |day: u32| NaiveDate::from_ymd_opt(2026, 11, day).unwrap();
        let partition = |table: &str, on: u32| Partition {
            table: table.to_owned(),
            day: day(on),
            rows: 10,
            bytes: 100,
            payload_bytes: 60,
        };
        let inventory = Inventory {
            partitions: vec![partition("attempts", 2), partition("events", 2), partition("events", 3)],
            purged_days: vec![day(2)],
            ..Inventory::default()
        };
        let settings =
            Settings { retention_days: 10, payload_retention_days: Some(2), ..Settings::default() };
        assert_eq!(dropped_next(&inventory, &settings), Some(Next { day: day(2), on: day(13), bytes: 200 }));
        assert_eq!(purged_next(&inventory, &settings), Some(Next { day: day(3), on: day(6), bytes: 60 }));
        for payload_retention_days in [None, Some(10)] {
            let settings = Settings { payload_retention_days, ..settings.clone() };
            assert_eq!(purged_next(&inventory, &settings), None);
        }
        let later = Inventory { later_days: vec![day(2)], ..inventory.clone() };
        assert_eq!(dropped_next(&later, &settings).map(|next| next.day), Some(day(3)));
        let events = tables(&inventory).into_iter().find(|table| table.name == "events").unwrap();
        assert_eq!((events.partitions, events.oldest, events.newest, events.rows), (2, day(2), day(3), 20));
    }
}
