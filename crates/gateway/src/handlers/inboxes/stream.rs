//! `GET /v1/inboxes/{id}/messages/stream`: an inbox read in order as messages come in (server-sent events, WHATWG HTML §9.2).
//!
//! A stream leases nothing. It begins where `Last-Event-ID` ended, and tells of numbers that it cannot show. While nothing happens it
//! costs its gateway next to nothing: rings wake it ([`crate::inbox`]).

use std::{collections::VecDeque, time::Duration};

use actix_web::{HttpRequest, HttpResponse, web::Data};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::stream;
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    id::{SubscriptionId, TenantId},
    subscription::inbox::{
        MAX_BYTES_STREAMED, lease,
        log::{self, LoggedMessage, Which},
    },
};
use tokio::{sync::mpsc, time::Instant};

use super::{live, messages::MessageView};
use crate::{
    access::Caller,
    context::Context,
    handlers::event_stream,
    inbox::Following,
    paging::{Id, Query, invalid_parameter},
    problem,
};

/// The longest stream, in seconds; clients come back by themselves, and their credential is looked at anew.
const LONGEST_S: i64 = 3_600;

/// Messages read at a time, so that a client that is far behind is served in steps.
const PAGE: i64 = 50;

/// A client that takes nothing for so long has left: its place is free for another. If it is there after all, it comes back.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// With the oldest message that is kept.
    Oldest,
    /// With what comes from now on.
    Latest,
    /// Behind this number; numbers behind it that cannot be shown are told.
    After(i64),
}

fn start(text: Option<&str>) -> Option<Start> {
    match text {
        None | Some("") => Some(Start::Oldest),
        Some("latest") => Some(Start::Latest),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok().map(Start::After)
        }
        Some(_) => None,
    }
}

/// Follow an inbox
///
/// Server-sent events: a `message` for each message, as `GET …/messages` shows it, with its `sequence` as the `id`; and a `gap`
/// (`{"from", "to"}`) for numbers that cannot be shown, because they are older than what is kept, or were lost in a crash of the
/// database. Nothing is leased. Who comes back with `Last-Event-ID` (or `last_event_id` in the query) goes on there; without one the
/// stream begins with the oldest message that is kept, with `latest` it begins now. It ends after an hour
/// at the latest; clients come back by themselves.
#[utoipa::path(
    get,
    path = "/v1/inboxes/{id}/messages/stream",
    operation_id = "follow_inbox",
    tag = "Inboxes",
    params(
        ("id" = String, Path, description = "The inbox's id.", example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("Last-Event-ID" = Option<String>, Header, description = "The last `id` that was seen, such as `17`; or `latest`."),
        ("last_event_id" = Option<String>, Query, description = "The same, for clients that cannot set headers."),
        ("seconds" = Option<i64>, Query, minimum = 1, maximum = 3600, description = "How long the stream lasts; an hour by default.")
    ),
    responses((status = 200, description = "The stream.", body = String, content_type = "text/event-stream"))
)]
pub(crate) async fn follow(
    context: Data<Context>,
    caller: Caller,
    Id(inbox): Id<SubscriptionId>,
    request: HttpRequest,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    let last = event_stream::last_seen(&request, &mut query);
    let seconds = query.number("seconds", (1, LONGEST_S))?.unwrap_or(LONGEST_S);
    query.finish()?;
    let start = start(last.as_deref())
        .ok_or_else(|| invalid_parameter("last_event_id", "must be the `id` of an event, or `latest`"))?;
    let tenant = caller.tenant();
    let newest = context
        .db
        .once(move |conn| {
            live(conn, tenant, inbox)?;
            Ok(lease::newest(conn, &[inbox])?.get(&inbox).copied().unwrap_or(0))
        })
        .await
        .map_err(problem::of)?;
    let most = context.settings.gateway.inbox_streams as usize;
    let Some(rings) = context.inboxes.follow(tenant, inbox, most) else {
        return Err(problem::overloaded("the tenant follows as many inboxes at this gateway as it may"));
    };
    let mut follower = Follower {
        rings,
        tenant,
        inbox,
        after: match start {
            Start::Oldest => 0,
            Start::Latest => newest,
            Start::After(number) => number,
        },
        // Whoever has seen nothing misses nothing.
        tells_gaps: start != Start::Oldest,
        pending: VecDeque::from([event_stream::beginning()]),
        behind: true,
        until: Instant::now() + Duration::from_secs(seconds.unsigned_abs()),
        context: context.clone(),
    };
    // Beside the connection, which waits without end for a client that reads nothing.
    let (to, from) = mpsc::channel(1);
    actix_web::rt::spawn(async move { hand_over(async || follower.next().await, &to, PATIENCE).await });
    let body = stream::unfold(from, |mut from| async move {
        let next = from.recv().await?;
        Some((next, from))
    });
    Ok(event_stream::answer(body))
}

