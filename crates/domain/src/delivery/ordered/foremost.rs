//! What stands foremost in a line, and what that means: whether the first goes, or gives way, or may not go yet.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{Array, BigInt, Bool, SmallInt, Uuid},
};

use super::{Line, is_of_a_key};
use crate::{
    Result,
    db::{partition, prepared::prepared},
    delivery::Profile,
    id::{DeliveryId, EventId, SubscriptionId, TenantId},
};

/// After so many failed tries a delivery of a task that waits for the next one gives way to the step behind it.
pub const TRIES_BEFORE_GIVING_WAY: u16 = 2;

/// Events may be a little ahead of whoever looks: clocks differ, and the ids of a run's events rise whatever they say.
const AHEAD: TimeDelta = TimeDelta::hours(1);

/// A pending delivery in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// How it is tried.
    profile: Profile,
    /// Failed tries so far.
    tries: u16,
    /// It was not let go yet.
    held_back: bool,
    /// It is between two tries, or waits for its turn at a busy endpoint: nobody is trying it.
    waiting: bool,
}

/// What is to be done about a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The first is under way, or there is nobody to make way for.
    Nothing,
    /// The first goes.
    Release,
    /// The first gives way to the one behind it.
    Supersede,
}

/// The rule: what the two foremost pending deliveries of a line mean.
///
/// Order is strict until the foremost has failed twice. A receiver that refuses «started» must not hold up «completed» for the
/// hours that the schedule of tasks lasts; a later step of a run says more than an earlier one.
#[must_use]
pub(super) fn step(first: &Standing, second: Option<&Standing>) -> Step {
    if first.held_back {
        Step::Release
    } else if first.profile == Profile::Task
        && first.waiting
        && first.tries >= TRIES_BEFORE_GIVING_WAY
        && second.is_some()
    {
        Step::Supersede
    } else {
        Step::Nothing
    }
}

/// The lines behind `after` in which something is to be done, found by looking at `limit` pending deliveries; and where to go
/// on, `None` at the end.
///
/// # Errors
/// When the database is away.
pub fn left_behind(
    conn: &mut PgConnection,
    after: Option<uuid::Uuid>,
    limit: i64,
) -> Result<(Vec<Line>, Option<uuid::Uuid>)> {
    let rows: Vec<Row> = prepared(format!(
        "SELECT {STANDING} FROM deliveries d \
         WHERE d.state = 0 AND d.ordering IS NOT NULL AND d.ordering > $1 ORDER BY d.ordering, d.event_id LIMIT $2"
    ))
    .bind::<Uuid, _>(after.unwrap_or_default())
    .bind::<BigInt, _>(limit)
    .load(conn)?;
    let mut rows = rows;
    let last = rows.last().map(|row| row.ordering).filter(|_| rows.len() as i64 == limit);
    if let Some(last) = last
        && rows.first().is_some_and(|row| row.ordering != last)
    {
        // It may go on behind the limit: seen as a whole the next time.
        rows.retain(|row| row.ordering != last);
    }
    let go_on = last.and_then(|_| rows.last().map(|row| row.ordering));
    let mut lines = BTreeSet::new();
    for pair in pairs(rows) {
        if step(&pair.first, pair.second.as_ref()) != Step::Nothing {
            lines.insert(pair.line);
        }
    }
    Ok((lines.into_iter().collect(), go_on))
}

/// The foremost pending delivery of a line, and what stands behind it.
pub(super) struct Pair {
    pub(super) line: Line,
    pub(super) id: DeliveryId,
    pub(super) first: Standing,
    pub(super) second: Option<Standing>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Uuid)]
    event_id: EventId,
    #[diesel(sql_type = Uuid)]
    subscription_id: SubscriptionId,
    #[diesel(sql_type = Uuid)]
    ordering: uuid::Uuid,
    #[diesel(sql_type = SmallInt)]
    profile: Profile,
    #[diesel(sql_type = SmallInt)]
    tries: i16,
    #[diesel(sql_type = Bool)]
    held_back: bool,
    #[diesel(sql_type = Bool)]
    unclaimed: bool,
}

const STANDING: &str = "d.event_id, d.subscription_id, d.ordering, d.profile, d.tries, d.next_attempt_at = 'infinity' AS held_back, \
     d.claim = '00000000-0000-0000-0000-000000000000' AS unclaimed";

impl Row {
    fn line(&self) -> Line {
        (self.subscription_id, self.ordering)
    }

    fn standing(&self) -> Standing {
        Standing {
            profile: self.profile,
            tries: u16::try_from(self.tries).unwrap_or(0),
            held_back: self.held_back,
            waiting: self.unclaimed && !self.held_back,
        }
    }
}

/// The pairs of rows that are in the order of their events within each line.
fn pairs(rows: Vec<Row>) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = Vec::new();
    let mut seen: HashMap<Line, usize> = HashMap::new();
    for row in rows {
        match seen.get(&row.line()) {
            None => {
                seen.insert(row.line(), pairs.len());
                pairs.push(Pair {
                    line: row.line(),
                    id: DeliveryId { event: row.event_id, subscription: row.subscription_id },
                    first: row.standing(),
                    second: None,
                });
            }
            Some(at) => {
                let second = &mut pairs[*at].second;
                if second.is_none() {
                    *second = Some(row.standing());
                }
            }
        }
    }
    pairs
}

