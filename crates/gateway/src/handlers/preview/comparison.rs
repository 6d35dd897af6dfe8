//! What a change makes of the latest events: each as it would have been sent before and after, and what differs.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use hookyard_domain::{
    Result as DomainResult,
    db::Conn,
    event::wire_time,
    id::{EventId, TenantId},
    recovery::{BODIES_AT_ONCE, Candidate, preview as page_of},
    subscription::{
        Subscription,
        consumer::{Transformed, envelope},
    },
    wire::{Json, parse_stored},
};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// How far back events are looked at.
const DAYS: TimeDelta = TimeDelta::days(7);

/// After this time the answer is what there is.
const LONG_ENOUGH: Duration = Duration::from_secs(8);

/// Examples of each effect.
const EXAMPLES: usize = 3;

/// Larger bodies are not shown.
const SHOWN_BYTES: usize = 16 << 10;

/// What becomes of an event at an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// It is not sent.
    Nothing,
    /// This is sent.
    Sent(Vec<u8>),
    /// The transformation makes no body of it. Why.
    Unmakeable(String),
}

/// What a change does to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    Added,
    Dropped,
    Changed,
    Failing,
    Unchanged,
    Neither,
}

impl Effect {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Dropped => "dropped",
            Self::Changed => "changed",
            Self::Failing => "failing",
            Self::Unchanged => "unchanged",
            Self::Neither => "neither",
        }
    }

    fn of(before: &Fate, after: &Fate) -> Self {
        match (before, after) {
            (_, Fate::Unmakeable(_)) => Self::Failing,
            (Fate::Nothing, Fate::Nothing) => Self::Neither,
            (Fate::Nothing | Fate::Unmakeable(_), Fate::Sent(_)) => Self::Added,
            (Fate::Sent(_) | Fate::Unmakeable(_), Fate::Nothing) => Self::Dropped,
            (Fate::Sent(before), Fate::Sent(after)) if before == after => Self::Unchanged,
            (Fate::Sent(_), Fate::Sent(_)) => Self::Changed,
        }
    }
}

/// What a change would have made of the latest events.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = Preview)]
pub(crate) struct View {
    /// Events accepted since then were looked at, the newest first.
    #[schema(format = DateTime)]
    since: String,
    /// How many: events that neither the endpoint nor the change names by type may be passed over.
    looked_at: usize,
    /// Whether all of these days were looked at; `false`: there are more events than `limit`, or it took too long.
    complete: bool,
    /// Sent after the change, and not before.
    added: usize,
    /// Sent before, and not after.
    dropped: usize,
    /// Sent before and after, with another body.
    changed: usize,
    /// Sent before and after, byte for byte the same.
    unchanged: usize,
    /// Of which the changed transformation makes no body: such deliveries end as dead letters.
    failing: usize,
    /// Sent neither before nor after.
    neither: usize,
    /// The newest of those with an effect, at most 3 of each.
    examples: Vec<Example>,
}

/// What a change would have made of an event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PreviewExample)]
pub(crate) struct Example {
    /// The event.
    event_id: String,
    /// Its type.
    event_type: String,
    /// When it was accepted.
    #[schema(format = DateTime)]
    created_at: String,
    /// `added`, `dropped`, `changed` or `failing`.
    effect: &'static str,
    /// The body before the change; `null` when nothing was sent, or when it is larger than 16 KiB.
    #[schema(value_type = Option<Object>)]
    before: Option<Box<RawValue>>,
    /// The body after the change, likewise.
    #[schema(value_type = Option<Object>)]
    after: Option<Box<RawValue>>,
    /// Why there is no body after the change; only with `failing`.
    reason: Option<String>,
}

