//! What the rows say at the end of a load, held against what the clients were promised and what the receivers got.

use std::time::Duration;

use diesel::{
    Connection as _, PgConnection, QueryableByName, RunQueryDsl as _, sql_query, sql_types::BigInt,
};

use crate::{
    load::{Accepted, Kind, Tally},
    sink::{HOOKS, Sink},
};

/// Tries after which a delivery of a hook is given up.
const TRIES: u32 = 4;

/// Rows, counted.
#[derive(Debug, QueryableByName)]
pub struct Ledger {
    /// Events.
    #[diesel(sql_type = BigInt)]
    pub events: i64,
    /// Groups of events that are not fanned out.
    #[diesel(sql_type = BigInt)]
    pub groups: i64,
    /// Deliveries that these events have to have.
    #[diesel(sql_type = BigInt)]
    pub expected: i64,
    /// Deliveries.
    #[diesel(sql_type = BigInt)]
    pub deliveries: i64,
    /// Deliveries that are not at their end.
    #[diesel(sql_type = BigInt)]
    pub pending: i64,
    /// Deliveries that arrived.
    #[diesel(sql_type = BigInt)]
    pub delivered: i64,
    /// Dead letters.
    #[diesel(sql_type = BigInt)]
    pub dead: i64,
    /// Deliveries to hooks of another tenant than the event's.
    #[diesel(sql_type = BigInt)]
    pub foreign: i64,
    /// Tries that were written down.
    #[diesel(sql_type = BigInt)]
    pub attempts: i64,
    /// Those of them that saw no answer: the receiver may have taken the request all the same.
    #[diesel(sql_type = BigInt)]
    pub unanswered: i64,
    /// Settlements that were not applied.
    #[diesel(sql_type = BigInt)]
    pub settlements: i64,
    /// What the hooks' own counters say was delivered.
    #[diesel(sql_type = BigInt)]
    pub counted: i64,
    /// What the hooks' own counters say failed.
    #[diesel(sql_type = BigInt)]
    pub failures: i64,
    /// Idempotency keys with more than one event.
    #[diesel(sql_type = BigInt)]
    pub repeated: i64,
    /// Hooks whose numbers are not all given to one delivery each, or void.
    #[diesel(sql_type = BigInt)]
    pub miscounted: i64,
    /// Numbers that a crash of the server has left out.
    #[diesel(sql_type = BigInt)]
    pub void: i64,
}

#[derive(QueryableByName)]
struct Left {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

impl Ledger {
    /// Counts.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn read(database: &str) -> Self {
        let sql = "SELECT (SELECT count(*) FROM events) AS events, (SELECT count(*) FROM event_groups) AS groups, \
                (SELECT coalesce(sum(CASE event_type WHEN 'order.created' THEN 3 ELSE 1 END), 0) FROM events) AS expected, \
                (SELECT count(*) FROM attempts) AS attempts, \
                (SELECT count(*) FROM attempts WHERE status IS NULL) AS unanswered, (SELECT count(*) FROM settlements) AS settlements, \
                (SELECT coalesce(sum(delivery_count), 0)::bigint FROM subscription_health) AS counted, \
                (SELECT coalesce(sum(failure_count), 0)::bigint FROM subscription_health) AS failures, \
                (SELECT count(*) FROM deliveries d JOIN subscriptions s ON s.id = d.subscription_id \
                    LEFT JOIN events e ON e.id = d.event_id AND e.tenant_id = s.tenant_id \
                    WHERE e.id IS NULL OR d.tenant_id <> s.tenant_id) AS foreign, \
                (SELECT count(*) FROM (SELECT 1 FROM events WHERE position('\"once\"'::bytea IN body) > 0 \
                    GROUP BY convert_from(body, 'UTF8')::jsonb #>> '{payload,once}' HAVING count(*) > 1) AS twice) \
                    AS repeated, \
                (SELECT count(*) FROM (SELECT subscription_id, count(DISTINCT sequence) AS given, count(*) AS made FROM deliveries WHERE profile IN (0, 2) \
                    GROUP BY subscription_id) AS d FULL JOIN subscription_sequences q USING (subscription_id) \
                    WHERE (given = made AND q.last = given + \
                        (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(q.void) AS r)) IS NOT TRUE) AS miscounted, \
                (SELECT coalesce(sum(upper(r) - lower(r)), 0)::bigint FROM subscription_sequences q, unnest(q.void) AS r) AS void, \
                count(*) AS deliveries, count(*) FILTER (WHERE state = 0) AS pending, \
                count(*) FILTER (WHERE state = 1) AS delivered, count(*) FILTER (WHERE state = 2) AS dead \
             FROM deliveries";
        ask(database, sql).await
    }
}

/// Whether nothing is left to do.
///
/// # Panics
/// When the database does not answer.
pub async fn is_settled(database: &str) -> bool {
    let sql = "SELECT (SELECT count(*) FROM event_groups) + (SELECT count(*) FROM settlements) \
         + (SELECT count(*) FROM deliveries WHERE state = 0) AS n";
    ask::<Left>(database, sql).await.n == 0
}