/// Whose the subscriptions of these lines are.
pub(super) fn owners<'a>(
    conn: &mut PgConnection,
    lines: impl Iterator<Item = &'a Line>,
) -> Result<HashMap<SubscriptionId, TenantId>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        id: SubscriptionId,
        #[diesel(sql_type = Uuid)]
        tenant_id: TenantId,
    }
    let subscriptions: BTreeSet<SubscriptionId> = lines.map(|line| line.0).collect();
    if subscriptions.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<Row> = prepared("SELECT id, tenant_id FROM subscriptions WHERE id = ANY($1)")
        .bind::<Array<Uuid>, _>(subscriptions.into_iter().collect::<Vec<_>>())
        .load(conn)?;
    Ok(rows.into_iter().map(|row| (row.id, row.tenant_id)).collect())
}

/// The oldest event of each of these owners that waits for its fan-out; where only hooks wait for it, there is no line. The groups of others are passed over as they are: a
/// backlog of one tenant is not unpacked for each delivery of another.
pub(super) fn fanned_out_up_to(
    conn: &mut PgConnection,
    owners: &HashMap<SubscriptionId, TenantId>,
) -> Result<HashMap<TenantId, EventId>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        tenant_id: TenantId,
        #[diesel(sql_type = Uuid)]
        event_id: EventId,
    }
    let tenants: BTreeSet<TenantId> = owners.values().copied().collect();
    if tenants.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<Row> = prepared(
        "SELECT k.tenant_id, min(k.event_id::text)::uuid AS event_id FROM event_groups g \
         CROSS JOIN LATERAL unnest(g.tenant_ids, g.event_ids) AS k (tenant_id, event_id) \
         WHERE g.tenant_ids && $1 AND k.tenant_id = ANY($1) AND g.wanted IS NULL GROUP BY k.tenant_id",
    )
    .bind::<Array<Uuid>, _>(tenants.into_iter().collect::<Vec<_>>())
    .load(conn)?;
    Ok(rows.into_iter().map(|row| (row.tenant_id, row.event_id)).collect())
}

/// What stands foremost in each line. The lines of runs are looked for in the partitions by name, from the day on which the line began: through the
/// parent each look would open all the partitions that there are.
pub(super) fn foremost(conn: &mut PgConnection, lines: &[Line], now: DateTime<Utc>) -> Result<Vec<Pair>> {
    let mut partitions: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for line in lines {
        if is_of_a_key(line) {
            // Nobody knows when its first event came.
            partitions.entry("deliveries".to_owned()).or_default().push(*line);
            continue;
        }
        for table in partition::holding_between("deliveries", line.1, now + AHEAD) {
            partitions.entry(table).or_default().push(*line);
        }
    }
    let mut rows: Vec<Row> = Vec::with_capacity(lines.len());
    for (table, lines) in partitions {
        let (subscriptions, orderings): (Vec<SubscriptionId>, Vec<uuid::Uuid>) = lines.into_iter().unzip();
        let found = prepared(format!(
            "SELECT h.* FROM unnest($1, $2) AS k (s, o) CROSS JOIN LATERAL \
                (SELECT {STANDING} FROM {table} d \
                 WHERE d.ordering = k.o AND d.subscription_id = k.s AND d.state = 0 AND d.ordering IS NOT NULL \
                 ORDER BY d.event_id LIMIT 2) h"
        ))
        .bind::<Array<Uuid>, _>(subscriptions)
        .bind::<Array<Uuid>, _>(orderings)
        .load::<Row>(conn);
        match found {
            Ok(found) => rows.extend(found),
            Err(error) if partition::is_dropped(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    rows.sort_by_key(|row| row.event_id);
    Ok(pairs(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_goes_and_gives_way_after_two_failures_while_it_waits() {
        let standing = |profile, tries, held_back, waiting| Standing { profile, tries, held_back, waiting };
        let new = standing(Profile::Task, 0, true, false);
        let table = [
            (new, None, Step::Release),
            (new, Some(new), Step::Release),
            // Under way.
            (standing(Profile::Task, 0, false, false), Some(new), Step::Nothing),
            (standing(Profile::Task, 1, false, true), Some(new), Step::Nothing),
            (standing(Profile::Task, 2, false, true), Some(new), Step::Supersede),
            (standing(Profile::Task, 7, false, true), Some(new), Step::Supersede),
            // Nobody to give way to.
            (standing(Profile::Task, 2, false, true), None, Step::Nothing),
            // It is being tried at this moment.
            (standing(Profile::Task, 2, false, false), Some(new), Step::Nothing),
            // Order only: the others have no steps that outlive each other.
            (standing(Profile::Consumer, 2, false, true), Some(new), Step::Nothing),
        ];
        for (first, second, expected) in table {
            assert_eq!(step(&first, second.as_ref()), expected, "{first:?} {second:?}");
        }
    }
}
