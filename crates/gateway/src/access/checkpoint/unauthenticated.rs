//! Requests without a credential that is known here: looked up once more, counted by the peer's address, and refused.

use std::{net::IpAddr, sync::Arc};

use actix_web::http::header::{HeaderValue, WWW_AUTHENTICATE};
use chrono::{DateTime, Utc};
use hookyard_chassis::{api_error::ApiError, request_id::RequestId};
use hookyard_domain::{
    audit::{self, Action, Actor, ActorKind, Entry, ObjectKind, ObjectRef},
    credential::Limits,
    rate_limit::Bucket,
};
use serde_json::json;

use super::{
    Checkpoint,
    limit::{Refusal, spent},
};
use crate::{
    access::{Principal, authenticate::Shown, peer},
    settings::WINDOW,
};

/// Entries in the audit log about throttled addresses, per minute and over all gateways.
const THROTTLED_ENTRIES: u32 = 60;

/// A request without a credential that is known here.
pub(super) struct Stranger<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) shown: &'a Shown,
    pub(super) peer: Option<IpAddr>,
    pub(super) request_id: Option<RequestId>,
    pub(super) now: DateTime<Utc>,
}

impl Stranger<'_> {
    /// A session is always asked for. A key that was made a moment ago is only in the database, too; but a peer that has
    /// spent its limit is not asked for there: its new key works with the next refresh.
    pub(super) async fn look_up(&self) -> Result<Option<Principal>, Refusal> {
        let context = &self.checkpoint.context;
        if let Shown::Session(token) = self.shown {
            let session = context.authenticator.session(token, self.now).await?;
            return Ok(session.map(|session| Principal::Person(Arc::new(session))));
        }
        let limit = self.limit();
        if limit > 0
            && let Some(refused) = context.limiter.spent(self.subject(), limit, self.now)
        {
            return Err(spent(refused, self.now));
        }
        Ok(context.authenticator.looked_up(self.shown, self.now).await?.map(Principal::Credential))
    }

    /// Counts the request and says why it does not pass.
    pub(super) async fn refuse(&self) -> Refusal {
        let context = &self.checkpoint.context;
        context.metrics.unauthenticated.inc();
        let limit = self.limit();
        let allowance = match limit {
            0 => None,
            limit => match context.limiter.ask(self.subject(), limit, self.now).await {
                Ok(allowance) if !allowance.granted => return spent(allowance, self.now),
                Ok(allowance) => {
                    if allowance.is_last {
                        self.tell_audit(limit).await;
                    }
                    Some(allowance)
                }
                Err(error) => return error.into(),
            },
        };
        let (message, challenge) = match self.shown {
            Shown::Nothing => (
                "a credential is needed: Authorization: Bearer KEY, Basic, or X-API-Key",
                "Bearer realm=\"hookyard\"",
            ),
            Shown::Session(_) => ("the session has ended, log in again", "Bearer realm=\"hookyard\""),
            Shown::Malformed | Shown::Token { .. } => (
                "the credential is unknown, expired or revoked",
                "Bearer realm=\"hookyard\", error=\"invalid_token\"",
            ),
        };
        let error =
            ApiError::unauthorized(message).header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        Refusal { error, allowance }
    }

    fn limit(&self) -> u32 {
        self.checkpoint.context.settings.gateway.limit(Bucket::Unauthenticated, &Limits::default())
    }

    fn subject(&self) -> (uuid::Uuid, Bucket) {
        (peer::subject(self.peer), Bucket::Unauthenticated)
    }

    /// Tells the audit log that this peer is refused from now on, once in a window. The entries are counted, too: with many
    /// addresses nobody fills the log.
    async fn tell_audit(&self, limit: u32) {
        let context = &self.checkpoint.context;
        let entries = (uuid::Uuid::nil(), Bucket::Unauthenticated);
        let counted = context.limiter.ask(entries, THROTTLED_ENTRIES, self.now).await;
        if !counted.is_ok_and(|allowance| allowance.granted) {
            return;
        }
        let actor = Actor {
            kind: ActorKind::Nobody,
            id: None,
            name: "no valid credential".to_owned(),
            address: self.peer,
            request_id: self.request_id.as_ref().map(ToString::to_string),
        };
        let address = self.peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
        let object = ObjectRef::new(ObjectKind::Address, address);
        let entry = Entry::new(None, Action::CredentialThrottled, object)
            .after(json!({"requests": limit, "seconds": WINDOW.as_secs()}));
        let (db, now) = (context.db.clone(), self.now);
        context.afterwards.spawn(async move {
            if let Err(error) = db.run(move |conn| audit::record(conn, &actor, &entry, now)).await {
                tracing::debug!(error = error.chain(), "the audit log was not told of a throttled address");
            }
        });
    }
}
