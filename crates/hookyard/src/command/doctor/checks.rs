//! What is well and what is not, as a rule over what was found out.

use std::process::ExitCode;

use chrono::{DateTime, Days, TimeDelta, Utc};
use hookyard_domain::{db::partition::DAYS_AHEAD, retention::inventory::Condition};
use hookyard_messaging::inspect::Depth;
use hookyard_registry::Settings;

use super::{Database, Facts, kept::Size};

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

/// The oldest PostgreSQL that is supported.
const OLDEST: i32 = 140_000;

/// What waits longer than this waits for somebody who is not there.
const LONG: TimeDelta = TimeDelta::minutes(1);

/// And this is no peak any more.
const TOO_LONG: TimeDelta = TimeDelta::minutes(15);

/// For so long payloads past their age may still be leaving.
const PURGING: TimeDelta = TimeDelta::hours(12);

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
                findings.push(version(condition));
                findings.push(Finding::good("schema", "up to date"));
                findings.extend(of_database(database, settings, now));
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

fn version(condition: &Condition) -> Finding {
    let found = format!("PostgreSQL {}, {}", condition.version, Size(condition.bytes));
    if condition.version_number < OLDEST {
        return Finding::broken("database", found, "upgrade to PostgreSQL 14 or later");
    }
    Finding::good("database", found)
}

fn of_database(database: &Database, settings: &Settings, now: DateTime<Utc>) -> Vec<Finding> {
    let condition = &database.condition;
    let mut findings = vec![clocks(database.skew_ms), connections(condition), ahead(database, settings, now)];
    let since =
        |oldest: Option<DateTime<Utc>>| oldest.map_or(TimeDelta::zero(), |oldest| condition.now - oldest);
    findings.push(waiting(
        "fan-out",
        since(condition.oldest_group),
        format!("{} commits wait for their fan-out", condition.groups),
        "nothing waits",
        "is a registry running, and does it reach the database? Its log says why it does not get on",
    ));
    findings.push(waiting(
        "scheduled events",
        since(condition.oldest_scheduled),
        "events are due and were not brought".to_owned(),
        "none is late",
        "is a registry running?",
    ));
    findings.push(waiting(
        "outcomes",
        since(condition.oldest_settlement),
        "outcomes wait to be applied to the health of hooks".to_owned(),
        "nothing waits",
        "is a registry running, and does it reach the database?",
    ));
    findings.push(waiting(
        "recoveries",
        since(condition.oldest_recovery),
        "recoveries do not get on".to_owned(),
        "none is late",
        "is a registry running, and does it reach the database? Its log says why it does not get on",
    ));
    findings.extend(payloads(database, settings, now));
    findings.push(waiting(
        "deliveries",
        since(condition.oldest_due),
        format!("{} are under way", condition.pending),
        &format!("{} under way, none late", condition.pending),
        "is a deliverer running? If so it has too much to do, or a slow receiver paces it: `GET /webhooks/{id}/health`",
    ));
    findings.push(match condition.dead_letters {
        0 => Finding::good("dead letters", "none"),
        some => Finding::warning(
            "dead letters",
            if some < 100_000 { format!("{some}") } else { "100,000 or more".to_owned() },
            "look at `GET /v1/dead-letters`, mend the receivers, then retry or discard them",
        ),
    });
    findings.push(cleaning(condition));
    findings.push(match condition.invalid_indexes.as_slice() {
        [] => Finding::good("indexes", "all are used"),
        some => Finding::broken(
            "indexes",
            format!("invalid: {}", some.join(", ")),
            "REINDEX INDEX CONCURRENTLY each of them: what they are for reads whole tables meanwhile",
        ),
    });
    findings
}

