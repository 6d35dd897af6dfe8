//! Tells a tenant that one of its keys has reached a limit: the event `rateLimit.reached`, once in an hour for each limit
//! of a key, where somebody listens.

use actix_web::web::Data;
use chrono::{DateTime, Utc};
use hookyard_domain::{
    Error,
    credential::Credential,
    event::{self, EventType, wire_time},
    rate_limit::Bucket,
    subscription::listeners,
    wire::{Json, Object},
};
use uuid::Uuid;

use super::limiter::Allowance;
use crate::{context::Context, handlers::rings, settings::WINDOW};

/// The event.
const REACHED: &str = "rateLimit.reached";

/// Tells it behind the answer. What cannot be told is not: nothing depends on it.
pub(super) fn tell(
    context: &Data<Context>,
    credential: &Credential,
    bucket: Bucket,
    allowance: &Allowance,
    now: DateTime<Utc>,
) {
    let Some(word) = word(bucket) else { return };
    let mut payload = Object::new();
    payload.insert("key_id", Json::from(credential.id.to_string()));
    payload.insert("key_name", Json::from(credential.name.as_str()));
    payload.insert("limit", Json::from(word));
    payload.insert("requests", Json::from(allowance.limit));
    payload.insert("window_seconds", Json::from(u32::try_from(WINDOW.as_secs()).unwrap_or(u32::MAX)));
    payload.insert("resets_at", Json::from(wire_time(allowance.resets_at)));
    // Each limit of a key is counted by itself.
    let subject = Uuid::from_u128(credential.id.uuid().as_u128() ^ u128::from(bucket.code().unsigned_abs()));
    let (context, tenant) = (context.clone(), credential.tenant);
    let told = context.clone();
    context.afterwards.spawn(async move {
        let counted = told.limiter.ask((subject, Bucket::Told), 1, now).await;
        if !counted.is_ok_and(|allowance| allowance.granted) {
            return;
        }
        let stored = told.db.run(move |conn| {
            let event_type: EventType = REACHED.parse().map_err(|error| Error::Database(Box::new(error)))?;
            let asked = listeners::any(conn, tenant, &event_type)?;
            asked.then(|| event::own::insert(conn, tenant, REACHED, payload, now)).transpose()
        });
        match stored.await {
            Ok(group) => group.into_iter().for_each(|group| rings::events_accepted(&told, group)),
            Err(error) => tracing::debug!(error = error.chain(), "a limit that was reached was not told"),
        }
    });
}

/// What a limit of keys is called; `None` for limits of others.
const fn word(bucket: Bucket) -> Option<&'static str> {
    match bucket {
        Bucket::Requests => Some("requests"),
        Bucket::HookWrites => Some("hook_writes"),
        Bucket::Samples => Some("samples"),
        Bucket::HookWriteBurst
        | Bucket::Unauthenticated
        | Bucket::Actions
        | Bucket::ActionsOfAddress
        | Bucket::Told => None,
    }
}
