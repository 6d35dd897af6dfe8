//! What one endpoint can take, found by trying: nobody has to guess a limit, and whoever was away is not run over.
//!
//! Tries per second go up slowly and come down at once (AIMD, as in RFC 5681): there is no limit until an endpoint fails as
//! one that is overloaded does; then the limit is what it took in the second before. Tries at once follow its latency
//! (Gradient2 of Netflix' concurrency-limits): fewer when answers take much longer than they used to.
//!
//! Failures that do not come from the pace, such as every fifth request whatever is done, must not slow an endpoint down:
//! what counts is the share that fails above the share that always does.
//!
//! Pure: time comes in as an argument.

use std::time::{Duration, Instant};

/// Failures in a row that say: too fast, of an endpoint that usually takes everything. Half of what opens the breaker by default.
const IN_A_ROW: f64 = 10.0;

/// Where failures are usual, as many in a row as come by chance once in e^16 (nine million) tries.
const CHANCE: f64 = 16.0;

/// After so long it is looked at how the endpoint got on.
const ROUND: Duration = Duration::from_secs(1);

/// As long as an endpoint comes back: shorter, as the pace doubles each time.
const SLOW_START_ROUND: Duration = Duration::from_millis(250);

/// The least limit, in tries per second.
const FLOOR: f64 = 10.0;

/// Of what the endpoint took, so much is the limit after it was too much.
const BACK_OFF: f64 = 0.95;

/// A limit rises by this share in every round without a sign of overload; by more when there was none for long.
const RISE: f64 = 0.01;

/// After so long without such a sign the rise is twice as steep, and so on.
const STEEPER: Duration = Duration::from_secs(15);

/// The share of failures above the usual one that says: too fast.
const TOO_MANY: f64 = 0.01;

/// A share of failures that slowing down must halve at least, or it is no use.
const WORTH_IT: f64 = 0.05;

/// A limit is remembered for so long after the last try.
const REMEMBERED: Duration = Duration::from_secs(600);

/// Answers faster than this are no sign of overload, however fast they were before, in seconds.
const FAST_S: f64 = 0.1;

/// Fewer tries at once than this are not asked for: the cap of an endpoint may be less.
const AT_ONCE_FLOOR: f64 = 8.0;

/// How an endpoint got on for a while.
#[derive(Clone, Copy, Debug)]
struct Round {
    began: Instant,
    taken: u32,
    failed: u32,
    /// Whether the limit held anything back.
    held_back: bool,
}

impl Round {
    const fn new(began: Instant) -> Self {
        Self { began, taken: 0, failed: 0, held_back: false }
    }

    fn share_failed(&self) -> f64 {
        f64::from(self.failed) / f64::from((self.taken + self.failed).max(1))
    }
}

/// What an endpoint took in the last second, by tenths.
#[derive(Clone, Copy, Debug)]
struct LastSecond {
    tenths: [u32; 10],
    latest: Instant,
    at: usize,
}

impl LastSecond {
    const TENTH: Duration = Duration::from_millis(100);

    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.latest).as_millis() / Self::TENTH.as_millis();
        for _ in 0..passed.min(10) {
            self.at = (self.at + 1) % self.tenths.len();
            self.tenths[self.at] = 0;
        }
        self.latest += Self::TENTH * u32::try_from(passed).unwrap_or(u32::MAX);
    }

    fn count(&mut self, now: Instant) {
        self.turn(now);
        self.tenths[self.at] += 1;
    }

    fn sum(&mut self, now: Instant) -> u32 {
        self.turn(now);
        self.tenths.iter().sum()
    }

    /// Whether something was taken all the time: else the sum says less than the endpoint can.
    fn was_busy(&self) -> bool {
        self.tenths.iter().all(|tenth| *tenth > 0)
    }
}

/// What one endpoint can take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capacity {
    cap: f64,
    at_once: f64,
    /// Seconds a try takes: of late, and for long.
    latency: Option<(f64, f64)>,
    /// Tries per second; none while nothing speaks for one.
    limit: Option<f64>,
    /// Below it, a limit doubles instead of rising slowly.
    slow_start_to: f64,
    tokens: f64,
    filled: Instant,
    cut: Instant,
    ended: Instant,
    in_a_row: u32,
    taken: LastSecond,
    round: Round,
    /// The share of tries that fails at any pace.
    usual: f64,
    /// The share that failed when it was slowed down, and how often since without an end to it.
    slowed_at: Option<(f64, u8)>,
}

