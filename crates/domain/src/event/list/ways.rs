//! How the events of a page are found: among all of the tenant's, or by what is known of their deliveries and of what waits
//! (docs/decisions/0054).

use diesel::{
    PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Jsonb, Nullable, Text, Uuid},
};

use super::{EventQuery, EventState, LEFT, Listed, ListedEvent, STANDING, StateFilter, WAITS};
use crate::{
    Result,
    db::partition,
    event::store::STORED,
    id::{EventId, TenantId, first_uuid_at},
};

/// A condition, and that the event is fanned out: only that of events that satisfy the condition, not of all that are looked at.
fn and_fanned_out(condition: &str) -> String {
    format!("CASE WHEN {condition} THEN NOT waits ELSE false END")
}

/// Events that a page looks at for conditions that no index knows together: metadata, states that are the absence of something, a type
/// among what is pending. A page of rare ones is short then, and says where to go on.
pub const LOOKED_AT: i64 = 10_000;

/// Of events whose ids are known twice a page is looked up at first, then so many times more.
const GROWTH: i64 = 8;

/// Events of tenant `$1` that wait for their fan-out, or for their time.
const WAITING: &str = "SELECT k.id FROM event_groups g CROSS JOIN LATERAL unnest(g.tenant_ids, g.event_ids) AS k (t, id) \
     WHERE k.t = $1 AND ($5 IS NULL OR k.id < $5) \
     UNION ALL SELECT w.id FROM scheduled_events w WHERE w.tenant_id = $1 AND ($5 IS NULL OR w.id < $5)";

/// How events in a state are found.
pub(super) enum Way {
    /// By looking at the tenant's events one after the other, for this.
    Look(String),
    /// By what is known of these: `c` (id), and then this.
    Known(String, String),
}

impl Way {
    /// The ways that lead to a page of events in a state, in their order.
    pub(super) fn to(state: Option<StateFilter>) -> Vec<Self> {
        match state {
            // What waits is read before what it turns into, so that what is fanned out meanwhile is not missed. Each goes by an index
            // of its own, in order; both together would be read whole and sorted.
            Some(StateFilter::Undelivered) => vec![Self::waiting("waits"), Self::of(state)],
            // Of a large event some deliveries may have ended before the others are made.
            Some(StateFilter::Is(EventState::Pending)) => {
                vec![Self::waiting("waits AND pending + delivered + dead + cancelled > 0"), Self::of(state)]
            }
            None | Some(StateFilter::Is(_)) => vec![Self::of(state)],
        }
    }

    /// A page of what is found this way.
    ///
    /// # Errors
    /// When the database is away.
    pub(super) fn find(
        &self,
        conn: &mut PgConnection,
        tenant: TenantId,
        query: &EventQuery,
    ) -> Result<Listed> {
        match self {
            Self::Look(state) => looked_for(conn, tenant, query, state),
            Self::Known(ids, state) => known(conn, tenant, query, ids, state),
        }
    }

    /// What waits, and of that what satisfies a condition. It may have been fanned out since its id was read, and is in another state then.
    fn waiting(condition: &str) -> Self {
        Self::Known(WAITING.to_owned(), condition.to_owned())
    }

