//! Links by which a question is answered without a key (`respond_url`): the question's id and a signature over it.
//!
//! The key is derived from the master key, so that nothing has to be stored; the question itself knows whether it was
//! answered or is too old.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use subtle::ConstantTimeEq;

use crate::{
    id::{InputId, TaskId},
    vault::Vault,
};

/// What the key is derived for.
const PURPOSE: &str = "respond_url";
/// Bytes of the signature that stand in a link.
const TAG: usize = 24;
/// Bytes of a token before it is written as text.
const TOKEN: usize = 16 + TAG;

/// Makes and reads links.
#[derive(Clone)]
pub struct RespondLinks {
    /// The current key first.
    keys: Vec<[u8; 32]>,
    /// Where people find us, without a slash at the end.
    origin: String,
}

/// Tells no key.
impl std::fmt::Debug for RespondLinks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RespondLinks").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl RespondLinks {
    /// Links that begin with this origin, such as `https://hooks.example.com`.
    #[must_use]
    pub fn new(vault: &Vault, origin: &str) -> Self {
        Self { keys: vault.derive_all(PURPOSE), origin: origin.trim_end_matches('/').to_owned() }
    }

    /// The link for a question.
    #[must_use]
    pub fn link(&self, input: InputId) -> String {
        format!("{}/respond/{}", self.origin, self.token(input))
    }

    /// Where a task can be looked at.
    #[must_use]
    pub fn task(&self, task: TaskId) -> String {
        format!("{}/v1/automation/tasks/{task}", self.origin)
    }

    /// The last part of the link.
    #[must_use]
    pub fn token(&self, input: InputId) -> String {
        let mut token = Vec::with_capacity(TOKEN);
        token.extend_from_slice(input.uuid().as_bytes());
        if let Some(key) = self.keys.first() {
            token.extend_from_slice(&tag(key, input));
        }
        URL_SAFE_NO_PAD.encode(token)
    }

    /// The question that a token is for; `None` when we did not make it.
    #[must_use]
    pub fn read(&self, token: &str) -> Option<InputId> {
        let bytes: [u8; TOKEN] = URL_SAFE_NO_PAD.decode(token).ok()?.try_into().ok()?;
        let (id, shown) = bytes.split_at(16);
        let input = InputId::from_uuid(uuid::Uuid::from_slice(id).ok()?);
        let ours = self.keys.iter().any(|key| bool::from(tag(key, input).as_slice().ct_eq(shown)));
        ours.then_some(input)
    }
}

fn tag(key: &[u8; 32], input: InputId) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let signed = hmac::sign(&key, input.uuid().as_bytes());
    signed.as_ref().iter().copied().take(TAG).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(keys: &[u8]) -> RespondLinks {
        RespondLinks {
            keys: keys.iter().map(|key| [*key; 32]).collect(),
            origin: "https://h.example".to_owned(),
        }
    }

    #[test]
    fn a_link_names_its_question_and_no_other_key_makes_it() {
        let input = InputId::from_uuid(uuid::Uuid::from_u128(7));
        let link = links(&[1]).link(input);
        let token = link.strip_prefix("https://h.example/respond/").unwrap();
        assert_eq!(links(&[1]).read(token), Some(input));
        assert_eq!(links(&[2, 1]).read(token), Some(input), "while keys are rotated");
        assert_eq!(links(&[2]).read(token), None);
        for at in 0..token.len() {
            let mut other = token.to_owned().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(links(&[1]).read(std::str::from_utf8(&other).unwrap()), None, "{at}");
        }
        for bad in ["", "x", &token[1..], &format!("{token}A"), "é"] {
            assert_eq!(links(&[1]).read(bad), None, "{bad}");
        }
    }
}
