//! What can be said of a run, by whom, how large it may be, and what follows from it. What is made of it is in [`super::run`].

use chrono::{DateTime, TimeDelta, Utc};

use super::{RunState, Usage, answer::BadAnswer};
use crate::id::{InputId, LeaseId};

/// The longest result, in bytes.
pub const MAX_RESULT_BYTES: usize = 256 << 10;
/// The longest chunk of output, in bytes.
pub const MAX_CHUNK_BYTES: usize = 64 << 10;
/// All output of a run, in bytes.
pub const MAX_OUTPUT_BYTES: u64 = 8 << 20;
/// The largest checkpoint, in bytes.
pub const MAX_CHECKPOINT_BYTES: usize = 256 << 10;
/// The longest message of a progress report, in characters.
pub const MAX_PROGRESS_CHARS: usize = 500;
/// The longest question, in characters.
pub const MAX_QUESTION_CHARS: usize = 4_000;
/// Choices of a question at most.
pub const MAX_CHOICES: usize = 50;
/// The longest choice, in characters.
pub const MAX_CHOICE_CHARS: usize = 200;
/// The largest answer, in bytes of its canonical JSON.
pub const MAX_ANSWER_BYTES: usize = 64 << 10;
/// What is kept of an error's text, in characters.
pub const MAX_ERROR_CHARS: usize = 2_000;

/// What a run wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The question.
    pub question: String,
    /// The answers it may have; `None` = any.
    pub choices: Option<Vec<String>>,
    /// Canonical JSON of a JSON Schema (2020-12) that the answer has to follow.
    pub schema: Option<String>,
}

/// Why an attempt did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A word for programs, such as `overloaded`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// Whether another attempt may succeed.
    pub retryable: bool,
    /// When to come back; `None` = the settings say.
    pub retry_after: Option<TimeDelta>,
}

/// What somebody says has happened to a run, or wants to happen to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Of the holder: work has begun. Later steps of a holder imply it.
    Started,
    /// Of the holder: how far it is, in percent, which never falls, and in words.
    Progress {
        /// 0 to 100.
        percent: Option<u8>,
        /// What is being done.
        message: Option<String>,
    },
    /// Of the holder: a piece of what it writes.
    Output {
        /// The piece.
        text: String,
    },
    /// Of the holder: what the next attempt needs in order to go on from here.
    Checkpoint {
        /// Rises from checkpoint to checkpoint.
        seq: u64,
        /// Anything.
        data: String,
    },
    /// Of the holder: what was used so far, in this attempt. May end the run, if that is more than it may use.
    Spent {
        /// The sum of the attempt.
        usage: Usage,
    },
    /// Of the holder: it needs an answer, and gives the run back until there is one.
    Ask {
        /// The id of the question, which was made for it.
        input: InputId,
        /// The question.
        question: Question,
        /// What was used so far, in this attempt.
        usage: Usage,
    },
    /// Of the holder: done.
    Complete {
        /// The result.
        result: String,
        /// The result in short; `None` = its beginning.
        summary: Option<String>,
        /// What was used, in this attempt.
        usage: Usage,
    },
    /// Of the holder: this attempt did not succeed.
    Fail {
        /// Why.
        failure: Failure,
        /// What was used, in this attempt.
        usage: Usage,
    },
    /// Of the holder: it gives the run back, as if it had never taken it.
    Release,
    /// Of the owner: it is not wanted any more.
    Cancel {
        /// Why, in words.
        reason: Option<String>,
    },
    /// Of the owner: the answer to a question.
    Answer {
        /// Which question.
        input: InputId,
        /// Canonical JSON.
        answer: String,
        /// Who answers, for people.
        by: String,
    },
    /// Of the clock: whatever is due.
    Tick,
}

/// Why a step is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such run, or it belongs to somebody else.
    #[error("run not found")]
    Unknown,
    /// The lease is not the one under which the run is held.
    #[error("the run is held by somebody else, or by nobody")]
    Stale,
    /// The lease, or the time of the attempt, is over.
    #[error("the lease is over")]
    Expired,
    /// The run has ended.
    #[error("the run has ended: it is {0}")]
    Ended(RunState),
    /// A value is not acceptable.
    #[error("{field} {reason}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong with it, continuing its name.
        reason: String,
    },
    /// An answer is not one that the question may have.
    #[error("answer {0}")]
    Answer(BadAnswer),
    /// What is wanted contradicts what is there.
    #[error("{0}")]
    Conflict(String),
}

/// What has to be written or told because of a step, besides the run itself. In this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A line for those who listen to the run, and an event where the state asks for one.
    Tell(Telling),
    /// A piece of output, for those who listen.
    Output(String),
    /// What the next attempt needs has to be kept, until the run ends.
    Checkpoint(String),
    /// Listeners see how far it is; others are told later.
    Advanced,
    /// A line for listeners: the run is held again, or queued again.
    Moved,
    /// The question has to be kept.
    Keep {
        /// Its id.
        input: InputId,
        /// The question.
        question: Question,
        /// Until when it can be answered.
        expires_at: DateTime<Utc>,
    },
    /// The question was answered.
    Answered {
        /// Its id.
        input: InputId,
        /// Canonical JSON.
        answer: String,
        /// Who.
        by: String,
    },
    /// Questions without an answer cannot be answered any more.
    Close,
    /// The run can be taken.
    Queued,
    /// More was used than before.
    Used(Usage),
}

/// What is told of a run, as an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Telling {
    /// `task.started`
    Started,
    /// `task.progress`
    Progress,
    /// `task.completed`
    Completed,
    /// `task.failed`
    Failed,
    /// `task.needs_input`
    NeedsInput {
        /// The id of the question.
        input: InputId,
        /// The question.
        question: Question,
        /// Until when it can be answered.
        expires_at: DateTime<Utc>,
    },
    /// `task.cancelled`
    Cancelled,
}

/// Who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// Whoever shows this lease.
    Holder(LeaseId),
    /// The tenant.
    Owner,
    /// The clock.
    Clock,
}
