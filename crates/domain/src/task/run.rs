//! What a step makes of a run: pure rules. No clock, no generator, no database.
//!
//! A run that has ended never changes again. Whoever holds a run shows its lease with every report; one that is not the
//! run's is stale, one whose time is over has expired.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    RunState, Settings, Usage,
    step::{
        Effect, MAX_ANSWER_BYTES, MAX_CHECKPOINT_BYTES, MAX_CHOICE_CHARS, MAX_CHOICES, MAX_CHUNK_BYTES,
        MAX_ERROR_CHARS, MAX_OUTPUT_BYTES, MAX_PROGRESS_CHARS, MAX_QUESTION_CHARS, MAX_RESULT_BYTES,
        MAX_SCHEMA_BYTES, Question, Refused, Step, Telling, Voice,
    },
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

/// A timer of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    /// The result is of no use any more.
    Deadline,
    /// It waited in the queue for too long.
    Queue,
    /// The pause before the next attempt is over.
    Pause,
    /// The attempt took too long.
    Attempt,
    /// Whoever holds it fell silent.
    Lease,
    /// Nobody answered.
    Input,
    /// Progress that was held back can be told.
    Progress,
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

    fn report(&mut self, step: Step, scene: &mut Scene<'_>) -> Result<Vec<Effect>, Refused> {
        let now = scene.now;
        self.check(&step)?;
        let mut effects = Vec::new();
        if !self.told_started && !matches!(step, Step::Release) {
            self.told_started = true;
            effects.push(Effect::Tell(Telling::Started));
        } else if matches!(step, Step::Started) {
            effects.push(Effect::Moved);
        }
        match step {
            Step::Started => {}
            Step::Progress { percent, message } => {
                self.percent = percent.or(self.percent);
                self.progress_message = message.map(clean).or(self.progress_message.take());
                let interval = scene.settings.progress_interval();
                if self.progress_told_at.is_none_or(|told| now - told >= interval) {
                    self.tell_progress(now, &mut effects);
                } else {
                    self.progress_waits = true;
                    effects.push(Effect::Advanced);
                }
            }
            Step::Output { text } => {
                self.output_bytes += text.len() as u64;
                effects.push(Effect::Output(clean(text)));
            }
            Step::Checkpoint { seq, data } => {
                self.checkpoint_seq = Some(seq);
                effects.push(Effect::Checkpoint(clean(data)));
            }
            Step::Spent { usage } => {
                let used = self.spend(usage, scene, &mut effects);
                if let Some(reason) = self.overspent(*scene.left).filter(|_| used) {
                    self.fail("budget_exceeded", &reason, now, &mut effects);
                }
            }
            Step::Ask { input, question, usage } => {
                self.spend(usage, scene, &mut effects);
                let expires_at = now + scene.settings.input_deadline();
                let question = Question {
                    question: clean(question.question),
                    choices: question.choices.map(|choices| choices.into_iter().map(clean).collect()),
                    schema: question.schema.map(clean),
                };
                self.let_go(now);
                self.become_state(RunState::NeedsInput);
                self.progress_waits = false;
                self.asked =
                    Some(Asked { input, choices: question.choices.clone(), expires_at, answer: None });
                effects.push(Effect::Keep { input, question: question.clone(), expires_at });
                effects.push(Effect::Tell(Telling::NeedsInput { input, question, expires_at }));
            }
            Step::Complete { result, summary, usage } => {
                self.spend(usage, scene, &mut effects);
                let result = clean(result);
                self.summary = Some(summarised(summary.as_deref().unwrap_or(&result)));
                self.result = Some(result);
                self.percent = self.percent.map(|_| 100);
                self.end(RunState::Completed, now);
                effects.push(Effect::Tell(Telling::Completed));
            }
            Step::Fail { failure, usage } => {
                self.spend(usage, scene, &mut effects);
                if failure.retryable && self.attempt < scene.settings.attempts {
                    let wait = failure.retry_after.unwrap_or(scene.settings.retry_wait(self.attempt));
                    self.requeue(now, &mut effects, Some(wait.max(TimeDelta::zero())));
                } else {
                    self.fail(&failure.code, &failure.message, now, &mut effects);
                }
            }
            Step::Release => {
                self.attempt = self.attempt.saturating_sub(1);
                self.requeue(now, &mut effects, None);
            }
            Step::Cancel { .. } | Step::Answer { .. } | Step::Tick => return Err(Refused::Stale),
        }
        Ok(effects)
    }

    /// What is wrong with a report, looked at before anything is changed.
    fn check(&self, step: &Step) -> Result<(), Refused> {
        let longer = |text: &str, chars: usize| text.chars().nth(chars).is_some();
        match step {
            Step::Progress { percent, message } => {
                if let Some(percent) = *percent {
                    if percent > 100 {
                        return Err(field("percent", "must lie between 0 and 100"));
                    }
                    if self.percent.is_some_and(|before| percent < before) {
                        return Err(field("percent", "must not fall"));
                    }
                }
                if message.as_ref().is_some_and(|text| longer(text, MAX_PROGRESS_CHARS)) {
                    return Err(field(
                        "message",
                        format!("must have at most {MAX_PROGRESS_CHARS} characters"),
                    ));
                }
            }
            Step::Output { text } => {
                if text.len() > MAX_CHUNK_BYTES {
                    return Err(field("text", format!("must have at most {MAX_CHUNK_BYTES} bytes")));
                }
                if self.output_bytes + text.len() as u64 > MAX_OUTPUT_BYTES {
                    return Err(field(
                        "text",
                        format!("makes the output larger than {MAX_OUTPUT_BYTES} bytes"),
                    ));
                }
            }
            Step::Checkpoint { seq, data } => {
                if i64::try_from(*seq).is_err() {
                    return Err(field("seq", "is too large"));
                }
                if self.checkpoint_seq.is_some_and(|before| *seq <= before) {
                    return Err(field("seq", "must rise from checkpoint to checkpoint"));
                }
                if data.len() > MAX_CHECKPOINT_BYTES {
                    return Err(field("data", format!("must have at most {MAX_CHECKPOINT_BYTES} bytes")));
                }
            }
            Step::Ask { question, .. } => {
                let Question { question, choices, schema } = question;
                if question.trim().is_empty() || longer(question, MAX_QUESTION_CHARS) {
                    return Err(field("question", format!("must have 1 to {MAX_QUESTION_CHARS} characters")));
                }
                if let Some(choices) = choices {
                    let good = |choice: &String| !choice.is_empty() && !longer(choice, MAX_CHOICE_CHARS);
                    if choices.is_empty() || choices.len() > MAX_CHOICES || !choices.iter().all(good) {
                        return Err(field(
                            "choices",
                            format!("must be 1 to {MAX_CHOICES} texts of 1 to {MAX_CHOICE_CHARS} characters"),
                        ));
                    }
                }
                if schema.as_ref().is_some_and(|schema| schema.len() > MAX_SCHEMA_BYTES) {
                    return Err(field("schema", format!("must have at most {MAX_SCHEMA_BYTES} bytes")));
                }
            }
            Step::Complete { result, .. } => {
                if result.len() > MAX_RESULT_BYTES {
                    return Err(field("result", format!("must have at most {MAX_RESULT_BYTES} bytes")));
                }
            }
            Step::Started
            | Step::Spent { .. }
            | Step::Fail { .. }
            | Step::Release
            | Step::Cancel { .. }
            | Step::Answer { .. }
            | Step::Tick => {}
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
        if answer.len() > MAX_ANSWER_BYTES {
            return Err(field("answer", format!("must have at most {MAX_ANSWER_BYTES} bytes")));
        }
        if let Some(choices) = &asked.choices
            && !choices.iter().any(|choice| serde_json::to_string(choice).is_ok_and(|text| text == answer))
        {
            let told = cut(&choices.join(", "), 150).to_owned();
            return Err(field("answer", format!("must be one of {told}")));
        }
        let answer = clean(answer);
        asked.answer = Some(answer.clone());
        self.attempt = 0;
        let mut effects = vec![Effect::Answered { input, answer, by: clean(by) }];
        self.requeue(now, &mut effects, None);
        Ok(effects)
    }

    fn tick(&mut self, scene: &mut Scene<'_>) -> Vec<Effect> {
        let (now, settings) = (scene.now, scene.settings);
        let mut effects = Vec::new();
        // Each timer that goes off ends the state it belongs to, or itself.
        while let Some((at, timer)) = self.timer(settings)
            && at <= now
        {
            match timer {
                Timer::Deadline => {
                    self.fail("deadline_exceeded", "the deadline of the task has passed", now, &mut effects);
                }
                Timer::Queue => {
                    let message = format!("nobody took the task within {} s", settings.queue_deadline_s);
                    self.fail("queue_timeout", &message, now, &mut effects);
                }
                Timer::Pause => {
                    self.held_until = None;
                    effects.push(Effect::Queued);
                }
                Timer::Attempt => {
                    let ran = self.ran_ms(now);
                    if self.bounds.max_seconds.is_some_and(|most| ran >= u64::from(most) * 1000) {
                        let message = "the task ran longer than its max_seconds";
                        self.fail("budget_exceeded", message, now, &mut effects);
                    } else {
                        self.fail("timed_out", "the attempt took too long", now, &mut effects);
                    }
                }
                Timer::Lease => {
                    if self.attempt < settings.attempts {
                        self.requeue(now, &mut effects, None);
                    } else {
                        let message = "whoever ran the task fell silent, and no attempts are left";
                        self.fail("lease_lost", message, now, &mut effects);
                    }
                }
                Timer::Input => {
                    self.fail("input_timeout", "nobody answered the question in time", now, &mut effects);
                }
                Timer::Progress => self.tell_progress(now, &mut effects),
            }
        }
        effects
    }

    /// The timer that goes off first, and when. Of two at the same time, the one that says more.
    fn timer(&self, settings: &Settings) -> Option<(DateTime<Utc>, Timer)> {
        let mut timers = Vec::with_capacity(4);
        let mut add = |at: Option<DateTime<Utc>>, timer| timers.extend(at.map(|at| (at, timer)));
        match self.state {
            RunState::Queued => {
                add(self.bounds.deadline_at, Timer::Deadline);
                add(Some(self.queued_at + settings.queue_deadline()), Timer::Queue);
                add(self.held_until, Timer::Pause);
            }
            RunState::Running => {
                add(self.bounds.deadline_at, Timer::Deadline);
                add(self.attempt_deadline, Timer::Attempt);
                add(self.lease_until, Timer::Lease);
                if self.progress_waits {
                    let told = self.progress_told_at.unwrap_or(self.queued_at);
                    add(Some(told + settings.progress_interval()), Timer::Progress);
                }
            }
            RunState::NeedsInput => {
                add(self.bounds.deadline_at, Timer::Deadline);
                add(self.asked.as_ref().map(|asked| asked.expires_at), Timer::Input);
            }
            RunState::Completed | RunState::Failed | RunState::Cancelled => {}
        }
        // `min_by_key` takes the first of equals.
        timers.into_iter().min_by_key(|(at, _)| *at)
    }

    /// When the next timer is due, whichever it is.
    #[must_use]
    pub fn due_at(&self, settings: &Settings) -> Option<DateTime<Utc>> {
        self.timer(settings).map(|(at, _)| at)
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

    /// Whether more was used than before.
    fn spend(&mut self, usage: Usage, scene: &mut Scene<'_>, effects: &mut Vec<Effect>) -> bool {
        let more = usage.since(self.attempt_usage);
        if more == Usage::default() {
            return false;
        }
        self.attempt_usage = self.attempt_usage.plus(more);
        self.usage = self.usage.plus(more);
        scene.left.spend(more);
        effects.push(Effect::Used(more));
        true
    }

    fn overspent(&self, left: Left) -> Option<String> {
        if self.bounds.max_tokens.is_some_and(|most| self.usage.tokens() > most) {
            return Some("the task used more tokens than its max_tokens".to_owned());
        }
        if self.bounds.max_cost_micros.is_some_and(|most| self.usage.cost_micros > most) {
            return Some("the task cost more than its max_cost".to_owned());
        }
        left.overspent().then(|| "the monthly budget of the tenant is used up".to_owned())
    }
}

/// A code of an error as it leaves: small letters, digits and `_`.
fn code_of(text: &str) -> String {
    let plain = !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if plain { text.to_owned() } else { "failed".to_owned() }
}

/// The first lines of a text, at most 280 characters.
fn summarised(text: &str) -> String {
    let text = text.trim();
    let short = cut(text, 280);
    let short = clean(short.to_owned());
    if short.len() < text.len() { format!("{}…", short.trim_end()) } else { short }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