fn clocks(skew_ms: i64) -> Finding {
    let found = match skew_ms {
        0 => "this machine's and the database's agree".to_owned(),
        ahead if ahead > 0 => format!("the database is {ahead} ms ahead of this machine"),
        behind => format!("the database is {} ms behind this machine", -behind),
    };
    let advice = "let NTP set the clocks: leases, schedules and signatures go by them";
    match skew_ms.abs() {
        0..=1_000 => Finding::good("clocks", found),
        1_001..=30_000 => Finding::warning("clocks", found, advice),
        _ => Finding::broken("clocks", found, advice),
    }
}

fn connections(condition: &Condition) -> Finding {
    let (used, most) = condition.connections;
    let found = format!("{used} of {most}");
    if used * 10 < most * 9 {
        return Finding::good("connections", found);
    }
    Finding::warning("connections", found, "lower database.pool_size, or raise max_connections")
}

/// How long there are partitions for what is accepted.
fn ahead(database: &Database, settings: &Settings, now: DateTime<Utc>) -> Finding {
    let today = now.date_naive();
    let last = |table: &str| {
        let of_table = database.inventory.partitions.iter().filter(|partition| partition.table == table);
        // The first day from today on that has none.
        let days: std::collections::HashSet<_> = of_table.map(|partition| partition.day).collect();
        today.iter_days().take_while(|day| days.contains(day)).count()
    };
    let days =
        ["events", "deliveries", "delivery_bodies", "attempts"].into_iter().map(last).min().unwrap_or(0);
    let found = format!("{days} days, of {} that are made ahead", DAYS_AHEAD + 1);
    let advice = "is a registry running? `hookyard migrate` makes them, too; without one for the day POST /events fails";
    let wanted = usize::try_from(DAYS_AHEAD).unwrap_or(7);
    match days {
        0 => Finding::broken("partitions ahead", found, advice),
        few if few < wanted => Finding::warning("partitions ahead", found, advice),
        _ => overdue(database, settings, now).unwrap_or_else(|| Finding::good("partitions ahead", found)),
    }
}

/// Days that should have gone by now.
fn overdue(database: &Database, settings: &Settings, now: DateTime<Utc>) -> Option<Finding> {
    // A look of the registry, and midnight on another machine.
    let oldest = (now - TimeDelta::hours(2)).date_naive() - Days::new(u64::from(settings.retention_days));
    let old = database
        .inventory
        .partitions
        .iter()
        .filter(|partition| partition.day < oldest && !database.inventory.later_days.contains(&partition.day))
        .map(|partition| partition.day)
        .min()?;
    Some(Finding::warning(
        "partitions ahead",
        format!("the day {old} is past registry.retention_days of these settings and still there"),
        "does the registry have the same settings? Its log says `upkeep was put off` when it cannot drop them",
    ))
}

/// Days that should have lost their payloads by now; nothing where payloads stay as long as their events.
fn payloads(database: &Database, settings: &Settings, now: DateTime<Utc>) -> Option<Finding> {
    let keep = settings.payload_retention_days.filter(|days| *days < settings.retention_days)?;
    // A large day takes its time.
    let oldest = (now - PURGING).date_naive() - Days::new(u64::from(keep));
    let inventory = &database.inventory;
    let late = inventory
        .partitions
        .iter()
        .filter(|partition| partition.table == "events" && partition.day < oldest)
        .map(|partition| partition.day)
        .filter(|day| !inventory.done_days.contains(day) && !inventory.later_days.contains(day))
        .min();
    Some(match late {
        None => Finding::good("payloads", "those past their age are gone"),
        Some(day) => Finding::warning(
            "payloads",
            format!("the day {day} is past registry.payload_retention_days and still has its payloads"),
            "does the registry run, with the same settings? Its log says `old payloads cannot be let go yet` when it fails; a read that takes hours, such as pg_dump, keeps it from it",
        ),
    })
}

fn waiting(
    check: &'static str,
    waited: TimeDelta,
    found: String,
    well: &str,
    advice: &'static str,
) -> Finding {
    let found = format!("{found}, the oldest for {}", in_words(waited));
    if waited > TOO_LONG {
        Finding::broken(check, found, advice)
    } else if waited > LONG {
        Finding::warning(check, found, advice)
    } else {
        Finding::good(check, well)
    }
}

