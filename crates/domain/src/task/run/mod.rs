//! What a step makes of a run: pure rules. No clock, no generator, no database.
//!
//! A run that has ended never changes again. Whoever holds a run shows its lease with every report; one that is not the
//! run's is stale, one whose time is over has expired.

mod report;
mod timers;

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    RunState, Settings, Usage, answer,
    step::{Effect, MAX_ERROR_CHARS, Refused, Step, Telling, Voice},
};
use crate::id::{InputId, LeaseId};

/// Who may hold a run how long, and what it may use. Does not change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The longest time over all attempts.
    pub max_seconds: Option<u32>,
    /// Tokens, read and written.
    pub max_tokens: Option<u64>,
    /// Micro-dollars.
    pub max_cost_micros: Option<u64>,
    /// When the result is of no use any more.
    pub deadline_at: Option<DateTime<Utc>>,
}

/// What a tenant may still use this month; `None` = no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Tokens.
    pub tokens: Option<i64>,
    /// Micro-dollars.
    pub cost_micros: Option<i64>,
}

impl Left {
    fn spend(&mut self, usage: Usage) {
        let [input, output, cost] = usage.columns();
        self.tokens = self.tokens.map(|left| left.saturating_sub(input).saturating_sub(output));
        self.cost_micros = self.cost_micros.map(|left| left.saturating_sub(cost));
    }

    fn overspent(self) -> bool {
        self.tokens.is_some_and(|left| left < 0) || self.cost_micros.is_some_and(|left| left < 0)
    }
}

/// A question of a run that was asked last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Which.
    pub input: InputId,
    /// The answers it may have.
    pub choices: Option<Vec<String>>,
    /// Canonical JSON of the schema that the answer has to follow.
    pub schema: Option<String>,
    /// Until when it can be answered.
    pub expires_at: DateTime<Utc>,
    /// The answer, if there is one already.
    pub answer: Option<String>,
}

/// A run, as far as it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is a column of task_runs, which the migration explains")]
pub struct Run {
    pub state: RunState,
    pub bounds: Bounds,
    pub queued_at: DateTime<Utc>,
    pub held_until: Option<DateTime<Utc>>,
    pub attempt: u16,
    pub lease: Option<LeaseId>,
    pub lease_until: Option<DateTime<Utc>>,
    pub attempt_started_at: Option<DateTime<Utc>>,
    pub attempt_deadline: Option<DateTime<Utc>>,
    pub ran_ms: u64,
    pub ended_at: Option<DateTime<Utc>>,
    pub told_started: bool,
    pub percent: Option<u8>,
    pub progress_message: Option<String>,
    pub progress_told_at: Option<DateTime<Utc>>,
    pub progress_waits: bool,
    pub checkpoint_seq: Option<u64>,
    pub result: Option<String>,
    pub summary: Option<String>,
    pub error: Option<String>,
    pub error_code: Option<String>,
    pub usage: Usage,
    pub attempt_usage: Usage,
    pub output_bytes: u64,
    /// The question that was asked last, if one was.
    pub asked: Option<Asked>,
}

/// What a step is decided by, besides the run.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The settings.
    pub settings: &'a Settings,
    /// The time.
    pub now: DateTime<Utc>,
    /// What the tenant may still use this month. Is drawn upon.
    pub left: &'a mut Left,
}

