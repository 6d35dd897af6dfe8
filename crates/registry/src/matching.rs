//! Who gets an event.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use hookyard_domain::{
    event::{Origin, waiting::WaitingEvent},
    subscription::{Subscription, directory::Directory},
    wire::parse_stored,
};

/// The subscriptions that want this event.
///
/// Hookyard's own events (`hook.*`) go only to subscriptions that ask for them by a type or pattern: a Zap for «every
/// event» of a product does not expect news about its own plumbing.
pub(crate) fn wanting(
    directory: &Directory,
    event: &WaitingEvent,
    now: DateTime<Utc>,
) -> Vec<Arc<Subscription>> {
    let mut hooks = directory.wanting(event.tenant, &event.event_type, now);
    if event.origin == Origin::System {
        hooks.retain(|hook| hook.pattern.is_some());
    }
    if hooks.iter().any(|hook| hook.filter.is_some()) {
        match parse_stored(event.body.as_deref().unwrap_or_default()) {
            Ok(json) => hooks.retain(|hook| hook.admits(&json)),
            Err(error) => {
                tracing::error!(event.id = %event.id, %error, "a stored event cannot be read; hooks with a filter do not get it");
                hooks.retain(|hook| hook.filter.is_none());
            }
        }
    }
    hooks
}