    fn of(state: Option<StateFilter>) -> Self {
        let undelivered = |which: &str| {
            format!(
                "SELECT u.event_id AS id FROM deliveries u WHERE u.tenant_id = $1 AND u.state IN (0, 2){which} \
                   AND ($3 IS NULL OR u.event_id >= $3) AND ($4 IS NULL OR u.event_id < $4) \
                   AND ($5 IS NULL OR u.event_id < $5)"
            )
        };
        match state {
            None => Self::Look("true".to_owned()),
            Some(StateFilter::Undelivered) => {
                Self::Known(undelivered(""), "(waits OR pending + dead > 0)".to_owned())
            }
            Some(StateFilter::Is(EventState::Accepted)) => {
                Self::waiting("waits AND pending + delivered + dead + cancelled = 0")
            }
            Some(StateFilter::Is(EventState::Pending)) => {
                Self::Known(undelivered(" AND u.state = 0"), "pending > 0".to_owned())
            }
            Some(StateFilter::Is(EventState::Dead)) => {
                Self::Known(undelivered(" AND u.state = 2"), and_fanned_out("pending = 0 AND dead > 0"))
            }
            Some(StateFilter::Is(EventState::Unmatched)) => {
                Self::Look(and_fanned_out("pending + delivered + dead + cancelled = 0"))
            }
            Some(StateFilter::Is(EventState::Delivered)) => {
                Self::Look(and_fanned_out("pending + dead = 0 AND delivered > 0"))
            }
            Some(StateFilter::Is(EventState::Cancelled)) => {
                Self::Look(and_fanned_out("pending + dead + delivered = 0 AND cancelled > 0"))
            }
        }
    }
}

/// What of the tenant's events is asked for that their index knows.
const ASKED: &str = "e.tenant_id = $1 AND ($2 IS NULL OR e.event_type = $2) \
     AND ($3 IS NULL OR e.id >= $3) AND ($4 IS NULL OR e.id < $4) AND ($5 IS NULL OR e.id < $5)";

/// A page of what satisfies a condition among the tenant's events. One of events in whatever state is nearly always full of those of the last
/// day.
fn looked_for(conn: &mut PgConnection, tenant: TenantId, query: &EventQuery, state: &str) -> Result<Listed> {
    let in_any_state = query.state.is_none();
    let statement = looking(state, in_any_state);
    let mut of = |query: &EventQuery| page(conn, tenant, query, &statement, &[]);
    let events = if in_any_state && query.since.is_none() {
        let newest = query.before.map(EventId::accepted_at).or(query.until);
        partition::nearest(newest, query.limit, |since| of(&EventQuery { since, ..query.clone() }))?
    } else {
        of(query)?
    };
    let may_end_early = !in_any_state || query.metadata.is_some();
    if may_end_early && events.len() < query.most() {
        return Ok(Listed { events, looked_up_to: last_looked_at(conn, tenant, query)? });
    }
    Ok(Listed { events, looked_up_to: None })
}

/// The last of the events that a page looks at; `None` when it looks at all that there are.
///
/// # Errors
/// When the database is away.
pub(crate) fn last_looked_at(
    conn: &mut PgConnection,
    tenant: TenantId,
    query: &EventQuery,
) -> Result<Option<EventId>> {
    let before_last = LOOKED_AT - 1;
    let last =
        format!("SELECT e.id FROM events e WHERE {ASKED} ORDER BY e.id DESC OFFSET {before_last} LIMIT 1");
    Ok(ids_of(conn, tenant, query, &last)?.pop())
}

/// A page of what satisfies a condition among events whose ids a statement tells. They are asked for in parts, newest first, and looked up when
/// they are known: then only their partitions are planned for.
fn known(
    conn: &mut PgConnection,
    tenant: TenantId,
    query: &EventQuery,
    ids: &str,
    state: &str,
) -> Result<Listed> {
    let most = query.most();
    let (mut found, mut rest, mut part) = (Listed::default(), query.clone(), 2 * query.limit);
    let mut left = LOOKED_AT;
    while found.events.len() < most {
        part = part.min(left);
        let statement = format!("SELECT DISTINCT c.id FROM ({ids}) c ORDER BY c.id DESC LIMIT {part}");
        let ids = ids_of(conn, tenant, &rest, &statement)?;
        let is_all = i64::try_from(ids.len()).unwrap_or(i64::MAX) < part;
        if !ids.is_empty() {
            found.events.extend(page(conn, tenant, query, &looking_up(state), &ids)?);
        }
        if is_all {
            break;
        }
        rest.before = ids.last().copied();
        left -= part;
        if left == 0 {
            found.looked_up_to = rest.before.filter(|_| found.events.len() < most);
            break;
        }
        part *= GROWTH;
    }
    found.events.truncate(most);
    Ok(found)
}

