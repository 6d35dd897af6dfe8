//! `GET /v1/automation/worker/hints`: which types of work wait, as server-sent events. A hint promises nothing: whoever comes
//! first with a claim gets the task.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use actix_web::{HttpResponse, web::Data};
use bytes::Bytes;
use futures_util::stream;
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::task::AgentType;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::Instant,
};

use crate::{
    access::Caller,
    context::Context,
    handlers::event_stream,
    paging::{Query, invalid_parameter},
};

/// How often a hint is told again while work of the type waits.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// The longest stream, in seconds; clients come back by themselves, and their token is looked at anew.
const LONGEST_S: u64 = 3_600;

/// Hear of work
///
/// Server-sent events: `work` with `{"agent_type": "build"}` as soon as tasks of the type wait that the token allows, and again
/// every 5 s while they do. For workers that do not want to keep a claim waiting.
#[utoipa::path(
    get,
    path = "/v1/automation/worker/hints",
    operation_id = "hear_hints",
    tag = "Workers",
    params(
        ("agent_type" = Option<String>, Query, description = "Only hints of this type."),
        ("seconds" = Option<i64>, Query, minimum = 1, maximum = 3600, description = "How long to listen, 1 to 3600; 3600 by default.")
    ),
    responses((status = 200, description = "The stream.", body = String, content_type = "text/event-stream"))
)]
pub(crate) async fn follow(
    context: Data<Context>,
    caller: Caller,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    let only = query.value::<AgentType>("agent_type", "general, plan, build or explore")?;
    let seconds = query.value::<u64>("seconds", "a whole number from 1 to 3600")?.unwrap_or(LONGEST_S);
    if !(1..=LONGEST_S).contains(&seconds) {
        return Err(invalid_parameter("seconds", "must be a whole number from 1 to 3600"));
    }
    query.finish()?;
    let credential = caller.worker()?;
    let allowed = |agent: &AgentType| {
        only.is_none_or(|only| only == *agent)
            && credential.work.agent_types.as_ref().is_none_or(|types| types.contains(agent))
    };
    let listener = Listener {
        heard: context.work.hints(credential.tenant),
        types: AgentType::ALL.into_iter().filter(allowed).collect(),
        told: HashMap::new(),
        pending: VecDeque::from([event_stream::beginning()]),
        until: Instant::now() + Duration::from_secs(seconds),
        context: context.clone(),
    };
    let body = stream::unfold(listener, |mut listener| async move {
        let next = listener.next().await?;
        Some((next, listener))
    });
    Ok(event_stream::answer(body))
}

struct Listener {
    context: Data<Context>,
    heard: broadcast::Receiver<AgentType>,
    types: Vec<AgentType>,
    /// When each type was told last.
    told: HashMap<AgentType, Instant>,
    pending: VecDeque<Bytes>,
    until: Instant,
}

impl Listener {
    /// The next bytes; `None` when the stream ends.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.pending.pop_front() {
                return Some(bytes);
            }
            if Instant::now() >= self.until {
                return None;
            }
            let closing = self.context.listeners.closing().clone();
            tokio::select! {
                () = closing.cancelled() => return None,
                heard = self.heard.recv() => match heard {
                    Ok(agent) => self.take(agent),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                },
                () = tokio::time::sleep_until(self.until) => return None,
                () = tokio::time::sleep(event_stream::KEEP_ALIVE) => self.pending.push_back(event_stream::comment()),
            }
        }
    }

    fn take(&mut self, agent: AgentType) {
        let now = Instant::now();
        let soon = self.told.get(&agent).is_some_and(|told| now < *told + AGAIN_AFTER);
        if self.types.contains(&agent) && !soon {
            self.told.insert(agent, now);
            let hint = format!("event: work\ndata: {{\"agent_type\":\"{agent}\"}}\n\n");
            self.pending.push_back(Bytes::from(hint));
        }
    }
}