async fn ask<T: QueryableByName<diesel::pg::Pg> + Send + 'static>(database: &str, sql: &'static str) -> T {
    let database = database.to_owned();
    let ask = move || {
        let mut conn = PgConnection::establish(&database).expect("the database is there again");
        sql_query(sql).get_result(&mut conn).expect("the rows can be counted")
    };
    tokio::task::spawn_blocking(ask).await.expect("no panic")
}

/// What a scenario came to.
#[derive(Debug)]
pub struct Report {
    /// Requests for what had been taken before.
    pub duplicates: usize,
    /// Tries that reached a receiver and were never written down.
    pub unwritten: i64,
    /// What the clients saw.
    pub tally: Tally,
    /// What the rows say.
    pub ledger: Ledger,
}

impl Report {
    /// Checks what must hold after every fault, and prints what it came to.
    ///
    /// # Panics
    /// When it does not hold.
    pub(crate) fn check(name: &str, sink: &Sink, tally: Tally, ledger: Ledger, took: Duration) -> Self {
        let mut duplicates = sink.duplicates();
        duplicates.sort_by_key(|duplicate| duplicate.after);
        let unwritten = i64::try_from(sink.requests()).unwrap_or(i64::MAX) - ledger.attempts;
        println!(
            "{name}: {} events accepted ({} more stored whose answer was lost), {} deliveries in {} requests, {} dead \
             letters; settled {took:.1?} after the load; clients: {:?} refused, {} connections broken, slowest answer {:.2?}",
            tally.accepted.len(),
            ledger.events - i64::try_from(tally.accepted.len()).unwrap_or(i64::MAX),
            ledger.deliveries,
            sink.requests(),
            ledger.dead,
            tally.refused,
            tally.broken,
            tally.slowest,
        );
        println!(
            "{name}: {} duplicates of {} ({unwritten} requests were made whose outcome was never written, {} got no answer){}",
            duplicates.len(),
            ledger.delivered,
            ledger.unanswered,
            match (duplicates.first(), duplicates.last()) {
                (Some(first), Some(last)) => format!(
                    "; they came {:.1?} to {:.1?} after the first time, when the lease of the lost one had ended",
                    first.after, last.after
                ),
                _ => String::new(),
            }
        );

        assert_eq!(tally.wrong, Vec::<String>::new(), "{name}: every answer keeps the contract");
        assert_eq!(sink.foreign(), Vec::<String>::new(), "{name}: nothing reaches a foreign tenant");
        assert_eq!(sink.strange(), Vec::<String>::new(), "{name}: nothing else is sent");
        let mut lost = Vec::new();
        for Accepted { tenant, id, kind } in &tally.accepted {
            for hook in 0..HOOKS {
                let visits = sink.visits(*tenant, hook, id);
                let as_it_should = match (kind, hook) {
                    (_, 0) | (Kind::Wanted, _) | (Kind::Poison, 1) => visits.taken > 0,
                    (Kind::Poison, _) => visits.taken == 0 && TRIES <= visits.tries,
                    (Kind::Plain, _) => visits.tries == 0,
                };
                if !as_it_should {
                    lost.push((kind, tenant, hook, id, visits));
                }
            }
        }
        let some: Vec<_> = lost.iter().take(10).collect();
        assert!(lost.is_empty(), "{name}: {} deliveries are not as they should be: {some:?}", lost.len());

        // Each number is one delivery, for those who receive and in the rows, and none is missing.
        assert_eq!(sink.misnumbered(), Vec::<String>::new(), "{name}");
        assert_eq!(ledger.miscounted, 0, "{name}: {ledger:?}");

        // Exactly one delivery for each hook that wants the event, each at its end.
        assert_eq!(ledger.deliveries, ledger.expected, "{name}: {ledger:?}");
        assert_eq!(ledger.delivered + ledger.dead, ledger.deliveries, "{name}: {ledger:?}");
        assert_eq!((ledger.foreign, ledger.repeated), (0, 0), "{name}: {ledger:?}");
        let poisoned = tally.accepted.iter().filter(|accepted| accepted.kind == Kind::Poison).count() as i64;
        assert!(poisoned <= ledger.dead, "{name}: {poisoned} are refused for ever: {ledger:?}");
        // The hooks' counters are exact: each try that was heard of was counted once. A try whose delivery had been taken
        // over meanwhile has the number of the one that took over: it is counted, and has no row of its own. One that failed
        // may have reached nobody.
        let twice = ledger.counted - ledger.delivered;
        assert!((0..=duplicates.len() as i64).contains(&twice), "{name}: {twice}, {ledger:?}");
        let without_row = ledger.counted + ledger.failures - ledger.attempts;
        assert!(
            (0..=unwritten.max(0) + ledger.failures).contains(&without_row),
            "{name}: {without_row}, {ledger:?}"
        );
        // A duplicate of which neither the outcome nor the answer was lost would be one that nothing explains.
        let explained = unwritten.max(0) + ledger.unanswered;
        assert!(duplicates.len() as i64 <= explained, "{name}: {} > {explained}", duplicates.len());
        Self { duplicates: duplicates.len(), unwritten, tally, ledger }
    }
}
