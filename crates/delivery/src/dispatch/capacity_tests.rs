//! Endpoints against receivers of several kinds, with a backlog that never ends and a clock that the test moves.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

use super::endpoint::{Bounds, Endpoint, Gate, Sign};

const BOUNDS: Bounds = Bounds {
    in_flight: 48,
    bytes: usize::MAX,
    breaker_failures: 20,
    cooldown: Duration::from_secs(1),
    max_cooldown: Duration::from_secs(30),
};
const MS: Duration = Duration::from_millis(1);

/// What became of the tries of some seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Got {
    taken: usize,
    failed: usize,
}

impl Got {
    fn share_failed(self) -> f64 {
        self.failed as f64 / (self.taken + self.failed).max(1) as f64
    }
}

/// A deliverer with one endpoint and a backlog.
struct Drain {
    endpoint: Endpoint,
    start: Instant,
    now: Instant,
    under_way: BinaryHeap<Reverse<(Instant, u64, Instant, bool)>>,
    most_at_once: usize,
    begun: u64,
}

impl Drain {
    fn new() -> Self {
        let start = Instant::now();
        let endpoint = Endpoint::new(&BOUNDS, start);
        Self { endpoint, start, now: start, under_way: BinaryHeap::new(), most_at_once: 0, begun: 0 }
    }

    /// Goes on for so long. A receiver is told the time since the beginning and the tries under way, and says how long it takes and
    /// whether it takes it.
    fn run(&mut self, seconds: f64, mut receiver: impl FnMut(f64, usize) -> (Duration, bool)) -> Got {
        let end = self.now + Duration::from_secs_f64(seconds);
        let mut got = Got::default();
        self.most_at_once = 0;
        while self.now < end {
            let wake = match self.endpoint.gate(self.now) {
                Gate::Open => {
                    self.endpoint.begin(self.now);
                    self.most_at_once = self.most_at_once.max(self.endpoint.in_flight());
                    let since = (self.now - self.start).as_secs_f64();
                    let (took, taken) = receiver(since, self.endpoint.in_flight());
                    self.begun += 1;
                    self.under_way.push(Reverse((self.now + took, self.begun, self.now, taken)));
                    continue;
                }
                Gate::Full => end,
                Gate::Later(at) | Gate::Paused(at) | Gate::Broken(at) => at,
            };
            let ended = self.under_way.peek().map_or(end, |Reverse((at, ..))| *at);
            self.now = self.now.max(wake.min(ended).min(end));
            while let Some(Reverse((at, _, began, taken))) = self.under_way.peek().copied()
                && at <= self.now
            {
                self.under_way.pop();
                let (sign, count) =
                    if taken { (Sign::Answered, &mut got.taken) } else { (Sign::Ill, &mut got.failed) };
                *count += 1;
                self.endpoint.end(&BOUNDS, sign, at - began, at);
            }
        }
        got
    }
}

/// Takes so many in each second of its clock, and fails what is more at once.
fn windows(capacity: u32) -> impl FnMut(f64, usize) -> (Duration, bool) {
    let (mut second, mut used) = (0, 0);
    move |since, _| {
        if since as u64 != second {
            (second, used) = (since as u64, 0);
        }
        used += 1;
        (2 * MS, used <= capacity)
    }
}

/// Takes so many per second, at an even pace, and forgives bursts of a tenth of it.
fn bucket(capacity: f64) -> impl FnMut(f64, usize) -> (Duration, bool) {
    let (mut tokens, mut filled) = (capacity / 10.0, 0.0);
    move |since, _| {
        tokens = (tokens + (since - filled) * capacity).min(capacity / 10.0);
        filled = since;
        let taken = tokens >= 1.0;
        if taken {
            tokens -= 1.0;
        }
        (2 * MS, taken)
    }
}

#[test]
fn nine_tenths_of_a_capacity_are_used_and_fewer_than_one_in_fifty_tries_fail() {
    for (name, got) in [
        ("200 in a second", Drain::new().run(60.0, windows(200))),
        ("200/s, evenly", Drain::new().run(60.0, bucket(200.0))),
        ("2,000/s, evenly", Drain::new().run(60.0, bucket(2_000.0))),
    ] {
        let capacity = if name.starts_with("2,") { 120_000.0 } else { 12_000.0 };
        assert!(got.taken as f64 >= 0.9 * capacity, "{name}: {got:?}");
        assert!(got.share_failed() < 0.02, "{name}: {got:?}");
    }
}

