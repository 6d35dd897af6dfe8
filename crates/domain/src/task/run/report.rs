//! What whoever holds a run reports, and what that makes of the run.

use chrono::TimeDelta;

use super::{Asked, Left, Run, Scene, clean, cut, field};
use crate::task::{
    RunState, Usage, answer,
    step::{
        Effect, MAX_CHECKPOINT_BYTES, MAX_CHOICE_CHARS, MAX_CHOICES, MAX_CHUNK_BYTES, MAX_OUTPUT_BYTES,
        MAX_PROGRESS_CHARS, MAX_QUESTION_CHARS, MAX_RESULT_BYTES, Question, Refused, Step, Telling,
    },
};

impl Run {
    pub(super) fn report(&mut self, step: Step, scene: &mut Scene<'_>) -> Result<Vec<Effect>, Refused> {
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
                self.asked = Some(Asked {
                    input,
                    choices: question.choices.clone(),
                    schema: question.schema.clone(),
                    expires_at,
                    answer: None,
                });
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
                if let Some(schema) = schema {
                    answer::check_schema(schema, choices.as_deref())
                        .map_err(|reason| field("schema", reason))?;
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

/// The first lines of a text, at most 280 characters.
fn summarised(text: &str) -> String {
    let text = text.trim();
    let short = cut(text, 280);
    let short = clean(short.to_owned());
    if short.len() < text.len() { format!("{}…", short.trim_end()) } else { short }
}
