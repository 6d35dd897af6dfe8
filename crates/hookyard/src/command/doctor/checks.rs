//! What is well and what is not, as a rule over what was found out.

mod database;

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use hookyard_messaging::inspect::Depth;
use hookyard_registry::Settings;

use super::{Facts, kept::Size};

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Good,
    Warning,
    Broken,
}

impl Level {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Broken => "BROKEN",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) level: Level,
    pub(super) found: String,
    /// What to do; nothing where all is well.
    pub(super) advice: Option<&'static str>,
}

impl Finding {
    fn good(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Good, found: found.into(), advice: None }
    }

    fn warning(check: &'static str, found: impl Into<String>, advice: &'static str) -> Self {
        Self { check, level: Level::Warning, found: found.into(), advice: Some(advice) }
    }

    fn broken(check: &'static str, found: impl Into<String>, advice: &'static str) -> Self {
        Self { check, level: Level::Broken, found: found.into(), advice: Some(advice) }
    }

    /// Of several, the worst says how it ends.
    pub(super) fn exit_code(findings: &[Self]) -> ExitCode {
        match findings.iter().map(|finding| finding.level).max() {
            None | Some(Level::Good) => ExitCode::SUCCESS,
            Some(Level::Warning) => ExitCode::from(1),
            Some(Level::Broken) => ExitCode::from(2),
        }
    }
}

/// Messages in a queue that are many.
const DEEP: u32 = 10_000;

/// Every check that can be made of what was found out.
pub(super) fn of(facts: &Facts, settings: &Settings, now: DateTime<Utc>) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &facts.database {
        None => {}
        Some(Err(reason)) => findings.push(Finding::broken(
            "database",
            reason.clone(),
            "start Postgres, or set DATABASE_URL to where it is; nothing is accepted or delivered meanwhile",
        )),
        Some(Ok(database)) => {
            let condition = &database.condition;
            if !database.migrated {
                findings.push(Finding::good("database", "answers"));
                findings.push(Finding::broken(
                    "schema",
                    "it is not the one of this program",
                    "run `hookyard migrate` with this version of the program",
                ));
            } else {
                findings.push(database::version(condition));
                findings.push(Finding::good("schema", "up to date"));
                findings.extend(database::of(database, settings, now));
            }
        }
    }
    match &facts.master_key {
        None if facts
            .database
            .as_ref()
            .is_some_and(|asked| asked.as_ref().is_ok_and(|found| found.migrated)) =>
        {
            findings.push(Finding::warning(
                "master key",
                "these settings name none: it was not tried",
                "run it where a service runs, with its settings",
            ));
        }
        None => {}
        Some(Ok(())) => findings.push(Finding::good("master key", "opens what the database holds")),
        Some(Err(reason)) => findings.push(Finding::broken(
            "master key",
            reason.clone(),
            "give every process the keys that `hookyard secrets status` names",
        )),
    }
    match &facts.broker {
        None => {}
        Some(Err(reason)) => findings.push(Finding::broken(
            "broker",
            reason.clone(),
            "start RabbitMQ, or look at amqp.url; the sweeps go on without it, more slowly",
        )),
        Some(Ok(None)) => findings.push(Finding::good("broker", "none: queues are in the process")),
        Some(Ok(Some(depths))) => findings.extend(of_queues(depths)),
    }
    if let Some((free, all)) = facts.disk {
        findings.push(disk(free, all));
    }
    findings
}

