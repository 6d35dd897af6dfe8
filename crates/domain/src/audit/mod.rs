//! The audit log: who did what, when and from where, what it was before and what it is since.
//!
//! An entry is written in the transaction of the change it tells of, so that there is no change without an entry and no
//! entry without a change. Entries of a tenant form a chain: each has a hash over itself and the hash of the one before,
//! so that whatever is changed, removed or put in between later shows (`verify`). The chain proves nothing about its own
//! end being there: for that somebody keeps a [`Mark`] elsewhere.
//!
//! What is read, and what machines do by themselves all the time (deliveries, the health of hooks), is not in it.

mod action;
mod digest;
mod line;
mod redact;
pub mod store;
pub mod verify;

use std::{fmt, net::IpAddr, str::FromStr};

use serde_json::Value;
use uuid::Uuid;

pub use action::{Action, ObjectKind};
pub use digest::{Digest, DigestError};
pub use line::line;
pub use redact::MAX_SIDE_BYTES;
pub use store::{Recorded, record, record_all};

use crate::id::{IdError, TenantId};

/// What kind of somebody did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorKind {
    /// Hookyard itself: a rule that was followed.
    System,
    /// Whoever runs the installation, at the command line.
    Operator,
    /// A program with a credential.
    Credential,
    /// A person who is logged in.
    Person,
    /// Somebody who did not show who they are.
    Nobody,
}

impl ActorKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::System, Self::Operator, Self::Credential, Self::Person, Self::Nobody];

    /// The word for it on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Operator => "operator",
            Self::Credential => "credential",
            Self::Person => "person",
            Self::Nobody => "nobody",
        }
    }

    /// How the database keeps it.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::System => 0,
            Self::Operator => 1,
            Self::Credential => 2,
            Self::Person => 3,
            Self::Nobody => 4,
        }
    }

    /// The kind with this code; `None` when there is none, as in a row that somebody forged.
    #[must_use]
    pub fn of_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// What kind of somebody.
    pub kind: ActorKind,
    /// The credential or the person.
    pub id: Option<Uuid>,
    /// Name, for people; of `Nobody`, what they claimed to be.
    pub name: String,
    /// From where.
    pub address: Option<IpAddr>,
    /// In which request.
    pub request_id: Option<String>,
}

impl Actor {
    /// A part of Hookyard, such as `registry`.
    #[must_use]
    pub fn system(part: &str) -> Self {
        Self::local(ActorKind::System, part)
    }

    /// Whoever runs a command, by the name of their account at the operating system.
    #[must_use]
    pub fn operator(name: &str) -> Self {
        Self::local(ActorKind::Operator, name)
    }

    fn local(kind: ActorKind, name: &str) -> Self {
        Self { kind, id: None, name: name.to_owned(), address: None, request_id: None }
    }
}

/// What it was done to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRef {
    /// What kind of thing.
    pub kind: ObjectKind,
    /// Which one, as it is called outside.
    pub id: String,
}

impl ObjectRef {
    /// The thing of this kind that is called so.
    #[must_use]
    pub fn new(kind: ObjectKind, id: impl fmt::Display) -> Self {
        Self { kind, id: id.to_string() }
    }
}

/// Something that was done.
///
/// Neither side may hold a secret; what is called like one is left out all the same, at any depth.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Whose chain it is in; `None` is the installation's own.
    pub tenant: Option<TenantId>,
    /// What was done.
    pub action: Action,
    /// What it was done to.
    pub object: ObjectRef,
    /// What it was before, as far as it changed.
    pub before: Option<Value>,
    /// What it is since.
    pub after: Option<Value>,
}

impl Entry {
    /// An entry that tells of no properties yet.
    #[must_use]
    pub fn new(tenant: impl Into<Option<TenantId>>, action: Action, object: ObjectRef) -> Self {
        Self { tenant: tenant.into(), action, object, before: None, after: None }
    }

    /// The same with what it was before.
    #[must_use]
    pub fn before(self, before: Value) -> Self {
        Self { before: Some(before), ..self }
    }

    /// The same with what it is since.
    #[must_use]
    pub fn after(self, after: Value) -> Self {
        Self { after: Some(after), ..self }
    }
}

/// Whose entries follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chain {
    /// What concerns no tenant.
    Installation,
    /// A tenant's.
    Tenant(TenantId),
}

impl Chain {
    /// How the database names it: the installation's chain has the nil UUID, which no tenant has.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        match self {
            Self::Installation => Uuid::nil(),
            Self::Tenant(tenant) => tenant.uuid(),
        }
    }

    /// The chain that the database names so.
    #[must_use]
    pub fn of_uuid(uuid: Uuid) -> Self {
        if uuid.is_nil() { Self::Installation } else { Self::Tenant(TenantId::from_uuid(uuid)) }
    }
}

impl From<Option<TenantId>> for Chain {
    fn from(tenant: Option<TenantId>) -> Self {
        tenant.map_or(Self::Installation, Self::Tenant)
    }
}

const INSTALLATION: &str = "installation";

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Installation => f.write_str(INSTALLATION),
            Self::Tenant(tenant) => tenant.fmt(f),
        }
    }
}

impl FromStr for Chain {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        if text == INSTALLATION { Ok(Self::Installation) } else { text.parse().map(Self::Tenant) }
    }
}

/// A place in a chain and the hash there. Whoever keeps one can tell later that everything up to it is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Which chain.
    pub chain: Chain,
    /// Which entry; 0 is the place before the first.
    pub seq: i64,
    /// Its hash.
    pub hash: Digest,
}

/// `ten_…:17:9f86…`
impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.chain, self.seq, self.hash)
    }
}

/// Why a text is no [`Mark`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a mark is TENANT:SEQ:HASH as `hookyard audit verify` prints it, with `installation` for the chain without a tenant"
)]
pub struct MarkError;

impl FromStr for Mark {
    type Err = MarkError;
    fn from_str(text: &str) -> Result<Self, MarkError> {
        let mut parts = text.split(':');
        let (Some(chain), Some(seq), Some(hash), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(MarkError);
        };
        let seq = seq.parse().ok().filter(|seq| (0..=i64::MAX).contains(seq)).ok_or(MarkError)?;
        Ok(Self {
            chain: chain.parse().map_err(|_no_chain| MarkError)?,
            seq,
            hash: hash.parse().map_err(|_no_digest| MarkError)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_survive_their_codes() {
        for kind in ActorKind::ALL {
            assert_eq!(ActorKind::of_code(kind.code()), Some(kind));
        }
        assert_eq!(ActorKind::of_code(5), None);
    }

    #[test]
    fn a_mark_survives_its_text_form() {
        let tenant = TenantId::from_uuid(Uuid::from_u128(7));
        for chain in [Chain::Installation, Chain::Tenant(tenant)] {
            for seq in [0, 1, i64::MAX] {
                let mark = Mark { chain, seq, hash: Digest::genesis(chain) };
                assert_eq!(mark.to_string().parse(), Ok(mark));
                assert_eq!(Chain::of_uuid(chain.uuid()), chain);
            }
        }
        let good = Mark { chain: Chain::Installation, seq: 5, hash: Digest::genesis(Chain::Installation) };
        let good = good.to_string();
        for bad in [
            String::new(),
            "installation:5".to_owned(),
            good.replace(":5:", ":-1:"),
            good.replace(":5:", "::"),
            good.replace("installation", "everybody"),
            format!("{good}0"),
            format!("{good}:"),
            good[..good.len() - 1].to_owned(),
        ] {
            assert_eq!(bad.parse::<Mark>(), Err(MarkError), "{bad}");
        }
    }
}
