//! Server-sent events (WHATWG HTML §9.2): how a stream begins, what keeps it alive, and where a client goes on.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};

use crate::paging::Query;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A comment is sent so often when nothing happens, so that nobody on the way takes the connection for dead.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// That comment.
pub(super) fn comment() -> Bytes {
    Bytes::from_static(b": keep-alive\n\n")
}

/// How a stream begins: after so many milliseconds a client comes back when the connection breaks.
pub(super) fn beginning() -> Bytes {
    Bytes::from_static(b"retry: 1000\n\n")
}

/// The `id` of the last event that a client has seen: the header, or `last_event_id` for clients that cannot set headers.
pub(super) fn last_seen(request: &HttpRequest, query: &mut Query) -> Option<String> {
    let header =
        request.headers().get(LAST_EVENT_ID).and_then(|value| value.to_str().ok().map(str::to_owned));
    header.or(query.text("last_event_id"))
}

/// Answers with a stream of events.
pub(super) fn answer(events: impl Stream<Item = Bytes> + 'static) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-store"))
        // Nginx would keep chunks back.
        .insert_header((HeaderName::from_static("x-accel-buffering"), "no"))
        .streaming(Box::pin(events.map(Ok::<Bytes, actix_web::Error>)))
}