impl Capacity {
    /// Of an endpoint of which nothing is known but how many tries at once are allowed.
    pub(super) fn new(cap: usize, now: Instant) -> Self {
        Self {
            cap: cap as f64,
            at_once: cap as f64,
            latency: None,
            limit: None,
            slow_start_to: f64::INFINITY,
            tokens: 0.0,
            filled: now,
            cut: now,
            ended: now,
            in_a_row: 0,
            taken: LastSecond { tenths: [0; 10], latest: now, at: 0 },
            round: Round::new(now),
            usual: 0.0,
            slowed_at: None,
        }
    }

    /// Tries that may be under way at once.
    pub(super) const fn at_once(&self) -> usize {
        self.at_once as usize
    }

    /// Tries per second at the most, when there is a limit.
    pub(super) const fn limit(&self) -> Option<f64> {
        self.limit
    }

    /// Whether something was found out that should not be forgotten yet.
    pub(super) fn is_worth_keeping(&self, now: Instant) -> bool {
        let learned = self.limit.is_some() || self.at_once < self.cap;
        learned && now.saturating_duration_since(self.ended) < REMEMBERED
    }

    /// When the next try may begin; `None`: now.
    pub(super) fn wait(&mut self, now: Instant) -> Option<Instant> {
        let limit = self.limit?;
        self.fill(limit, now);
        if self.tokens >= 1.0 {
            return None;
        }
        self.round.held_back = true;
        // A hair more than needed, so that whoever wakes then finds a whole token.
        Some(now + Duration::from_secs_f64((1.0 - self.tokens) / limit + 0.000_1))
    }

    /// A try begins.
    pub(super) fn begin(&mut self, now: Instant) {
        if let Some(limit) = self.limit {
            self.fill(limit, now);
            self.tokens -= 1.0;
        }
    }

    /// Seconds a try takes, of late.
    pub(super) fn latency(&self) -> Option<f64> {
        self.latency.map(|(short, _)| short)
    }

    /// A try has ended that took so long; what came of it is told next.
    pub(super) fn ended(&mut self, took: Duration, now: Instant) {
        self.ended = now;
        let took = took.as_secs_f64();
        let (short, long) = self.latency.unwrap_or((took, took));
        self.latency = Some((short + (took - short) / 8.0, long + (took - long) / 600.0));
    }

    /// The receiver took a try: it answered, whatever it answered.
    pub(super) fn taken(&mut self, now: Instant) {
        self.in_a_row = 0;
        self.taken.count(now);
        self.round.taken += 1;
        self.follow_latency();
        self.end_round(now);
    }

    /// A try failed as it does when a receiver cannot keep up.
    pub(super) fn failed(&mut self, took: Duration, now: Instant) {
        // Those that were under way when the pace was cut say nothing about the new one.
        if now.checked_sub(took).is_some_and(|began| began < self.cut) {
            return;
        }
        self.in_a_row += 1;
        self.round.failed += 1;
        self.follow_latency();
        if f64::from(self.in_a_row) >= self.too_many_in_a_row() {
            self.cut(now);
        } else {
            self.end_round(now);
        }
    }

    /// It was too much, or more than was allowed: the limit is what the endpoint took in the last second.
    pub(super) fn cut(&mut self, now: Instant) {
        let taken = f64::from(self.taken.sum(now));
        // Twice for the same reason is once: the breaker opens a moment after.
        if self.limit.is_some() && now.saturating_duration_since(self.cut) < ROUND {
            (self.round, self.in_a_row) = (Round::new(now), 0);
            return;
        }
        // Whoever took something only for a part of it, or nothing, may well take more; not so when the limit is the cause.
        let known = self.taken.was_busy() || self.uses_limit(now);
        self.cut_to(taken, known, now);
    }

    /// Whether the limit is what holds tries back, and neither that there are none nor that the endpoint was left alone.
    fn uses_limit(&self, now: Instant) -> bool {
        let Some(limit) = self.limit else { return false };
        let length = now.saturating_duration_since(self.round.began).as_secs_f64();
        self.round.held_back && 2.0 * f64::from(self.round.taken + self.round.failed) >= limit * length
    }

