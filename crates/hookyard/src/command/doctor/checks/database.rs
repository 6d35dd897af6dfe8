//! What is well and what is not with a database: its server, its days, and what waits in it.

use chrono::{DateTime, Days, TimeDelta, Utc};
use hookyard_domain::{db::partition::DAYS_AHEAD, retention::inventory::Condition};
use hookyard_registry::Settings;

use super::Finding;
use crate::command::doctor::{Database, kept::Size};

/// The oldest PostgreSQL that is supported.
const OLDEST: i32 = 140_000;

/// What waits longer than this waits for somebody who is not there.
const LONG: TimeDelta = TimeDelta::minutes(1);

/// And this is no peak any more.
const TOO_LONG: TimeDelta = TimeDelta::minutes(15);

/// For so long payloads past their age may still be leaving.
const PURGING: TimeDelta = TimeDelta::hours(12);

pub(super) fn version(condition: &Condition) -> Finding {
    let found = format!("PostgreSQL {}, {}", condition.version, Size(condition.bytes));
    if condition.version_number < OLDEST {
        return Finding::broken("database", found, "upgrade to PostgreSQL 14 or later");
    }
    Finding::good("database", found)
}

pub(super) fn of(database: &Database, settings: &Settings, now: DateTime<Utc>) -> Vec<Finding> {
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
    use super::{
        super::{
            Level,
            tests::{now, well},
        },
        *,
    };

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

    #[test]
    fn times_are_told_in_their_largest_unit() {
        for (seconds, words) in
            [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 h"), (172_800, "2 days")]
        {
            assert_eq!(in_words(TimeDelta::seconds(seconds)), words);
        }
    }
}