fn cleaning(condition: &Condition) -> Finding {
    if !condition.autovacuum {
        return Finding::broken(
            "vacuum",
            "autovacuum or track_counts is off",
            "switch both on: what is updated and deleted is never cleaned up, and transaction numbers run out",
        );
    }
    if condition.transaction_age > 1_000_000_000 {
        return Finding::broken(
            "vacuum",
            format!("{} transactions since the oldest that is not frozen", condition.transaction_age),
            "VACUUM (FREEZE) the database soon: at 2,000,000,000 the server takes no more writes",
        );
    }
    if let Some(open) = condition.oldest_transaction.map(|since| condition.now - since)
        && open > TOO_LONG
    {
        return Finding::warning(
            "vacuum",
            format!("a transaction is open for {}", in_words(open)),
            "end it (pg_stat_activity names it; a pg_dump ends by itself): nothing is cleaned up meanwhile",
        );
    }
    match condition.bloated.as_slice() {
        [] => Finding::good("vacuum", "nothing piles up"),
        [first, rest @ ..] => {
            let more = if rest.is_empty() { String::new() } else { format!(", and {} more", rest.len()) };
            let found =
                format!("{} has {} dead rows for {} live ones{more}", first.name, first.dead, first.live);
            Finding::warning(
                "vacuum",
                found,
                "VACUUM it; if it comes back, autovacuum is too slow for this server",
            )
        }
    }
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

/// A time that has passed, in its largest unit.
fn in_words(time: TimeDelta) -> String {
    match time.num_seconds() {
        seconds if seconds < 120 => format!("{} s", seconds.max(0)),
        seconds if seconds < 7_200 => format!("{} min", seconds / 60),
        seconds if seconds < 172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use hookyard_domain::retention::inventory::{Bloated, Inventory, Partition};

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_763_720_000, 0).unwrap_or_default()
    }

    /// A database in which all is well.
    fn well() -> Database {
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

    #[test]
    fn payloads_past_their_age_are_told_until_they_are_gone() {
        let today = now().date_naive();
        let settings = Settings { payload_retention_days: Some(2), ..Settings::default() };
        let level = |age: u64, done: bool, later: bool, now: DateTime<Utc>| {
            let mut database = well();
            let day = today - Days::new(age);
            let mut old = database.inventory.partitions[0].clone();
            old.day = day;
            database.inventory.partitions.push(old);
            database.inventory.purged_days.push(day);
            database.inventory.done_days.extend(done.then_some(day));
            database.inventory.later_days.extend(later.then_some(day));
            payloads(&database, &settings, now).map(|finding| finding.level)
        };
        let evening = today.and_hms_opt(23, 0, 0).unwrap().and_utc();
        let morning = today.and_hms_opt(11, 0, 0).unwrap().and_utc();
        for (age, done, later, now, expected) in [
            (2, false, false, evening, Level::Good),
            (3, false, false, evening, Level::Warning),
            (3, false, false, morning, Level::Good),
            (4, false, false, morning, Level::Warning),
            (4, true, false, morning, Level::Good),
            (4, false, true, morning, Level::Good),
        ] {
            assert_eq!(level(age, done, later, now), Some(expected), "{age} {done} {later} {now}");
        }
        assert_eq!(payloads(&well(), &Settings::default(), now()), None);
    }

    fn queue(name: &str, messages: Option<u32>, readers: u32) -> Depth {
        Depth { queue: name.to_owned(), messages, readers }
    }

    #[test]
    fn times_are_told_in_their_largest_unit() {
        for (seconds, words) in
            [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 h"), (172_800, "2 days")]
        {
            assert_eq!(in_words(TimeDelta::seconds(seconds)), words);
        }
    }
}
