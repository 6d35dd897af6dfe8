//! A credential as its owner sees it, never the token itself; and what the audit log is told of it.

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    sql_types::{Array, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid},
};
use serde_json::{Value, json};

use super::{Kind, Scope};
use crate::{
    audit::{Action, Entry, ObjectKind, ObjectRef},
    event::wire_time,
    id::{CredentialId, TenantId},
    task::AgentType,
};

/// A credential as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct CredentialView {
    /// Identity.
    #[diesel(sql_type = Uuid)]
    pub id: CredentialId,
    /// Owner.
    #[diesel(sql_type = Uuid)]
    pub tenant_id: TenantId,
    /// What it is.
    #[diesel(sql_type = SmallInt)]
    pub kind: Kind,
    /// Name, for people.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// First characters of the token.
    #[diesel(sql_type = Text)]
    pub prefix: String,
    /// What it may do.
    #[diesel(sql_type = Array<Text>)]
    pub scopes: Vec<String>,
    /// Which event types it may publish; `None` = all.
    #[diesel(sql_type = Nullable<Array<Text>>)]
    pub event_types: Option<Vec<String>>,
    /// Which types of tasks it may take, if it is a worker's; `None` = any.
    #[diesel(sql_type = Nullable<Array<SmallInt>>)]
    pub agent_types: Option<Vec<AgentType>>,
    /// With which models; `None` = any.
    #[diesel(sql_type = Nullable<Array<Text>>)]
    pub models: Option<Vec<String>>,
    /// Requests per minute; `None` = the default, 0 = unlimited.
    #[diesel(sql_type = Nullable<Integer>)]
    pub rate_limit: Option<i32>,
    /// Subscribing and unsubscribing per minute.
    #[diesel(sql_type = Nullable<Integer>)]
    pub hook_write_limit: Option<i32>,
    /// How many more of these within an hour.
    #[diesel(sql_type = Nullable<Integer>)]
    pub hook_write_burst: Option<i32>,
    /// Samples per minute.
    #[diesel(sql_type = Nullable<Integer>)]
    pub sample_limit: Option<i32>,
    /// When it was made.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// Until when it holds.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was last used, within a minute.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub last_used_at: Option<DateTime<Utc>>,
}

impl CredentialView {
    /// Whether it is taken at this time.
    #[must_use]
    pub fn is_live(&self, now: DateTime<Utc>) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }

    /// Whether it may do everything.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.scopes.iter().any(|scope| scope == Scope::Admin.as_str())
    }

    /// The types of tasks that it may take, as words.
    #[must_use]
    pub fn agent_type_words(&self) -> Option<Vec<&'static str>> {
        self.agent_types.as_ref().map(|types| types.iter().map(|agent| agent.as_str()).collect())
    }

    /// The entry that tells of its making.
    #[must_use]
    pub fn made(&self) -> Entry {
        let action = match self.kind {
            Kind::ApiKey | Kind::OAuthAccess => Action::KeyCreated,
            Kind::Integration => Action::IntegrationKeyRotated,
            Kind::Source => Action::SourceKeyCreated,
            Kind::Worker => Action::WorkerTokenCreated,
        };
        self.entry(action).after(self.told())
    }

    /// The entry that tells of its end.
    #[must_use]
    pub fn revoked(&self) -> Entry {
        let action = match self.kind {
            Kind::Source => Action::SourceKeyRevoked,
            Kind::Worker => Action::WorkerTokenRevoked,
            Kind::ApiKey | Kind::Integration | Kind::OAuthAccess => Action::KeyRevoked,
        };
        let mut told = self.told();
        told["last_used_at"] = self.last_used_at.map(wire_time).into();
        self.entry(action).before(told)
    }

    /// The entry that tells of a change, from what it was.
    #[must_use]
    pub fn changed(&self, before: &Self) -> Entry {
        self.entry(Action::KeyUpdated).before(before.told()).after(self.told())
    }

    fn entry(&self, action: Action) -> Entry {
        Entry::new(self.tenant_id, action, ObjectRef::new(ObjectKind::Key, self.id))
    }

    /// Everything but the token.
    fn told(&self) -> Value {
        if self.kind == Kind::Worker {
            return json!({
                "name": self.name,
                "prefix": self.prefix,
                "agent_types": self.agent_type_words(),
                "models": self.models,
                "rate_limit": self.rate_limit,
                "expires_at": self.expires_at.map(wire_time),
            });
        }
        json!({
            "name": self.name,
            "prefix": self.prefix,
            "scopes": self.scopes,
            "event_types": self.event_types,
            "rate_limit": self.rate_limit,
            "hook_write_limit": self.hook_write_limit,
            "hook_write_burst": self.hook_write_burst,
            "sample_limit": self.sample_limit,
            "expires_at": self.expires_at.map(wire_time),
        })
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use uuid::Uuid;

    use super::*;

    fn key() -> CredentialView {
        let now = DateTime::UNIX_EPOCH;
        CredentialView {
            id: CredentialId::from_uuid(Uuid::from_u128(1)),
            tenant_id: TenantId::from_uuid(Uuid::from_u128(2)),
            kind: Kind::ApiKey,
            name: "one".to_owned(),
            prefix: "ct_abcdefgh".to_owned(),
            scopes: vec!["hooks:read".to_owned()],
            event_types: None,
            agent_types: None,
            models: None,
            rate_limit: None,
            hook_write_limit: None,
            hook_write_burst: None,
            sample_limit: None,
            created_at: now,
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
        }
    }

    #[test]
    fn a_key_lives_until_it_ends() {
        let now = DateTime::UNIX_EPOCH;
        let ending = |expires_at| CredentialView { expires_at: Some(expires_at), ..key() };
        assert!(key().is_live(now) && ending(now + TimeDelta::milliseconds(1)).is_live(now));
        assert!(!ending(now).is_live(now));
        assert!(!CredentialView { revoked_at: Some(now), ..key() }.is_live(now));
    }

    #[test]
    fn each_kind_has_its_words() {
        let of = |kind| CredentialView { kind, ..key() };
        let words = |kind| (of(kind).made().action.as_str(), of(kind).revoked().action.as_str());
        assert_eq!(words(Kind::ApiKey), ("key.created", "key.revoked"));
        assert_eq!(words(Kind::Source), ("source_key.created", "source_key.revoked"));
        assert_eq!(words(Kind::Worker), ("worker_token.created", "worker_token.revoked"));
        assert_eq!(words(Kind::Integration), ("integration_key.rotated", "key.revoked"));
    }
}