/// Compares what two terms of an endpoint make of the latest events, at most so many.
pub(super) fn compare(
    conn: &mut Conn,
    tenant: TenantId,
    (before, after): (&Subscription, &Subscription),
    (most, now): (usize, DateTime<Utc>),
) -> DomainResult<View> {
    let (since, started) = (now - DAYS, Instant::now());
    let mut view = View { since: wire_time(since), ..View::default() };
    let types: Option<Vec<String>> = before.exact_types().zip(after.exact_types()).map(|(before, after)| {
        let mut both: Vec<String> = before.into_iter().chain(after).map(str::to_owned).collect();
        both.sort_unstable();
        both.dedup();
        both
    });
    let mut cursor: Option<EventId> = None;
    loop {
        // One more than may be looked at tells whether there are more. A page may be without events, and those behind it not.
        let left = most - view.looked_at;
        let page = page_of(conn, tenant, since, types.as_deref(), cursor, BODIES_AT_ONCE.min(left + 1))?;
        for event in page.events.iter().take(left) {
            view.add(event, fate(before, event), fate(after, event));
        }
        view.looked_at += page.events.len().min(left);
        if page.is_last && page.events.len() <= left {
            view.complete = true;
            return Ok(view);
        }
        if left < page.events.len() || LONG_ENOUGH < started.elapsed() {
            return Ok(view);
        }
        cursor = page.up_to;
    }
}

/// What is sent of an event.
fn fate(endpoint: &Subscription, event: &Candidate) -> Fate {
    if !endpoint.names(&event.event_type, event.origin) {
        return Fate::Nothing;
    }
    let body = event.body.as_deref().unwrap_or_default();
    let transformation = endpoint.consumer.as_ref().and_then(|consumer| consumer.transformation.as_ref());
    let json: Option<Json> = if endpoint.reads_content() || transformation.is_some() {
        // Our own bytes can be read; an event that cannot matches no filter.
        let Ok(json) = parse_stored(body) else { return Fate::Nothing };
        if !endpoint.admits(&json) {
            return Fate::Nothing;
        }
        Some(json)
    } else {
        None
    };
    match (transformation, json) {
        (Some(transformation), Some(json)) => match transformation.apply(&json) {
            Ok(Transformed::Body(body)) => Fate::Sent(body),
            Ok(Transformed::Cancelled) => Fate::Nothing,
            Err(error) => Fate::Unmakeable(format!("the transformation {error}")),
        },
        (_, _) if endpoint.consumer.is_some() => envelope(body).map_or(Fate::Nothing, Fate::Sent),
        (_, _) => Fate::Sent(body.to_vec()),
    }
}

impl View {
    fn add(&mut self, event: &Candidate, before: Fate, after: Fate) {
        let effect = Effect::of(&before, &after);
        let count = match effect {
            Effect::Added => &mut self.added,
            Effect::Dropped => &mut self.dropped,
            Effect::Changed => &mut self.changed,
            Effect::Failing => &mut self.failing,
            Effect::Unchanged => &mut self.unchanged,
            Effect::Neither => &mut self.neither,
        };
        *count += 1;
        if *count > EXAMPLES || matches!(effect, Effect::Unchanged | Effect::Neither) {
            return;
        }
        let shown = |fate: &Fate| match fate {
            Fate::Sent(body) if body.len() <= SHOWN_BYTES => {
                let text = String::from_utf8(body.clone()).ok()?;
                RawValue::from_string(text).ok()
            }
            Fate::Sent(_) | Fate::Nothing | Fate::Unmakeable(_) => None,
        };
        self.examples.push(Example {
            event_id: event.id.to_string(),
            event_type: event.event_type.to_string(),
            created_at: wire_time(event.created_at),
            effect: effect.as_str(),
            before: shown(&before),
            after: shown(&after),
            reason: match after {
                Fate::Unmakeable(reason) => Some(reason),
                Fate::Nothing | Fate::Sent(_) => None,
            },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_is_what_differs() {
        let (nothing, sent, other) = (Fate::Nothing, Fate::Sent(b"1".to_vec()), Fate::Sent(b"2".to_vec()));
        let none = Fate::Unmakeable("x".to_owned());
        for (before, after, expected) in [
            (&nothing, &nothing, "neither"),
            (&nothing, &sent, "added"),
            (&sent, &nothing, "dropped"),
            (&sent, &sent, "unchanged"),
            (&sent, &other, "changed"),
            (&sent, &none, "failing"),
            (&nothing, &none, "failing"),
            (&none, &sent, "added"),
            (&none, &nothing, "dropped"),
        ] {
            assert_eq!(Effect::of(before, after).as_str(), expected, "{before:?} {after:?}");
        }
    }
}