/// Hands over what there is, until there is nothing more, the client is gone, or it has taken nothing for so long.
async fn hand_over(
    mut next: impl AsyncFnMut() -> Option<Bytes>,
    to: &mpsc::Sender<Bytes>,
    patience: Duration,
) {
    loop {
        let bytes = tokio::select! {
            () = to.closed() => return,
            bytes = next() => bytes,
        };
        let Some(bytes) = bytes else { return };
        if to.send_timeout(bytes, patience).await.is_err() {
            return;
        }
    }
}

/// Somebody who follows an inbox.
struct Follower {
    context: Data<Context>,
    rings: Following,
    tenant: TenantId,
    inbox: SubscriptionId,
    /// The last number that was sent.
    after: i64,
    tells_gaps: bool,
    pending: VecDeque<Bytes>,
    /// Whether there may be messages that were not read yet.
    behind: bool,
    until: Instant,
}

impl Follower {
    /// The next bytes; `None` when the stream ends.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.pending.pop_front() {
                return Some(bytes);
            }
            if Instant::now() >= self.until {
                return None;
            }
            if self.behind {
                self.read().await?;
                continue;
            }
            let closing = self.context.listeners.closing().clone();
            tokio::select! {
                () = closing.cancelled() => return None,
                () = tokio::time::sleep_until(self.until) => return None,
                () = self.rings.rung() => self.behind = true,
                () = tokio::time::sleep(event_stream::KEEP_ALIVE) => self.pending.push_back(event_stream::comment()),
            }
        }
    }

    /// Reads a page. The stream ends with its inbox, and while the database is away: the client comes back and goes on where it was.
    async fn read(&mut self) -> Option<()> {
        // What is rung while we read is read once more.
        self.rings.heard();
        let (tenant, inbox, after) = (self.tenant, self.inbox, self.after);
        let read = self.context.db.once(move |conn| {
            live(conn, tenant, inbox)?;
            log::after(conn, (tenant, inbox), Which::All, after, (PAGE, MAX_BYTES_STREAMED))
        });
        match read.await {
            Ok((messages, more)) => {
                self.behind = more;
                let now = self.context.clock.now();
                messages.into_iter().try_for_each(|message| self.take(message, now))
            }
            Err(error) => {
                tracing::debug!(error = error.chain(), "a stream of an inbox ends");
                None
            }
        }
    }

    fn take(&mut self, message: LoggedMessage, now: DateTime<Utc>) -> Option<()> {
        let number = message.sequence;
        if self.tells_gaps && number > self.after + 1 {
            let (from, to) = (self.after + 1, number - 1);
            let data = format!(r#"{{"from":{from},"to":{to}}}"#);
            self.pending.push_back(Bytes::from(format!("id: {to}\nevent: gap\ndata: {data}\n\n")));
        }
        self.tells_gaps = true;
        self.after = number;
        // Canonical JSON has no line ends, nor has what stands around it.
        let data = serde_json::to_string(&MessageView::new(message, now)).ok()?;
        self.pending.push_back(Bytes::from(format!("id: {number}\nevent: message\ndata: {data}\n\n")));
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_reads_gets_everything_and_whoever_does_not_keeps_no_place() {
        let (patient, short) = (Duration::from_secs(3_600), Duration::from_millis(1));
        let mut left = 100_u32;
        let count_down = async || {
            left = left.checked_sub(1)?;
            Some(Bytes::from_static(b"x"))
        };
        let (to, mut from) = mpsc::channel(1);
        let read = async {
            let mut read = 0;
            while read < 100 && from.recv().await.is_some() {
                read += 1;
            }
            read
        };
        let ((), read) = tokio::join!(hand_over(count_down, &to, patient), read);
        assert_eq!(read, 100);
        // Nobody reads: what has room is handed over, and nothing more is read.
        let mut asked = 0;
        let (to, from) = mpsc::channel(1);
        let more = async || {
            asked += 1;
            Some(Bytes::from_static(b"x"))
        };
        hand_over(more, &to, short).await;
        assert_eq!(asked, 2);
        // The client is gone while there is nothing.
        drop(from);
        hand_over(async || std::future::pending().await, &to, patient).await;
    }

    #[test]
    fn a_stream_begins_at_a_number_or_at_an_end() {
        for (text, expected) in [
            (None, Some(Start::Oldest)),
            (Some(""), Some(Start::Oldest)),
            (Some("latest"), Some(Start::Latest)),
            (Some("0"), Some(Start::After(0))),
            (Some("17"), Some(Start::After(17))),
            (Some("-1"), None),
            (Some("+1"), None),
            (Some("1.7"), None),
            (Some("99999999999999999999"), None),
        ] {
            assert_eq!(start(text), expected, "{text:?}");
        }
    }
}