fn of_queues(depths: &[Depth]) -> Vec<Finding> {
    let names = |of: &dyn Fn(&Depth) -> bool| {
        let some: Vec<&str> =
            depths.iter().filter(|depth| of(depth)).map(|depth| depth.queue.as_str()).collect();
        (!some.is_empty()).then(|| some.join(", "))
    };
    let mut findings = vec![Finding::good("broker", "answers")];
    if let Some(missing) = names(&|depth| depth.messages.is_none()) {
        findings.push(Finding::warning(
            "queues",
            format!("not there: {missing}"),
            "any service declares them when it connects; is amqp.namespace right?",
        ));
        return findings;
    }
    let dead =
        depths.iter().find(|depth| depth.queue == "dead").and_then(|depth| depth.messages).unwrap_or(0);
    if let Some(unread) = names(&|depth| depth.readers == 0 && depth.queue != "dead") {
        findings.push(Finding::broken(
            "queues",
            format!("nobody reads {unread}"),
            "start the service that does: registry (event.accepted, delivery.settled), delivery (delivery.due.*), runner (task.queued)",
        ));
    } else if let Some(deep) = names(&|depth| depth.messages.unwrap_or(0) > DEEP && depth.queue != "dead") {
        findings.push(Finding::warning(
            "queues",
            format!("more than 10,000 messages wait in {deep}"),
            "start more of the service that reads them, or wait until the peak is over",
        ));
    } else {
        let waiting: u32 = depths
            .iter()
            .filter(|depth| depth.queue != "dead")
            .map(|depth| depth.messages.unwrap_or(0))
            .fold(0, u32::saturating_add);
        findings.push(Finding::good("queues", format!("{waiting} messages wait")));
    }
    findings.push(match dead {
        0 => Finding::good("dead messages", "none"),
        some => Finding::warning(
            "dead messages",
            format!("{some}"),
            "nobody could read them, a mixed upgrade or a stranger; look at one, then purge the queue `dead`",
        ),
    });
    findings
}

fn disk(free: u64, all: u64) -> Finding {
    let size = |bytes: u64| Size(i64::try_from(bytes).unwrap_or(i64::MAX));
    let found = format!("{} of {} free", size(free), size(all));
    let advice = "make room, or keep less: registry.payload_retention_days and registry.retention_days";
    if free < all / 50 {
        Finding::broken("disk", found, advice)
    } else if free < all / 10 {
        Finding::warning("disk", found, advice)
    } else {
        Finding::good("disk", found)
    }
}

#[cfg(test)]
mod tests {
    use chrono::{Days, TimeDelta};
    use hookyard_domain::retention::inventory::{Bloated, Condition, Inventory, Partition};

    use super::*;
    use crate::command::doctor::Database;

