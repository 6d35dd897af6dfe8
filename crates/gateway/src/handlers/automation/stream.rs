//! `GET /v1/automation/tasks/{id}/events`: the steps of a run as they happen (server-sent events, WHATWG HTML §9.2).
//!
//! A stream begins where `Last-Event-ID` ended, ends after the run's end, and costs its gateway next to nothing while
//! nothing happens: all streams share one query (`tasks::Listeners`).

use std::collections::VecDeque;

use actix_web::{HttpRequest, HttpResponse, web::Data};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::stream;
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    id::{RunId, TaskId, TenantId},
    task::{list, output},
};
use tokio::sync::broadcast::{self, error::RecvError};

use super::{task_view::View, tasks::found};
use crate::{
    access::Caller,
    context::Context,
    handlers::event_stream,
    paging::{Id, Query},
    problem,
    tasks::{Heard, LINES},
};

/// The longest stream; clients come back by themselves, and their credential is looked at anew.
const LONGEST: TimeDelta = TimeDelta::hours(1);

/// Follow a task
///
/// Server-sent events of the latest run: `status`, `progress`, `output` (chunks of what it writes), and at last `done` with the
/// task as `GET …/tasks/{id}` shows it; then the stream ends. `id` is the place in the stream; who comes back with
/// `Last-Event-ID` (or `last_event_id` in the query) goes on there.
#[utoipa::path(
    get,
    path = "/v1/automation/tasks/{id}/events",
    operation_id = "follow_task",
    tag = "Tasks",
    params(
        ("id" = String, Path, description = "The task's id.", example = "550e8400-e29b-41d4-a716-446655440000"),
        ("Last-Event-ID" = Option<String>, Header, description = "The last `id` that was seen: number of the run and place, such as `1.7`."),
        ("last_event_id" = Option<String>, Query, description = "The same, for clients that cannot set headers.")
    ),
    responses((status = 200, description = "The stream.", body = String, content_type = "text/event-stream"))
)]
pub(crate) async fn follow(
    context: Data<Context>,
    caller: Caller,
    Id(id): Id<TaskId>,
    request: HttpRequest,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    let last = event_stream::last_seen(&request, &mut query);
    query.finish()?;
    let tenant = caller.tenant();
    let row = found(&context, tenant, id).await?;
    let after = last.as_deref().and_then(|text| place(text, row.number)).unwrap_or(0);
    let now = context.clock.now();
    let follower = Follower {
        // Before anything is read, so that nothing falls in between.
        heard: context.listeners.listen(row.run_id, row.output_seq),
        tenant,
        task: id,
        run: row.run_id,
        number: row.number,
        after,
        pending: VecDeque::from([event_stream::beginning()]),
        behind: true,
        over: row.state.is_terminal(),
        ended: false,
        until: now + LONGEST,
        context: context.clone(),
    };
    let body = stream::unfold(follower, |mut follower| async move {
        let next = follower.next().await?;
        Some((next, follower))
    });
    Ok(event_stream::answer(body))
}

/// The place that a client has seen, if it is one in this run.
fn place(text: &str, number: i32) -> Option<i64> {
    let (run, seq) = text.split_once('.')?;
    (run.parse() == Ok(number)).then(|| seq.parse().ok()).flatten().filter(|seq| *seq >= 0)
}

/// Somebody who follows a run.
struct Follower {
    context: Data<Context>,
    heard: broadcast::Receiver<Heard>,
    tenant: TenantId,
    task: TaskId,
    run: RunId,
    number: i32,
    /// The last line that was sent.
    after: i64,
    pending: VecDeque<Bytes>,
    /// Whether there may be lines that have to be read from the database.
    behind: bool,
    /// Whether the run has ended.
    over: bool,
    /// Whether the stream has.
    ended: bool,
    until: DateTime<Utc>,
}

impl Follower {
    /// The next bytes; `None` when the stream ends.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.pending.pop_front() {
                return Some(bytes);
            }
            if self.ended || self.context.clock.now() >= self.until {
                return None;
            }
            if self.behind {
                self.read().await?;
                continue;
            }
            if self.over {
                self.ended = true;
                self.end().await?;
                continue;
            }
            let closing = self.context.listeners.closing().clone();
            tokio::select! {
                () = closing.cancelled() => return None,
                heard = self.heard.recv() => match heard {
                    Ok(line) => self.take(line.seq, line.kind.as_str(), &line.data),
                    Err(RecvError::Lagged(_)) => self.behind = true,
                    Err(RecvError::Closed) => return None,
                },
                () = tokio::time::sleep(event_stream::KEEP_ALIVE) => self.pending.push_back(event_stream::comment()),
            }
        }
    }

    /// Reads what came before, or what could not be taken in time.
    async fn read(&mut self) -> Option<()> {
        let watched = [(self.run, self.after)];
        let read = self.context.db.once(move |conn| output::after(conn, &watched, LINES)).await;
        match read {
            Ok(lines) => {
                self.behind = i64::try_from(lines.len()).unwrap_or(LINES) >= LINES;
                for line in lines {
                    self.take(line.seq, line.kind.as_str(), &line.data);
                }
                Some(())
            }
            // The client comes back and goes on where it was.
            Err(error) => {
                tracing::debug!(error = error.chain(), "a stream ends, the database is away");
                None
            }
        }
    }

    fn take(&mut self, seq: i64, kind: &str, data: &str) {
        if seq <= self.after {
            return;
        }
        if seq > self.after + 1 && !self.behind {
            // Something was not heard.
            self.behind = true;
            return;
        }
        self.after = seq;
        // Canonical JSON has no line ends.
        self.pending
            .push_back(Bytes::from(format!("id: {}.{seq}\nevent: {kind}\ndata: {data}\n\n", self.number)));
        self.over |= kind == "status"
            && ["completed", "failed", "cancelled"]
                .iter()
                .any(|word| data.starts_with(&format!(r#"{{"status":"{word}""#)));
    }

    /// The end: the task as it is.
    async fn end(&mut self) -> Option<()> {
        let (tenant, task, run) = (self.tenant, self.task, self.run);
        let rows = self.context.db.once(move |conn| list::runs(conn, tenant, task)).await;
        let row = rows.map_err(problem::of).ok()?.into_iter().find(|row| row.run_id == run)?;
        let view = serde_json::to_string(&View::new(row, self.context.clock.now())).ok()?;
        self.pending.push_back(Bytes::from(format!(
            "id: {}.{}\nevent: done\ndata: {view}\n\n",
            self.number, self.after
        )));
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_in_its_own_run() {
        assert_eq!(place("1.7", 1), Some(7));
        for other in ["2.7", "7", "", "1.", "1.-1", "1.x", "x.1", "1.7.7"] {
            assert_eq!(place(other, 1), None, "{other}");
        }
    }
}
