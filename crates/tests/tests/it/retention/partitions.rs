//! Partitions are made ahead, so that there is a place for whatever is accepted next: when a database is set up, and by the upkeep
//! of registries from then on.

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use diesel::{QueryableByName, RunQueryDsl, sql_query, sql_types::Text};
use hookyard_domain::db::{Db, partition};
use hookyard_messaging::Bus;
use hookyard_tests::system::{Options, System};

use super::partition_of;
use crate::pipeline::stage::until;

/// The tables that are cut by day.
const TABLES: [&str; 4] = ["attempts", "deliveries", "delivery_bodies", "events"];

/// The names of all partitions of that day and of later ones, sorted.
async fn since(db: &Db, day: DateTime<Utc>) -> Vec<String> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        name: String,
    }
    let all = "SELECT c.relname::text AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
        JOIN pg_class p ON p.oid = i.inhparent WHERE p.relname IN ('attempts', 'deliveries', 'delivery_bodies', 'events')";
    let rows: Vec<Row> = db.once(move |conn| Ok(sql_query(all).load(conn)?)).await.unwrap();
    let first = day.format("%Y%m%d").to_string();
    let is_later = |name: &String| name.rsplit('_').next() >= Some(first.as_str());
    let mut names: Vec<String> = rows.into_iter().map(|row| row.name).filter(is_later).collect();
    names.sort();
    names
}

/// The names of the partitions of so many days from this one on, sorted.
fn days(first: DateTime<Utc>, count: i64) -> Vec<String> {
    let of_table =
        |table: &'static str| (0..count).map(move |n| partition_of(table, first + TimeDelta::days(n)));
    let mut names: Vec<String> = TABLES.into_iter().flat_map(of_table).collect();
    names.sort();
    names
}

/// Noon of a day to come, after so many days.
fn noon_in(days: i64, now: DateTime<Utc>) -> DateTime<Utc> {
    (now + TimeDelta::days(days)).date_naive().and_time(NaiveTime::MIN).and_utc() + TimeDelta::hours(12)
}

#[tokio::test]
async fn there_is_one_for_yesterday_for_today_and_for_each_of_the_next_seven_days() {
    let system = System::start().await;
    let ensure =
        async |now: DateTime<Utc>| system.db.once(move |conn| partition::ensure(conn, now)).await.unwrap();
    // Long after what was made when the database was set up.
    let noon = noon_in(100, system.clock.now());
    let (day, yesterday) = (TimeDelta::days(1), noon - TimeDelta::days(1));
    assert!(since(&system.db, yesterday).await.is_empty());
    assert_eq!(ensure(noon).await, 9 * TABLES.len());
    assert_eq!(since(&system.db, yesterday - day * 50).await, days(yesterday, 9));
    // A day is the same from its first instant to its last, and the next has one day more.
    let midnight = noon - TimeDelta::hours(12);
    for now in [noon, midnight, midnight + day - TimeDelta::microseconds(1)] {
        assert_eq!(ensure(now).await, 0, "{now}");
    }
    assert_eq!(ensure(midnight + day).await, TABLES.len());
    assert_eq!(since(&system.db, yesterday - day * 50).await, days(yesterday, 10));
    // One that is missing in between is made, too.
    let missing = partition_of("events", noon + day * 3);
    super::execute(&system.db, &format!("DROP TABLE {missing}")).await;
    assert_eq!(ensure(noon + day).await, 1);
    assert_eq!(since(&system.db, yesterday - day * 50).await, days(yesterday, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_makes_the_next_day_when_midnight_has_passed() {
    let mut options = Options::whole(Bus::in_process(), Vec::new());
    if let Some(engine) = &mut options.engine {
        // Two that look after the same database.
        (engine.registries, engine.deliverers) = (2, 0);
    }
    let mut system = System::with(options).await;
    let there = async |first: DateTime<Utc>, count: i64| {
        until(&format!("there are {count} days"), async || {
            let (found, expected) = (since(&system.db, first).await, days(first, count));
            if found == expected { Ok(()) } else { Err(found) }
        })
        .await;
    };
    // Noon is far from any midnight of the real clock, which goes on meanwhile.
    let noon = noon_in(1, system.clock.now());
    system.clock.advance(noon - system.clock.now());
    there(noon, 8).await;
    system.clock.advance(noon + TimeDelta::hours(12) - system.clock.now());
    there(noon, 9).await;
    // After days in which nobody looked after it, there is a place for each day that is still to come.
    system.clock.advance(TimeDelta::days(12));
    let today = noon + TimeDelta::days(13);
    there(today - TimeDelta::days(1), 9).await;
    system.stop().await;
}