    fn cut_to(&mut self, taken: f64, known: bool, now: Instant) {
        let limit = match self.limit {
            None => taken,
            // It was not used, so what was taken says little.
            Some(limit) if !known => taken.clamp(limit / 2.0, limit),
            Some(limit) => taken.min(limit),
        };
        let limit = (limit * BACK_OFF).max(FLOOR);
        self.limit = Some(limit);
        if known {
            self.slow_start_to = self.slow_start_to.min(limit);
        }
        self.tokens = 0.0;
        self.filled = now;
        self.cut = now;
        self.in_a_row = 0;
        self.round = Round::new(now);
    }

    /// The endpoint is still not there: the longer it is away, the more slowly it is come back to.
    pub(super) fn still_away(&mut self, now: Instant) {
        let before = self.limit.unwrap_or(FLOOR);
        self.slow_start_to = self.slow_start_to.max(before);
        self.limit = Some((before / 2.0).max(FLOOR));
        self.cut = now;
        self.round = Round::new(now);
    }

    fn fill(&mut self, limit: f64, now: Instant) {
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        // Bursts of a fiftieth of a second: whoever waits for a timer must not lose what it sleeps too long.
        self.tokens = (self.tokens + since * limit).min((limit / 50.0).max(1.0));
        self.filled = now;
    }

    fn end_round(&mut self, now: Instant) {
        let Some(limit) = self.limit else {
            if now.saturating_duration_since(self.round.began) >= ROUND {
                self.note_usual();
                self.round = Round::new(now);
            }
            return;
        };
        let slow_start = limit < self.slow_start_to;
        let length = if slow_start { SLOW_START_ROUND } else { ROUND };
        if now.saturating_duration_since(self.round.began) < length {
            return;
        }
        let too_many = self.round.failed > 1 && self.round.share_failed() > self.usual * 1.25 + TOO_MANY;
        if too_many {
            return self.slow_down(now);
        }
        self.slowed_at = None;
        self.note_usual();
        if self.round.share_failed() > WORTH_IT && self.usual > WORTH_IT {
            // As many fail as always do: that is no sign of too much.
            (self.limit, self.round) = (None, Round::new(now));
            return;
        }
        if self.round.held_back {
            let quiet = now.saturating_duration_since(self.cut).as_secs_f64() / STEEPER.as_secs_f64();
            let faster =
                if slow_start { limit * 2.0 } else { limit + (limit * RISE * quiet.max(1.0)).max(1.0) };
            self.limit = Some(faster).filter(|limit| *limit < self.most());
        }
        self.round = Round::new(now);
    }

    /// Slows down to what was taken; if that did not help before, nothing is gained by it, and the limit falls.
    fn slow_down(&mut self, now: Instant) {
        let share = self.round.share_failed();
        let (first, times) = self.slowed_at.unwrap_or((share, 0));
        self.note_usual();
        if times >= 2 && share > WORTH_IT && share > first / 2.0 {
            (self.limit, self.slowed_at, self.usual) = (None, None, share);
            self.round = Round::new(now);
            return;
        }
        self.slowed_at = Some((first, times + 1));
        let length = now.saturating_duration_since(self.round.began).as_secs_f64();
        self.cut_to(f64::from(self.round.taken) / length, self.uses_limit(now), now);
    }

    fn too_many_in_a_row(&self) -> f64 {
        IN_A_ROW.max(CHANCE / -self.usual.clamp(0.001, 0.99).ln())
    }

    /// More tries per second than this are not made with so many at once: a limit above it is none.
    fn most(&self) -> f64 {
        self.latency().map_or(f64::INFINITY, |short| 2.0 * self.at_once / short.max(0.000_1))
    }

    /// Moves the usual share of failures towards what was seen in this round; quickly down, slowly up.
    fn note_usual(&mut self) {
        let (seen, tries) = (self.round.share_failed(), f64::from(self.round.taken + self.round.failed));
        let weight = if seen < self.usual { 1.0 } else { 1.0 / 3.0 } * tries / (tries + 20.0);
        self.usual += (seen - self.usual) * weight;
    }

    fn follow_latency(&mut self) {
        if self.latency.is_some_and(|(short, long)| short > FAST_S && short > 2.0 * long) {
            self.at_once = (self.at_once - 0.5).max(AT_ONCE_FLOOR.min(self.cap));
        } else {
            self.at_once = (self.at_once + 1.0 / self.at_once).min(self.cap);
        }
    }
}