#[test]
fn an_endpoint_that_had_little_to_do_when_it_was_too_much_is_not_taken_for_slow() {
    let mut random = 1_u32;
    let mut chance = move |most: f64| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        most * f64::from(random >> 16) / 65_536.0
    };
    for round in 0..100 {
        let (mut drain, mut receiver) = (Drain::new(), windows(200));
        for _ in 0..5 {
            drain.run(chance(1.0), &mut receiver);
            // Nothing to send for a while.
            drain.now += Duration::from_secs_f64(chance(1.5));
        }
        drain.run(5.0, &mut receiver);
        let got = drain.run(30.0, &mut receiver);
        assert!(got.taken >= 5_400 && got.share_failed() < 0.02, "{round}: {got:?}");
    }
}

#[test]
fn an_endpoint_that_fails_at_any_pace_is_not_slowed_down() {
    for one_in in [5, 3] {
        let mut n = 0_u32;
        let mut moody = move |_, _| {
            // A sequence without long runs of failures, as chance makes them.
            n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (10 * MS, !(n >> 16).is_multiple_of(one_in))
        };
        let mut drain = Drain::new();
        for _ in 0..10 {
            drain.run(1.0, &mut moody);
        }
        let got = drain.run(10.0, &mut moody);
        let tries = got.taken + got.failed;
        // 48 at once, 10 ms each: 4,800/s.
        assert!(tries as f64 > 0.9 * 48_000.0, "1 in {one_in}: {got:?}");
    }
}

#[test]
fn whoever_was_away_is_come_back_to_slowly_and_reaches_the_old_pace() {
    let mut drain = Drain::new();
    let healthy = |_, _| (10 * MS, true);
    assert!(drain.run(5.0, healthy).taken > 20_000);
    let away = drain.run(300.0, |_, _| (MS, false));
    assert!(away.failed < 100, "{away:?}");
    // The next probe comes 30 s after the last at the latest.
    let mut waited = 0;
    while drain.run(0.25, healthy).taken == 0 {
        waited += 1;
        assert!(waited < 4 * 31);
    }
    let second = drain.run(1.0, healthy);
    assert!(second.taken < 1_000, "no stampede: {second:?}");
    drain.run(10.0, healthy);
    let later = drain.run(1.0, healthy);
    assert!(later.taken > 4_000, "{later:?}");
}

#[test]
fn an_endpoint_that_hung_is_not_slow_for_ever() {
    let mut drain = Drain::new();
    drain.run(2.0, |_, _| (10 * MS, true));
    drain.run(120.0, |_, _| (Duration::from_secs(15), false));
    drain.run(60.0, |_, _| (10 * MS, true));
    let later = drain.run(1.0, |_, _| (10 * MS, true));
    assert!(later.taken > 4_000, "{later:?}");
}

#[test]
fn fewer_at_once_where_more_only_wait() {
    let mut drain = Drain::new();
    drain.run(5.0, |_, _| (20 * MS, true));
    // As if a fifth try at once had to wait for the fourth: 4 at once, 40 ms each, is what it can.
    let queues = |_, at_once: usize| (40 * MS * u32::try_from(at_once).unwrap() / 4, true);
    drain.run(4.0, queues);
    drain.run(1.0, queues);
    assert!(drain.most_at_once < 24, "{}", drain.most_at_once);
    // Slow by nature is not slow by load.
    drain.run(60.0, |_, _| (400 * MS, true));
    drain.run(1.0, |_, _| (400 * MS, true));
    assert_eq!(drain.most_at_once, 48);
}

#[test]
fn what_was_found_out_is_forgotten_after_ten_minutes() {
    let mut drain = Drain::new();
    drain.run(5.0, windows(50));
    drain.run(1.0, |_, _| (MS, true));
    let idle = drain.now + Duration::from_secs(599);
    while let Some(Reverse((at, _, began, _))) = drain.under_way.pop() {
        drain.endpoint.end(&BOUNDS, Sign::Answered, at - began, at);
    }
    assert!(!drain.endpoint.is_unremarkable(idle));
    assert!(drain.endpoint.is_unremarkable(idle + Duration::from_secs(2)));
}
