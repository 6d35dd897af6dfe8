//! Rate limits that hold over all gateways: fixed windows, counted in Postgres, many requests in one statement.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, SmallInt, Timestamptz, Uuid},
};

use crate::{Result, db::prepared::prepared};

/// The length of a window in seconds: limits are per minute.
pub const WINDOW_S: i64 = 60;

/// The length of the windows of [`Bucket::HookWriteBurst`] and [`Bucket::Told`] in seconds.
pub const BURST_WINDOW_S: i64 = 3_600;

/// What is counted apart from other things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bucket {
    /// Every request of a credential.
    Requests,
    /// Subscribing and unsubscribing.
    HookWrites,
    /// Subscribing and unsubscribing beyond the limit, within an hour.
    HookWriteBurst,
    /// Samples.
    Samples,
    /// Requests of a peer without a valid credential.
    Unauthenticated,
    /// Requests of a tenant to `/v2`.
    Actions,
    /// Requests of a peer to `/v2`.
    ActionsOfAddress,
    /// Events that tell that a limit was reached: one of a subject in an hour.
    Told,
}

impl Bucket {
    /// How the database keeps it.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::Requests => 0,
            Self::HookWrites => 1,
            Self::Samples => 2,
            Self::Unauthenticated => 3,
            Self::HookWriteBurst => 4,
            Self::Actions => 5,
            Self::ActionsOfAddress => 6,
            Self::Told => 7,
        }
    }

    /// The length of its windows in seconds.
    #[must_use]
    pub const fn window_s(self) -> i64 {
        match self {
            Self::Requests
            | Self::HookWrites
            | Self::Samples
            | Self::Unauthenticated
            | Self::Actions
            | Self::ActionsOfAddress => WINDOW_S,
            Self::HookWriteBurst | Self::Told => BURST_WINDOW_S,
        }
    }
}

/// Requests that arrived together for one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Whose limit: a credential's id, or a hash of a peer's address.
    pub subject: uuid::Uuid,
    /// Which of its limits.
    pub bucket: Bucket,
    /// How many requests ask.
    pub requests: u32,
    /// How many may pass in a window; not 0.
    pub limit: u32,
}

/// The answer to an [`Ask`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// How many of the requests may pass: the first so many.
    pub granted: u32,
    /// How many more may pass in this window after them.
    pub remaining: u32,
    /// When the window ends.
    pub resets_at: DateTime<Utc>,
    /// Whether the limit was reached with the last of those that may pass: once in a window, whoever counts.
    pub filled: bool,
}

/// Counts requests. Each (subject, bucket) may occur once; the order of answers is that of `asks`.
///
/// # Errors
/// When the database is away.
pub fn count(conn: &mut PgConnection, asks: &[Ask], now: DateTime<Utc>) -> Result<Vec<Grant>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        credential_id: uuid::Uuid,
        #[diesel(sql_type = SmallInt)]
        bucket: i16,
        #[diesel(sql_type = Timestamptz)]
        started_at: DateTime<Utc>,
        #[diesel(sql_type = BigInt)]
        used: i64,
    }
    // Sorted, so that two gateways lock rows in the same order.
    let mut sorted: Vec<&Ask> = asks.iter().collect();
    sorted.sort_unstable_by_key(|ask| (ask.subject, ask.bucket));
    let rows: Vec<Row> = prepared(
        "INSERT INTO rate_windows AS w (credential_id, bucket, started_at, used) \
         SELECT s, b, $4, n FROM unnest($1, $2, $3) AS k (s, b, n) \
         ON CONFLICT (credential_id, bucket) DO UPDATE SET \
            used = CASE WHEN w.started_at <= CASE WHEN w.bucket IN (4, 7) THEN $6 ELSE $5 END \
               THEN excluded.used ELSE w.used + excluded.used END, \
            started_at = CASE WHEN w.started_at <= CASE WHEN w.bucket IN (4, 7) THEN $6 ELSE $5 END \
               THEN excluded.started_at ELSE w.started_at END \
         RETURNING credential_id, bucket, started_at, used",
    )
    .bind::<Array<Uuid>, _>(sorted.iter().map(|ask| ask.subject).collect::<Vec<_>>())
    .bind::<Array<SmallInt>, _>(sorted.iter().map(|ask| ask.bucket.code()).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(sorted.iter().map(|ask| i64::from(ask.requests)).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(now - TimeDelta::seconds(WINDOW_S))
    .bind::<Timestamptz, _>(now - TimeDelta::seconds(BURST_WINDOW_S))
    .load(conn)?;
    let answer = |ask: &Ask| {
        let row = rows.iter().find(|row| row.credential_id == ask.subject && row.bucket == ask.bucket.code());
        let (used, started_at) = row.map_or((i64::from(ask.requests), now), |row| (row.used, row.started_at));
        let before = used - i64::from(ask.requests);
        let free = (i64::from(ask.limit) - before).clamp(0, i64::from(ask.limit));
        let granted = free.min(i64::from(ask.requests));
        Grant {
            granted: u32::try_from(granted).unwrap_or(0),
            remaining: u32::try_from(free - granted).unwrap_or(0),
            resets_at: started_at + TimeDelta::seconds(ask.bucket.window_s()),
            filled: before < i64::from(ask.limit) && used >= i64::from(ask.limit),
        }
    };
    Ok(asks.iter().map(answer).collect())
}

/// Removes windows that ended long ago. Returns how many.
///
/// # Errors
/// When the database is away.
pub fn forget_old(conn: &mut PgConnection, now: DateTime<Utc>) -> Result<usize> {
    Ok(sql_query("DELETE FROM rate_windows WHERE started_at < $1")
        .bind::<Timestamptz, _>(now - TimeDelta::hours(2))
        .execute(conn)?)
}