/// The events of a page by a statement of [`looking`] or [`looking_up`].
fn page(
    conn: &mut PgConnection,
    tenant: TenantId,
    query: &EventQuery,
    statement: &str,
    ids: &[EventId],
) -> Result<Vec<ListedEvent>> {
    let day = |id: &EventId| partition::bounds(id.accepted_at().date_naive());
    Ok(sql_query(statement)
        .bind::<Uuid, _>(tenant)
        .bind::<Nullable<Text>, _>(&query.event_type)
        .bind::<Nullable<Uuid>, _>(query.since.map(first_uuid_at))
        .bind::<Nullable<Uuid>, _>(query.until.map(first_uuid_at))
        .bind::<Nullable<Uuid>, _>(query.before)
        .bind::<Nullable<Jsonb>, _>(&query.metadata)
        .bind::<BigInt, _>(query.limit)
        .bind::<Array<Uuid>, _>(ids)
        .bind::<Nullable<Uuid>, _>(ids.last().map(|last| day(last).0))
        .bind::<Nullable<Uuid>, _>(ids.first().map(|first| day(first).1))
        .load(conn)?)
}

/// The columns of a page, and what of its events is asked for that no index knows.
const COLUMNS: &str = "pending, delivered, dead, cancelled, waits";
const METADATA: &str = "($6 IS NULL OR e.metadata @> $6)";

/// How each event `e` of a page stands, of the deliveries that satisfy a condition too.
fn standing(of: &str) -> String {
    format!(
        "CROSS JOIN LATERAL ({STANDING} AND {of}) AS standing CROSS JOIN LATERAL (SELECT {WAITS} AS waits) AS w"
    )
}

/// A page of the tenant's events; its parameters are those of [`page`]. In whatever state: deliveries are looked for from the day on from which
/// events are.
fn looking(state: &str, in_any_state: bool) -> String {
    let days = "($3 IS NULL OR d.event_id >= $3)";
    let standing = standing(if in_any_state { days } else { "true" });
    format!(
        "SELECT {STORED}, {LEFT}, {COLUMNS} \
         FROM (SELECT * FROM events e WHERE {ASKED} ORDER BY e.id DESC LIMIT {LOOKED_AT}) e {standing} \
         WHERE {METADATA} AND {state} ORDER BY e.id DESC LIMIT $7"
    )
}

/// A page of the events `$8`, newest first; its parameters are those of [`page`]. Their deliveries lie in their days, from `$9` to `$10`,
/// which leaves partitions out; each compared with all of the ids would take a time that grows with their square.
/// `OFFSET 0`: they are looked up and then put in order, and not looked for among all in order.
fn looking_up(state: &str) -> String {
    format!(
        "SELECT {STORED}, {LEFT}, {COLUMNS} \
         FROM (SELECT * FROM events e WHERE e.id = ANY($8) AND {ASKED} OFFSET 0) e {standing} \
         WHERE {METADATA} AND {state} ORDER BY e.id DESC LIMIT $7",
        standing = standing("d.event_id >= $9 AND d.event_id < $10")
    )
}

/// Ids that a statement tells; its parameters are the first of those of [`page`].
fn ids_of(
    conn: &mut PgConnection,
    tenant: TenantId,
    query: &EventQuery,
    statement: &str,
) -> Result<Vec<EventId>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        id: EventId,
    }
    let rows: Vec<Row> = sql_query(statement)
        .bind::<Uuid, _>(tenant)
        .bind::<Nullable<Text>, _>(&query.event_type)
        .bind::<Nullable<Uuid>, _>(query.since.map(first_uuid_at))
        .bind::<Nullable<Uuid>, _>(query.until.map(first_uuid_at))
        .bind::<Nullable<Uuid>, _>(query.before)
        .load(conn)?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}
