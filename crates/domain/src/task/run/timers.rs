//! The timers of a run: of all that can become due, the first one, and what it does.

use chrono::{DateTime, Utc};

use super::{Run, Scene};
use crate::task::{RunState, Settings, step::Effect};

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

impl Run {
    pub(super) fn tick(&mut self, scene: &mut Scene<'_>) -> Vec<Effect> {
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
}
