//! The hash rule: what the hash of an entry is over. Pure, and fixed for good: a change here would make every chain that
//! exists look forged. The rule is told to the outside in docs/security.md.

use std::{fmt, str::FromStr};

use ring::digest::{Context, SHA256, digest};

use super::{Chain, Recorded};

/// What sets these hashes apart from all others. A new rule would get a new number.
const ENTRY: &[u8] = b"hookyard audit entry 1";
const GENESIS: &[u8] = b"hookyard audit chain 1";

/// A SHA-256 in a chain.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    /// What stands before the first entry of a chain.
    #[must_use]
    pub fn genesis(chain: Chain) -> Self {
        let mut text = Text::new();
        text.part(Some(GENESIS));
        text.part(Some(chain.uuid().as_bytes()));
        text.finish()
    }

    /// The hash that an entry has to have after the one with the hash `previous`: over a label, that hash, and every
    /// column but its own.
    #[must_use]
    pub fn of(previous: &Self, entry: &Recorded) -> Self {
        // No `..`: a column that is added has to be hashed.
        let Recorded {
            tenant_id,
            seq,
            at,
            actor_kind,
            actor_id,
            actor_name,
            address,
            request_id,
            action,
            object_kind,
            object_id,
            before,
            after,
            hash: _,
        } = entry;
        let mut text = Text::new();
        text.part(Some(ENTRY));
        text.part(Some(&previous.0));
        text.part(Some(tenant_id.as_bytes()));
        text.part(Some(&seq.to_be_bytes()));
        text.part(Some(&at.timestamp_micros().to_be_bytes()));
        text.part(Some(&actor_kind.to_be_bytes()));
        text.part(actor_id.as_ref().map(|id| &id.as_bytes()[..]));
        text.part(Some(actor_name.as_bytes()));
        text.part(address.as_deref().map(str::as_bytes));
        text.part(request_id.as_deref().map(str::as_bytes));
        text.part(Some(action.as_bytes()));
        text.part(Some(object_kind.as_bytes()));
        text.part(Some(object_id.as_bytes()));
        text.part(before.as_deref().map(str::as_bytes));
        text.part(after.as_deref().map(str::as_bytes));
        text.finish()
    }

    /// A hash as the database keeps it; `None` when it does not have 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes, for the database.
    #[must_use]
    pub const fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The hash of any bytes.
    #[must_use]
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        Self::taken(digest(&SHA256, bytes))
    }

    fn taken(digest: ring::digest::Digest) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }
}

/// What is hashed. Each part tells whether it is there and how long it is, so that no two entries read alike: a boundary
/// that moves and a NULL that becomes empty are seen.
struct Text(Context);

impl Text {
    fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    fn part(&mut self, part: Option<&[u8]>) {
        match part {
            None => self.0.update(&[0]),
            Some(part) => {
                self.0.update(&[1]);
                self.0.update(&(part.len() as u64).to_be_bytes());
                self.0.update(part);
            }
        }
    }

    fn finish(self) -> Digest {
        Digest::taken(self.0.finish())
    }
}

/// 64 hexadecimal digits in lower case.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why a text is no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash has 64 hexadecimal digits")]
pub struct DigestError;