    pub(super) fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_763_720_000, 0).unwrap_or_default()
    }

    /// A database in which all is well.
    pub(super) fn well() -> Database {
        let today = now().date_naive();
        let partitions =
            ["events", "deliveries", "delivery_bodies", "attempts"].into_iter().flat_map(|table| {
                today.iter_days().take(8).map(move |day| Partition {
                    table: table.to_owned(),
                    day,
                    rows: 1,
                    bytes: 8192,
                    payload_bytes: 10,
                })
            });
        Database {
            migrated: true,
            skew_ms: 0,
            inventory: Inventory { partitions: partitions.collect(), ..Inventory::default() },
            condition: Condition {
                version: "15.4".to_owned(),
                version_number: 150_004,
                now: now(),
                connections: (5, 100),
                autovacuum: true,
                ..Condition::default()
            },
        }
    }

    fn found(change: impl FnOnce(&mut Facts, &mut Database)) -> Vec<Finding> {
        let mut facts = Facts { master_key: Some(Ok(())), broker: Some(Ok(None)), ..Facts::default() };
        let mut database = well();
        change(&mut facts, &mut database);
        facts.database.get_or_insert(Ok(database));
        of(&facts, &Settings::default(), now())
    }

    #[test]
    fn of_a_healthy_installation_everything_is_good() {
        let findings = found(|_, _| {});
        assert!(findings.iter().all(|finding| finding.level == Level::Good), "{findings:?}");
        assert!(findings.len() >= 13, "{findings:?}");
    }

    #[test]
    fn each_trouble_has_its_line_and_says_what_to_do() {
        type Change = fn(&mut Facts, &mut Database);
        let table: [(&str, Level, Change); 30] = [
            ("database", Level::Broken, |facts, _| facts.database = Some(Err("no".to_owned()))),
            ("database", Level::Broken, |_, found| found.condition.version_number = 130_012),
            ("schema", Level::Broken, |_, found| found.migrated = false),
            ("clocks", Level::Warning, |_, found| found.skew_ms = -1_001),
            ("clocks", Level::Broken, |_, found| found.skew_ms = 30_001),
            ("connections", Level::Warning, |_, found| found.condition.connections = (90, 100)),
            ("partitions ahead", Level::Broken, |_, found| found.inventory.partitions.clear()),
            ("partitions ahead", Level::Warning, |_, found| {
                let last = now().date_naive() + Days::new(6);
                found
                    .inventory
                    .partitions
                    .retain(|partition| partition.table != "attempts" || partition.day < last);
            }),
            ("partitions ahead", Level::Warning, |_, found| {
                let mut old = found.inventory.partitions[0].clone();
                old.day = now().date_naive() - Days::new(32);
                found.inventory.partitions.push(old);
            }),
            ("fan-out", Level::Warning, |_, found| {
                found.condition.oldest_group = Some(now() - TimeDelta::seconds(61));
            }),
            ("fan-out", Level::Broken, |_, found| {
                found.condition.oldest_group = Some(now() - TimeDelta::minutes(16));
            }),
            ("scheduled events", Level::Warning, |_, found| {
                found.condition.oldest_scheduled = Some(now() - TimeDelta::minutes(2));
            }),
            ("outcomes", Level::Broken, |_, found| {
                found.condition.oldest_settlement = Some(now() - TimeDelta::hours(3));
            }),
            ("recoveries", Level::Broken, |_, found| {
                found.condition.oldest_recovery = Some(now() - TimeDelta::minutes(16));
            }),
            ("deliveries", Level::Warning, |_, found| {
                found.condition.oldest_due = Some(now() - TimeDelta::minutes(2));
            }),
            ("dead letters", Level::Warning, |_, found| found.condition.dead_letters = 1),
            ("vacuum", Level::Broken, |_, found| found.condition.autovacuum = false),
            ("vacuum", Level::Broken, |_, found| found.condition.transaction_age = 1_000_000_001),
            ("vacuum", Level::Warning, |_, found| {
                found.condition.oldest_transaction = Some(now() - TimeDelta::minutes(16));
            }),
            ("vacuum", Level::Warning, |_, found| {
                let of = Bloated { name: "settlements".to_owned(), dead: 70_000, live: 3 };
                found.condition.bloated.push(of);
            }),
            ("indexes", Level::Broken, |_, found| found.condition.invalid_indexes.push("a".to_owned())),
            ("master key", Level::Warning, |facts, _| facts.master_key = None),
            ("master key", Level::Broken, |facts, _| facts.master_key = Some(Err("no".to_owned()))),
            ("broker", Level::Broken, |facts, _| facts.broker = Some(Err("no".to_owned()))),
            ("queues", Level::Warning, |facts, _| facts.broker = Some(Ok(Some(vec![queue("a", None, 0)])))),
            ("queues", Level::Broken, |facts, _| facts.broker = Some(Ok(Some(vec![queue("a", Some(0), 0)])))),
            ("queues", Level::Warning, |facts, _| {
                facts.broker = Some(Ok(Some(vec![queue("a", Some(10_001), 1)])))
            }),
            ("dead messages", Level::Warning, |facts, _| {
                facts.broker = Some(Ok(Some(vec![queue("a", Some(10_000), 1), queue("dead", Some(1), 0)])));
            }),
            ("disk", Level::Warning, |facts, _| facts.disk = Some((9, 100))),
            ("disk", Level::Broken, |facts, _| facts.disk = Some((1, 100))),
        ];
        for (at, (check, level, change)) in table.into_iter().enumerate() {
            let findings = found(change);
            let not_good: Vec<_> = findings.iter().filter(|finding| finding.level != Level::Good).collect();
            let [one] = not_good.as_slice() else { panic!("{at} {check}: {not_good:?}") };
            assert_eq!((one.check, one.level), (check, level), "{at} {one:?}");
            assert!(one.advice.is_some(), "{one:?}");
        }
    }

    fn queue(name: &str, messages: Option<u32>, readers: u32) -> Depth {
        Depth { queue: name.to_owned(), messages, readers }
    }
}
