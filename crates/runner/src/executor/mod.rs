//! Asking a language model: one call per run of a task, its reply streamed, its usage counted while it comes.
//!
//! [`run`] makes the call and makes it again where that helps ([`retry`]); [`call`] is one exchange. Two APIs are spoken,
//! [`anthropic`] and [`openai`]; both turn what the provider sends into [`Piece`]s. Nothing here knows tasks, leases or the
//! database: whoever calls hears every piece, may stop the stream by what he answers, and cancels by dropping the future.

mod anthropic;
mod call;
mod openai;
mod question;
mod retry;
mod sse;

use std::{ops::ControlFlow, time::Duration};

use hookyard_egress::Services;
use tokio::time::Instant;
use url::Url;

pub use question::Question;
pub use retry::Patience;

use crate::executor::{call::Interrupted, question::Held, retry::Verdict};

/// Which API a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// Anthropic's Messages API.
    Anthropic,
    /// OpenAI's chat completions, which Ollama, vLLM and many others speak, too.
    OpenAi,
}

/// A provider as it is called.
#[derive(Clone)]
pub struct Provider {
    /// Its API.
    pub api: Api,
    /// Where it is. A path is kept: `http://127.0.0.1:11434/v1`.
    pub base_url: Url,
    /// Its key; some need none.
    pub key: Option<String>,
}

/// Keys are not shown.
impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider")
            .field("api", &self.api)
            .field("base_url", &self.base_url.as_str())
            .finish_non_exhaustive()
    }
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// Whoever made the task, or answered.
    User,
    /// The model.
    Assistant,
}

/// One text of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Whose.
    pub speaker: Speaker,
    /// What.
    pub text: String,
}

/// What is asked of a model.
#[derive(Clone, Debug)]
pub struct Job {
    /// Of whom.
    pub provider: Provider,
    /// The provider's name of the model.
    pub model: String,
    /// What the model is told about its role.
    pub system: String,
    /// What was said so far; begins and ends with the user.
    pub turns: Vec<Turn>,
    /// Most tokens of the reply.
    pub max_output_tokens: u32,
    /// Most time for everything, calls that are repeated and waits between them included.
    pub total: Duration,
}

/// Tokens of all calls of a job, those that failed included: providers charge for them, too. Where a provider has not said
/// (yet), a careful guess: one token for every four bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Of what was sent.
    pub input: u64,
    /// Of what came back.
    pub output: u64,
}

/// What is heard while a job runs.
#[derive(Debug, PartialEq)]
pub enum Heard<'a> {
    /// More text of the reply.
    Text(&'a str),
    /// What was spent so far.
    Spent(Tokens),
    /// The call failed and is made again after this wait. The text that came is void.
    Again {
        /// What went wrong, for a person.
        why: &'a str,
        /// How long is waited.
        wait: Duration,
    },
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The model has answered.
    Answered {
        /// Its whole reply.
        text: String,
        /// Whether it ended because it had no tokens left.
        cut_short: bool,
    },
    /// The model cannot go on without an answer.
    Asked(Question),
    /// Whoever heard has stopped it.
    Stopped,
    /// It failed.
    Failed(Failure),
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Stable word, such as `provider_overloaded`.
    pub code: &'static str,
    /// For a person: what happened and, where it can be said, what to do.
    pub message: String,
    /// Whether another try may go better.
    pub retryable: bool,
    /// When, if the provider said it.
    pub retry_after: Option<Duration>,
}

/// Runs a job. `heard` may end it with `Break`; `jitter` gives numbers from 0 to 1.
pub async fn run(
    services: &Services,
    job: &Job,
    patience: &Patience,
    jitter: &mut (dyn FnMut() -> f64 + Send),
    heard: &mut (dyn FnMut(Heard<'_>) -> ControlFlow<()> + Send),
) -> (Outcome, Tokens) {
    let end = Instant::now() + job.total;
    let mut before = Tokens::default();
    for tried in 1_u32.. {
        let mut now = Tokens::default();
        let mut held = Held::default();
        let result = {
            let mut pieces = |piece: Piece<'_>| match piece {
                Piece::Text(text) => match held.take(text) {
                    Some(text) => heard(Heard::Text(&text)),
                    None => ControlFlow::Continue(()),
                },
                Piece::Spent(tokens) => {
                    now = tokens;
                    heard(Heard::Spent(before + now))
                }
            };
            call::call(services, job, end, patience.silence, &mut pieces).await
        };
        before = before + now;
        let trouble = match result {
            Ok(reply) => return (conclude(reply, held, heard), before),
            Err(Interrupted::Stopped) => return (Outcome::Stopped, before),
            Err(Interrupted::Trouble(trouble)) => trouble,
        };
        let failure = match retry::judge(&trouble, tried, patience, jitter()) {
            Verdict::Final(failure) => failure,
            Verdict::Again { wait, failure } if Instant::now() + wait < end => {
                if heard(Heard::Again { why: &failure.message, wait }).is_break() {
                    return (Outcome::Stopped, before);
                }
                tokio::time::sleep(wait).await;
                continue;
            }
            Verdict::Again { failure, .. } => failure,
        };
        return (Outcome::Failed(failure), before);
    }
    (Outcome::Stopped, before) // not reached: a try is the last long before u32::MAX
}

fn conclude(
    reply: call::Reply,
    held: Held,
    heard: &mut (dyn FnMut(Heard<'_>) -> ControlFlow<()> + Send),
) -> Outcome {
    match reply.end {
        End::Refused => {
            return Outcome::Failed(Failure {
                code: "model_refused",
                message: "the model refused to answer this task".to_owned(),
                retryable: false,
                retry_after: None,
            });
        }
        End::Complete if reply.text.trim().is_empty() => {
            return Outcome::Failed(Failure {
                code: "empty_reply",
                message: "the model answered with an empty text".to_owned(),
                retryable: true,
                retry_after: None,
            });
        }
        End::Complete | End::Length => {}
    }
    if let Some(question) = Question::read(&reply.text) {
        return Outcome::Asked(question);
    }
    if let Some(text) = held.rest()
        && heard(Heard::Text(&text)).is_break()
    {
        return Outcome::Stopped;
    }
    Outcome::Answered { text: reply.text, cut_short: reply.end == End::Length }
}

impl std::ops::Add for Tokens {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
        }
    }
}

/// What one exchange brings.
#[derive(Debug)]
pub(crate) enum Piece<'a> {
    Text(&'a str),
    /// Of this exchange, from its beginning.
    Spent(Tokens),
}

/// Why a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Complete,
    /// No tokens left.
    Length,
    /// The model, or a filter of its provider, would not.
    Refused,
}
