//! Whether a chain is as it was written: walks it from the first entry to the last and tells the first place that does
//! not fit. A system path: reads the chains of all tenants.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{BigInt, Binary, Nullable, Timestamptz, Uuid},
};

use super::{Chain, Digest, Mark, Recorded, store};
use crate::Result;

/// Entries that are read at once.
const PAGE: i64 = 500;

/// What came of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Where the walk came to: every entry up to here fits. To be noted elsewhere when there is no flaw.
    pub end: Mark,
    /// The first thing that does not fit.
    pub flaw: Option<Flaw>,
}

/// What does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// An entry is not as it was written, or what came before it is not.
    #[error("entry {seq} is not what was written")]
    Altered {
        /// Which.
        seq: i64,
    },
    /// There are later entries.
    #[error("entry {seq} is missing")]
    Missing {
        /// Which.
        seq: i64,
    },
    /// The head tells of more entries than there are.
    #[error("the end is cut off: entries {from} to {to} are missing")]
    CutOff {
        /// The first that is missing.
        from: i64,
        /// The last.
        to: i64,
    },
    /// There are entries and no head.
    #[error("there are entries up to {seq} and no head")]
    NoHead {
        /// The last entry.
        seq: i64,
    },
    /// There are entries behind the place where the head says that the chain ends.
    #[error("entry {seq} stands behind the head, which is at {head}")]
    BehindHead {
        /// The last entry.
        seq: i64,
        /// The place that the head tells.
        head: i64,
    },
    /// The head is not that of the last entry.
    #[error("the head does not fit entry {seq}, the last one")]
    HeadDiffers {
        /// The last entry.
        seq: i64,
    },
    /// At a place that somebody noted the chain has another hash now, or none.
    #[error("entry {seq} is not the one that was noted: the chain was written anew or cut off")]
    NotAsNoted {
        /// The place.
        seq: i64,
    },
}

/// Every chain: those that have a head, and those that have entries.
///
/// # Errors
/// When the database is away.
pub fn chains(conn: &mut PgConnection) -> Result<Vec<Chain>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Uuid)]
        tenant_id: uuid::Uuid,
    }
    // One look into the index for each chain, however many entries it has.
    let rows: Vec<Row> = sql_query(
        "WITH RECURSIVE chains AS ( \
            (SELECT tenant_id FROM audit_log ORDER BY tenant_id LIMIT 1) \
            UNION ALL \
            SELECT (SELECT l.tenant_id FROM audit_log l WHERE l.tenant_id > c.tenant_id ORDER BY l.tenant_id LIMIT 1) \
            FROM chains c WHERE c.tenant_id IS NOT NULL) \
         SELECT tenant_id FROM chains WHERE tenant_id IS NOT NULL UNION SELECT tenant_id FROM audit_heads \
         ORDER BY tenant_id",
    )
    .load(conn)?;
    Ok(rows.into_iter().map(|row| Chain::of_uuid(row.tenant_id)).collect())
}

/// Walks a chain, and looks for the marks of it that somebody noted. Entries that are added meanwhile are left for the next
/// time.
///
/// # Errors
/// When the database is away.
pub fn verify(conn: &mut PgConnection, chain: Chain, noted: &[Mark]) -> Result<Verified> {
    let ends = ends(conn, chain)?;
    let until = ends.until();
    let mut walk = Walk::new(chain);
    let mut after = i64::MIN;
    loop {
        let page = store::export(conn, chain, after, until, PAGE)?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        if let Some(flaw) = page.iter().find_map(|entry| walk.step(entry)) {
            return Ok(Verified { end: walk.end, flaw: Some(flaw) });
        }
    }
    let mut flaw = ends.flaw(&walk);
    for mark in noted.iter().filter(|mark| mark.chain == chain) {
        if flaw.is_none() && hash_at(conn, chain, mark.seq)? != Some(mark.hash) {
            flaw = Some(Flaw::NotAsNoted { seq: mark.seq });
        }
    }
    Ok(Verified { end: walk.end, flaw })
}

/// A walk along a chain.
#[derive(Clone, Debug)]
struct Walk {
    end: Mark,
    at: Option<DateTime<Utc>>,
}

impl Walk {
    fn new(chain: Chain) -> Self {
        Self { end: Mark { chain, seq: 0, hash: Digest::genesis(chain) }, at: None }
    }

    /// Goes on to the next entry, unless it does not fit.
    fn step(&mut self, entry: &Recorded) -> Option<Flaw> {
        let next = self.end.seq + 1;
        if next < entry.seq {
            return Some(Flaw::Missing { seq: next });
        }
        let digest = Digest::of(&self.end.hash, entry);
        // A place before the next one is none: places begin with 1, and the key of the table lets none come twice.
        if entry.seq != next || digest.bytes() != entry.hash {
            return Some(Flaw::Altered { seq: entry.seq });
        }
        self.end = Mark { seq: next, hash: digest, ..self.end };
        self.at = Some(entry.at);
        None
    }
}

/// What the head says and what the last entry is, both of one instant: whoever writes moves them together.
#[derive(Clone, Debug, QueryableByName)]
struct Ends {
    #[diesel(sql_type = Nullable<BigInt>)]
    head_seq: Option<i64>,
    #[diesel(sql_type = Nullable<Binary>)]
    head_hash: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    head_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<BigInt>)]
    last_seq: Option<i64>,
}

fn ends(conn: &mut PgConnection, chain: Chain) -> Result<Ends> {
    Ok(sql_query(
        "SELECT h.seq AS head_seq, h.hash AS head_hash, h.at AS head_at, \
            (SELECT max(seq) FROM audit_log WHERE tenant_id = $1) AS last_seq \
         FROM (SELECT 1) one LEFT JOIN audit_heads h ON h.tenant_id = $1",
    )
    .bind::<Uuid, _>(chain.uuid())
    .get_result(conn)?)
}

impl Ends {
    /// How far there is anything to walk.
    fn until(&self) -> i64 {
        self.last_seq.unwrap_or(0)
    }

    /// What does not fit at the end of a walk on which everything did.
    fn flaw(&self, walk: &Walk) -> Option<Flaw> {
        let seq = walk.end.seq;
        let Some(head) = self.head_seq else {
            return (0 < seq).then_some(Flaw::NoHead { seq });
        };
        if seq < head {
            Some(Flaw::CutOff { from: seq + 1, to: head })
        } else if head < seq {
            Some(Flaw::BehindHead { seq, head })
        } else {
            let hash = self.head_hash.as_deref() == Some(walk.end.hash.bytes());
            // The head of an empty chain has the time of its making.
            let time = walk.at.is_none() || self.head_at == walk.at;
            (!hash || !time).then_some(Flaw::HeadDiffers { seq })
        }
    }
}

/// The hash at a place of a chain that was walked.
fn hash_at(conn: &mut PgConnection, chain: Chain, seq: i64) -> Result<Option<Digest>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Binary)]
        hash: Vec<u8>,
    }
    if seq == 0 {
        return Ok(Some(Digest::genesis(chain)));
    }
    let row: Option<Row> = sql_query("SELECT hash FROM audit_log WHERE tenant_id = $1 AND seq = $2")
        .bind::<Uuid, _>(chain.uuid())
        .bind::<BigInt, _>(seq)
        .get_result(conn)
        .optional()?;
    Ok(row.and_then(|row| Digest::from_bytes(&row.hash)))
}
