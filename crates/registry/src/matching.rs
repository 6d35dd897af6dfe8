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
///
/// Each comes with the line in which the event stands there, if it stands in one.
pub(crate) fn wanting(
    directory: &Directory,
    event: &WaitingEvent,
    now: DateTime<Utc>,
) -> Vec<(Arc<Subscription>, Option<uuid::Uuid>)> {
    let mut hooks = directory.wanting(event.tenant, &event.event_type, now);
    if event.origin == Origin::System {
        hooks.retain(|hook| !hook.patterns.is_empty());
    }
    if !hooks.iter().any(|hook| hook.reads_content()) {
        return hooks.into_iter().map(|hook| (hook, None)).collect();
    }
    match parse_stored(event.body.as_deref().unwrap_or_default()) {
        Ok(json) => {
            hooks.retain(|hook| hook.admits(&json));
            let line = |hook: &Subscription| {
                hook.consumer.as_ref().and_then(|consumer| consumer.line(hook.id, &json))
            };
            hooks.into_iter().map(|hook| (Arc::clone(&hook), line(&hook))).collect()
        }
        Err(error) => {
            tracing::error!(event.id = %event.id, %error, "a stored event cannot be read; hooks with a filter do not get it");
            hooks.retain(|hook| !hook.reads_content());
            hooks.into_iter().map(|hook| (hook, None)).collect()
        }
    }
}
