//! Answers in replies: a receiver of `task_needs_input` may say at once what the run asks for (contract §5). Any 2xx whose body
//! is a JSON object with an `answer` does.

use std::time::Duration;

use hookyard_domain::{
    Error, Result,
    audit::{self, Action, Actor, Entry, ObjectKind, ObjectRef},
    clock::Clock,
    db::{Conn, Db},
    id::{InputId, TenantId},
    task::{
        Ledger,
        input::{self, Answered},
        ledger::Written,
    },
    trace::TraceContext,
    wire::{Json, parse_as_javascript},
};
use hookyard_messaging::{Bus, Message, Queue};
use serde_json::json;

use crate::{job::Job, lines::Lines, sender};

/// How often an answer is written before it is given up, and how long is waited before the second time, then twice as long.
const TRIES: u32 = 5;
const WAIT: Duration = Duration::from_millis(100);

/// Takes answers.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    pub(crate) db: Db,
    pub(crate) bus: Bus,
    pub(crate) clock: Clock,
    pub(crate) ledger: Ledger,
    pub(crate) lines: Lines,
}

/// What a reply says to a question.
#[derive(Debug, PartialEq)]
struct Said {
    input: InputId,
    answer: Json,
}

/// Reads a reply to a webhook. A reply that names another question than the webhook asked is none.
fn said(webhook: &[u8], reply: &[u8]) -> Option<Said> {
    let object = |bytes: &[u8]| match parse_as_javascript(bytes) {
        Ok(Json::Object(object)) => Some(object),
        Ok(_) | Err(_) => None,
    };
    let mut reply = object(reply)?;
    let answer = reply.remove("answer").filter(|answer| !answer.is_null())?;
    let webhook = object(webhook)?;
    let asked = webhook.get("request_id")?.as_str()?;
    let meant = reply.get("request_id").filter(|id| !id.is_null());
    if meant.is_some_and(|id| id.as_str() != Some(asked)) {
        return None;
    }
    Some(Said { input: asked.parse().ok()?, answer })
}

impl Answers {
    /// Takes the answer in a reply, if there is one. One that is not taken, because somebody was quicker or it is not what was
    /// asked for, changes nothing.
    ///
    /// # Errors
    /// When the database stays away.
    pub(crate) async fn take(&self, job: &Job, reply: &[u8]) -> Result<()> {
        let Some(Said { input, answer }) = said(&sender::body(job), reply) else { return Ok(()) };
        let (tenant, host) = (job.held.tenant, job.hook.url.host_str().unwrap_or_default().to_owned());
        let mut wait = WAIT;
        for tries in 1.. {
            let answered = self.write(tenant, input, answer.clone(), host.clone()).await;
            match answered {
                Ok(Answered::Taken(written)) => {
                    self.ring(written).await;
                    tracing::info!(input.id = %input, tenant.id = %tenant, "a question was answered in a reply");
                    return Ok(());
                }
                Ok(Answered::Repeated) => return Ok(()),
                Ok(Answered::Refused(reason)) => {
                    tracing::info!(input.id = %input, tenant.id = %tenant, ?reason, "an answer in a reply was not taken");
                    return Ok(());
                }
                Err(error) if error.is_passing() && tries < TRIES => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        Ok(())
    }

    async fn write(&self, tenant: TenantId, input: InputId, answer: Json, host: String) -> Result<Answered> {
        let (ledger, now) = (self.ledger.clone(), self.clock.now());
        self.db
            .run(move |conn: &mut Conn| {
                let by = format!("the reply of {host}");
                let answered = input::answer(conn, &ledger, tenant, input, &answer, &by, now)?;
                if let Answered::Taken(written) = &answered {
                    let task = written.results.iter().flatten().map(|applied| applied.task).next();
                    let task = task.ok_or(Error::NotFound { what: "task" })?;
                    let entry =
                        Entry::new(tenant, Action::TaskAnswered, ObjectRef::new(ObjectKind::Task, task))
                            .after(json!({"request_id": input.to_string(), "answered_by": by}));
                    audit::record(conn, &Actor::system("delivery"), &entry, now)?;
                }
                Ok(answered)
            })
            .await
    }

    /// Whoever waits is rung; a lost ring is found by polling and by the relays.
    async fn ring(&self, written: Written) {
        if let Some(group) = written.group {
            let message = Message::EventAccepted { group, accepted: None };
            if let Err(error) = self.bus.publish(Queue::EventAccepted, &message, &TraceContext::fresh()).await
            {
                tracing::debug!(%error, "an event was not rung; the relay will");
            }
        }
        self.bus.ring_tasks(&written.queued).await;
        self.lines.go_on_with(written.ordered);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_answers_the_question_that_was_asked() {
        let id = InputId::from_uuid(uuid::Uuid::from_u128(7));
        let webhook = format!(r#"{{"event":"task_needs_input","request_id":"{id}","question":"?"}}"#);
        let said = |reply: &str| said(webhook.as_bytes(), reply.as_bytes()).map(|said| said.answer);
        let text = |text: &str| Some(Json::from(text));
        assert_eq!(said(r#"{"answer":"yes"}"#), text("yes"));
        assert_eq!(said(&format!(r#"{{"answer":"yes","request_id":"{id}","x":1}}"#)), text("yes"));
        assert_eq!(said(r#"{"answer":"yes","request_id":null}"#), text("yes"));
        assert_eq!(said(r#"{"answer":false}"#), Some(Json::Bool(false)));
        for none in [
            "",
            "ok",
            "[]",
            "{}",
            r#"{"answer":null}"#,
            r#"["answer"]"#,
            r#"{"answer":"yes","request_id":"00000000-0000-0000-0000-000000000008"}"#,
            r#"{"answer":"yes","request_id":7}"#,
            r#"{"answer":"yes""#,
        ] {
            assert_eq!(said(none), None, "{none}");
        }
        assert!(super::said(b"{}", br#"{"answer":"yes"}"#).is_none());
    }
}
