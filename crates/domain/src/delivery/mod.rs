//! Deliveries: one event on its way to one subscription, try by try, to its end.
//!
//! A delivery is born with a lease (`claim`, `next_attempt_at` in the future) that belongs to whoever hears its ring.
//! A lease that ends without an outcome, or a retry that falls due, is claimed anew by the sweep. Every update names the
//! claim under which it was made, so that a deliverer that overslept changes nothing.

pub mod body;
pub mod cancelling;
pub mod dead_letter;
pub mod failed;
pub mod fan_out;
pub mod gaps;
pub mod inspect;
mod judge;
pub mod large;
pub mod log;
pub mod ordered;
mod outcome;
pub mod pace;
mod page;
pub mod parked;
mod profile;
pub mod replay;
pub mod rung;
pub mod sequence;
pub mod settlement;
pub mod store;

use chrono::{DateTime, Utc};
use diesel::{
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::{Pg, PgValue},
    sql_types::SmallInt,
};

pub use judge::{Effect, Standing, Verdict, judge};
pub use outcome::{Class, Outcome, RetryAfter};
pub use profile::Profile;

use crate::id::{ClaimId, DeliveryId, TenantId};

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = SmallInt)]
pub enum DeliveryState {
    /// Under way: waiting for a try, or in one.
    Pending,
    /// Arrived.
    Delivered,
    /// Ended without success: a dead letter, until it is retried or discarded.
    Dead,
    /// Its hook was removed or disabled before it arrived.
    Cancelled,
    /// A dead letter that somebody gave up.
    Discarded,
}

impl DeliveryState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Delivered, Self::Dead, Self::Cancelled, Self::Discarded];

    /// The word for it on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Discarded => "discarded",
        }
    }

    /// How the database keeps it.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::Pending => 0,
            Self::Delivered => 1,
            Self::Dead => 2,
            Self::Cancelled => 3,
            Self::Discarded => 4,
        }
    }
}

impl std::str::FromStr for DeliveryState {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}

impl FromSql<SmallInt, Pg> for DeliveryState {
    fn from_sql(bytes: PgValue<'_>) -> deserialize::Result<Self> {
        let code = <i16 as FromSql<SmallInt, Pg>>::from_sql(bytes)?;
        Self::ALL
            .into_iter()
            .find(|state| state.code() == code)
            .ok_or_else(|| format!("no delivery state {code}").into())
    }
}

/// A delivery that the fan-out makes.
#[derive(Clone, Copy, Debug)]
pub struct NewDelivery {
    /// Identity.
    pub id: DeliveryId,
    /// Owner.
    pub tenant: TenantId,
    /// How it is tried.
    pub profile: Profile,
    /// What it stands in line behind: [`ordered`]. `None` = it waits for nobody.
    pub ordering: Option<uuid::Uuid>,
    /// When it is not sent any more. `None` = never.
    pub expires_at: Option<DateTime<Utc>>,
}

impl NewDelivery {
    /// A delivery that waits for nobody and does not expire.
    #[must_use]
    pub const fn plain(id: DeliveryId, tenant: TenantId, profile: Profile) -> Self {
        Self { id, tenant, profile, ordering: None, expires_at: None }
    }

    /// The delivery as it was made: held for whoever is rung, with the number it was given.
    #[must_use]
    pub const fn held(&self, hold: fan_out::Hold, sequence: Option<i64>) -> HeldDelivery {
        HeldDelivery {
            id: self.id,
            tenant: self.tenant,
            profile: self.profile,
            tries: 0,
            attempts: 0,
            deferrals: 0,
            due_at: hold.now,
            claim: hold.claim,
            lease_until: hold.until,
            ordered: self.ordering.is_some(),
            expires_at: self.expires_at,
            sequence,
        }
    }
}

/// A delivery that a deliverer holds under a claim.
#[derive(Clone, Copy, Debug)]
pub struct HeldDelivery {
    /// Identity.
    pub id: DeliveryId,
    /// Owner.
    pub tenant: TenantId,
    /// How it is tried.
    pub profile: Profile,
    /// Tries spent since it was made or replayed.
    pub tries: u16,
    /// All tries ever.
    pub attempts: u16,
    /// Times the receiver asked for later, since the present try was first due.
    pub deferrals: u16,
    /// When the present try was first due.
    pub due_at: DateTime<Utc>,
    /// Under whose lease.
    pub claim: ClaimId,
    /// When that lease ends.
    pub lease_until: DateTime<Utc>,
    /// Whether it stands in a line.
    pub ordered: bool,
    /// When it is not sent any more.
    pub expires_at: Option<DateTime<Utc>>,
    /// Its number among the deliveries of its subscription: [`sequence`].
    pub sequence: Option<i64>,
}

/// Why a delivery was cancelled that was not sent in time.
pub const EXPIRED: &str = "expired";

/// Why a delivery was cancelled that its consumer's transformation cancelled.
pub const CANCELLED_BY_TRANSFORMATION: &str = "cancelled_by_transformation";

/// Why a delivery was cancelled whose subscription takes none any more.
pub const NOT_TAKEN: &str = "the hook takes no events";

/// One try that was made.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Which of the delivery's tries, from 1.
    pub number: u16,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How long it took, in milliseconds.
    pub latency_ms: u32,
    /// HTTP status, if there was one.
    pub status: Option<u16>,
    /// What came of it, as a word.
    pub reason: String,
    /// The first KiB of the reply.
    pub reply: Vec<u8>,
}

/// What becomes of a delivery after a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It ended in this state.
    Ended(DeliveryState),
    /// It is tried again then.
    Retry {
        /// When.
        at: DateTime<Utc>,
    },
    /// The receiver asked to come back then; no try was spent.
    Deferred {
        /// When.
        at: DateTime<Utc>,
    },
}

/// A delivery with the try that was made and what becomes of it.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The delivery as it was held.
    pub held: HeldDelivery,
    /// The try.
    pub attempt: Attempt,
    /// The consequence.
    pub fate: Fate,
}
