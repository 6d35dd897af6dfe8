//! How busy an endpoint was in the last hours, and how much of it arrived: tries counted in slots of ten minutes, with its health.

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{BigInt, Timestamptz, Uuid},
};

use crate::{
    Result,
    id::{SubscriptionId, TenantId},
};

/// The length of a slot.
pub const SLOT: TimeDelta = TimeDelta::minutes(10);

/// How many slots are shown: six hours (contract §4), the last one still filling.
pub const SLOTS: usize = 36;

/// The slot of an instant.
#[must_use]
pub fn slot_of(at: DateTime<Utc>) -> DateTime<Utc> {
    at.duration_trunc(SLOT).unwrap_or(at)
}

/// What happened in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, QueryableByName)]
pub struct Slot {
    /// When it began.
    #[diesel(sql_type = Timestamptz)]
    pub slot: DateTime<Utc>,
    /// Tries that arrived.
    #[diesel(sql_type = BigInt)]
    pub delivered: i64,
    /// Tries that failed.
    #[diesel(sql_type = BigInt)]
    pub failed: i64,
}

/// The last [`SLOTS`] slots of an endpoint, oldest first, those in which nothing happened too.
///
/// # Errors
/// When the database is away.
pub fn recent(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: SubscriptionId,
    now: DateTime<Utc>,
) -> Result<Vec<Slot>> {
    let last = slot_of(now);
    let first = last - SLOT * i32::try_from(SLOTS - 1).unwrap_or(0);
    let rows: Vec<Slot> = sql_query(
        "SELECT a.slot, a.delivered::bigint AS delivered, a.failed::bigint AS failed \
         FROM endpoint_activity a JOIN subscriptions s ON s.id = a.subscription_id \
         WHERE a.subscription_id = $2 AND s.tenant_id = $1 AND a.slot >= $3 AND a.slot <= $4",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .bind::<Timestamptz, _>(first)
    .bind::<Timestamptz, _>(last)
    .load(conn)?;
    Ok(filled(first, &rows))
}

/// All slots from the first on, with what is known of them.
fn filled(first: DateTime<Utc>, rows: &[Slot]) -> Vec<Slot> {
    (0..SLOTS)
        .map(|at| {
            let slot = first + SLOT * i32::try_from(at).unwrap_or(0);
            rows.iter().find(|row| row.slot == slot).copied().unwrap_or(Slot {
                slot,
                delivered: 0,
                failed: 0,
            })
        })
        .collect()
}

/// The part of tries that arrived, 0 to 1; `None` when there was none.
#[must_use]
pub fn success_rate(slots: &[Slot]) -> Option<f64> {
    let delivered: i64 = slots.iter().map(|slot| slot.delivered).sum();
    let failed: i64 = slots.iter().map(|slot| slot.failed).sum();
    let all = delivered + failed;
    (all > 0).then(|| (delivered as f64 / all as f64 * 10_000.0).round() / 10_000.0)
}

/// Forgets slots that nobody is shown any more.
///
/// # Errors
/// When the database is away.
pub fn forget_old(conn: &mut PgConnection, now: DateTime<Utc>) -> Result<()> {
    let shown = SLOT * i32::try_from(SLOTS + 6).unwrap_or(i32::MAX);
    sql_query("DELETE FROM endpoint_activity WHERE slot < $1")
        .bind::<Timestamptz, _>(now - shown)
        .execute(conn)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_ten_minutes_and_all_are_there() {
        let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().to_utc();
        for (time, slot) in [
            ("2026-11-26T12:00:00Z", "2026-11-26T12:00:00Z"),
            ("2026-11-26T12:09:59.999Z", "2026-11-26T12:00:00Z"),
            ("2026-11-26T12:10:00Z", "2026-11-26T12:10:00Z"),
        ] {
            assert_eq!(slot_of(at(time)), at(slot));
        }
        let first = at("2026-11-26T06:10:00Z");
        let known = Slot { slot: at("2026-11-26T12:00:00Z"), delivered: 3, failed: 1 };
        let slots = filled(first, &[known]);
        assert_eq!((slots.len(), slots[0].slot, slots[SLOTS - 1]), (SLOTS, first, known));
        assert_eq!(success_rate(&slots), Some(0.75));
        assert_eq!(success_rate(&slots[..SLOTS - 1]), None);
    }
}