impl FromStr for Digest {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Self, DigestError> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(DigestError);
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_not_ascii| DigestError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_not_hex| DigestError)?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use uuid::Uuid;

    use super::*;

    fn entry() -> Recorded {
        Recorded {
            tenant_id: Uuid::from_u128(1),
            seq: 7,
            at: DateTime::from_timestamp_micros(1_795_230_647_000_123).unwrap(),
            actor_kind: 2,
            actor_id: Some(Uuid::from_u128(2)),
            actor_name: "zapier".to_owned(),
            address: Some("192.0.2.1".to_owned()),
            request_id: Some("r-1".to_owned()),
            action: "hook.subscribed".to_owned(),
            object_kind: "hook".to_owned(),
            object_id: "hook_1".to_owned(),
            before: None,
            after: Some("{}".to_owned()),
            hash: Vec::new(),
        }
    }

    fn previous() -> Digest {
        Digest::genesis(Chain::Installation)
    }

    #[test]
    fn every_column_counts() {
        let some = |text: &str| Some(text.to_owned());
        type Change = Box<dyn Fn(&mut Recorded)>;
        let changes: [(&str, Change); 23] = [
            ("tenant_id", Box::new(|e| e.tenant_id = Uuid::from_u128(3))),
            ("seq", Box::new(|e| e.seq = 8)),
            ("at", Box::new(|e| e.at += TimeDelta::microseconds(1))),
            ("actor_kind", Box::new(|e| e.actor_kind = 3)),
            ("actor_id", Box::new(|e| e.actor_id = Some(Uuid::from_u128(3)))),
            ("actor_id is NULL", Box::new(|e| e.actor_id = None)),
            ("actor_name", Box::new(|e| e.actor_name = "Zapier".to_owned())),
            ("actor_name is empty", Box::new(|e| e.actor_name.clear())),
            ("address", Box::new(move |e| e.address = some("192.0.2.2"))),
            ("address is NULL", Box::new(|e| e.address = None)),
            ("address is empty", Box::new(move |e| e.address = some(""))),
            ("request_id", Box::new(move |e| e.request_id = some("r-2"))),
            ("request_id is NULL", Box::new(|e| e.request_id = None)),
            ("request_id is empty", Box::new(move |e| e.request_id = some(""))),
            ("action", Box::new(|e| e.action = "hook.updated".to_owned())),
            ("object_kind", Box::new(|e| e.object_kind = "key".to_owned())),
            ("object_id", Box::new(|e| e.object_id = "hook_2".to_owned())),
            ("before is empty", Box::new(move |e| e.before = some(""))),
            ("before", Box::new(move |e| e.before = some("{}"))),
            ("after", Box::new(move |e| e.after = some("{ }"))),
            ("after is NULL", Box::new(|e| e.after = None)),
            ("after is empty", Box::new(move |e| e.after = some(""))),
            ("before and after are exchanged", Box::new(|e| std::mem::swap(&mut e.before, &mut e.after))),
        ];
        let mut seen = vec![("unchanged", Digest::of(&previous(), &entry()))];
        for (what, change) in changes {
            let mut changed = entry();
            change(&mut changed);
            let digest = Digest::of(&previous(), &changed);
            for (other, before) in &seen {
                assert_ne!(digest, *before, "{what} and {other}");
            }
            seen.push((what, digest));
        }
        let other_chain = Digest::genesis(Chain::of_uuid(Uuid::from_u128(9)));
        assert_ne!(other_chain, previous());
        assert_ne!(Digest::of(&other_chain, &entry()), seen[0].1, "the hash before counts");
    }

    #[test]
    fn a_boundary_between_two_columns_cannot_be_moved() {
        let split = |action: &str, kind: &str| {
            let entry = Recorded { action: action.to_owned(), object_kind: kind.to_owned(), ..entry() };
            Digest::of(&previous(), &entry)
        };
        assert_ne!(split("hook.subscribed", "hook"), split("hook.subscribe", "dhook"));
        assert_ne!(split("hook.subscribedhook", ""), split("", "hook.subscribedhook"));
    }

    /// Computed outside, with Python's hashlib and the rule as docs/security.md tells it.
    #[test]
    fn the_rule_is_the_one_that_is_told() {
        assert_eq!(
            previous().to_string(),
            "d9cb9af868c2b9ea005769e857222559da2dc4b23991baa985035df3596f2693"
        );
        assert_eq!(
            Digest::of(&previous(), &entry()).to_string(),
            "8d0ecd2564f6a866057092b531c8c30d8026c3b4a892c4049d3d8a765144db6c"
        );
    }

    #[test]
    fn a_hash_survives_its_text_form() {
        let text = previous().to_string();
        assert_eq!(text.parse(), Ok(previous()));
        assert_eq!(text.to_uppercase().parse(), Ok(previous()));
        for bad in [&text[..63], "", &"g".repeat(64), &"é".repeat(32), &format!("+{}", &text[1..])] {
            assert_eq!(bad.parse::<Digest>(), Err(DigestError), "{bad}");
        }
        assert_eq!(Digest::from_bytes(previous().bytes()), Some(previous()));
        assert_eq!(Digest::from_bytes(&[0; 31]), None);
    }
}