/// Text as the database can hold it.
pub(crate) fn clean(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

/// At most so many characters of a text.
pub(crate) fn cut(text: &str, chars: usize) -> &str {
    text.char_indices().nth(chars).map_or(text, |(at, _)| &text[..at])
}

fn field(field: &'static str, reason: impl Into<String>) -> Refused {
    Refused::Field { field, reason: reason.into() }
}

impl Run {
    /// What the step makes of the run. Either all of it happens, or the run is as it was.
    ///
    /// # Errors
    /// The step is not taken.
    pub fn step(&mut self, voice: Voice, step: Step, scene: &mut Scene<'_>) -> Result<Vec<Effect>, Refused> {
        match (voice, step) {
            (Voice::Holder(lease), step) => {
                self.held_under(lease, scene.now)?;
                self.report(step, scene)
            }
            (Voice::Owner, Step::Cancel { reason }) => self.cancel(reason, scene.now),
            (Voice::Owner, Step::Answer { input, answer, by }) => self.answer(input, answer, by, scene.now),
            (Voice::Clock, Step::Tick) => Ok(self.tick(scene)),
            (Voice::Owner | Voice::Clock, _) => Err(Refused::Stale),
        }
    }

    fn held_under(&self, lease: LeaseId, now: DateTime<Utc>) -> Result<(), Refused> {
        if self.state.is_terminal() {
            return Err(Refused::Ended(self.state));
        }
        if self.state != RunState::Running || self.lease != Some(lease) {
            return Err(Refused::Stale);
        }
        let over = |until: Option<DateTime<Utc>>| until.is_some_and(|until| until <= now);
        if over(self.lease_until) || over(self.attempt_deadline) {
            return Err(Refused::Expired);
        }
        Ok(())
    }

    fn cancel(&mut self, reason: Option<String>, now: DateTime<Utc>) -> Result<Vec<Effect>, Refused> {
        match self.state {
            RunState::Cancelled => Ok(Vec::new()),
            RunState::Completed | RunState::Failed => {
                Err(Refused::Conflict(format!("the task is {} and cannot be cancelled", self.state)))
            }
            RunState::Queued | RunState::Running | RunState::NeedsInput => {
                self.error = reason.map(|reason| cut(&clean(reason), MAX_ERROR_CHARS).to_owned());
                self.end(RunState::Cancelled, now);
                Ok(vec![Effect::Close, Effect::Tell(Telling::Cancelled)])
            }
        }
    }

    fn answer(
        &mut self,
        input: InputId,
        answer: String,
        by: String,
        now: DateTime<Utc>,
    ) -> Result<Vec<Effect>, Refused> {
        let Some(asked) = self.asked.as_mut().filter(|asked| asked.input == input) else {
            return Err(Refused::Unknown);
        };
        if let Some(before) = &asked.answer {
            let same = *before == clean(answer);
            let other = "this question was answered already, and otherwise";
            return if same { Ok(Vec::new()) } else { Err(Refused::Conflict(other.to_owned())) };
        }
        if self.state != RunState::NeedsInput {
            return Err(Refused::Ended(self.state));
        }
        if asked.expires_at <= now {
            return Err(Refused::Expired);
        }
        answer::check(&answer, asked.choices.as_deref(), asked.schema.as_deref()).map_err(Refused::Answer)?;
        let answer = clean(answer);
        asked.answer = Some(answer.clone());
        self.attempt = 0;
        let mut effects = vec![Effect::Answered { input, answer, by: clean(by) }];
        self.requeue(now, &mut effects, None);
        Ok(effects)
    }

    /// Milliseconds that it was held, over all attempts.
    #[must_use]
    pub fn ran_ms(&self, now: DateTime<Utc>) -> u64 {
        let running = self.attempt_started_at.map_or(0, |since| (now - since).num_milliseconds());
        self.ran_ms.saturating_add(u64::try_from(running).unwrap_or(0))
    }

    fn become_state(&mut self, next: RunState) {
        debug_assert!(self.state.may_become(next), "{} to {next}", self.state);
        self.state = next;
    }

    /// Nobody holds it any more.
    fn let_go(&mut self, now: DateTime<Utc>) {
        self.ran_ms = self.ran_ms(now);
        self.attempt_started_at = None;
        self.attempt_deadline = None;
        self.lease = None;
        self.lease_until = None;
    }

    fn requeue(&mut self, now: DateTime<Utc>, effects: &mut Vec<Effect>, wait: Option<TimeDelta>) {
        self.let_go(now);
        self.become_state(RunState::Queued);
        self.queued_at = now;
        self.progress_waits = false;
        self.held_until = wait.filter(|wait| *wait > TimeDelta::zero()).map(|wait| now + wait);
        effects.push(Effect::Moved);
        if self.held_until.is_none() {
            effects.push(Effect::Queued);
        }
    }

    fn end(&mut self, state: RunState, now: DateTime<Utc>) {
        self.let_go(now);
        self.become_state(state);
        self.held_until = None;
        self.progress_waits = false;
        self.ended_at = Some(now);
        self.checkpoint_seq = None;
    }

    fn fail(&mut self, code: &str, message: &str, now: DateTime<Utc>, effects: &mut Vec<Effect>) {
        self.error_code = Some(code_of(code));
        self.error = Some(cut(&clean(message.to_owned()), MAX_ERROR_CHARS).to_owned());
        self.end(RunState::Failed, now);
        effects.push(Effect::Close);
        effects.push(Effect::Tell(Telling::Failed));
    }

    fn tell_progress(&mut self, now: DateTime<Utc>, effects: &mut Vec<Effect>) {
        self.progress_told_at = Some(now);
        self.progress_waits = false;
        effects.push(Effect::Tell(Telling::Progress));
    }
}

/// A code of an error as it leaves: small letters, digits and `_`.
fn code_of(text: &str) -> String {
    let plain = !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if plain { text.to_owned() } else { "failed".to_owned() }
}

#[cfg(test)]
mod tests;
