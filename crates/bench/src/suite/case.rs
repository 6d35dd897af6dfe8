//! The cases of the benchmark, as data. What is made of their figures is in `verdict`.

/// A question the benchmark answers. The letters are those of the issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Case {
    /// The machine itself: load straight to sink, and rows into Postgres
    #[value(alias = "a")]
    Calibrate,
    /// One endpoint, as fast as it goes
    #[value(alias = "b")]
    One,
    /// Five endpoints, as fast as it goes
    #[value(alias = "c")]
    Five,
    /// 500 events per second to one endpoint
    #[value(alias = "d")]
    Paced,
    /// The same on this machine's clock: as much slower than 500 per second as the machine is than the reference machine
    Step,
    /// 400 events per second to four endpoints, alone and with a fifth that takes 2 s per reply
    #[value(alias = "e")]
    Isolation,
    /// One endpoint that fails 20 % of all tries
    #[value(alias = "f")]
    Failing,
    /// One endpoint, with a key that has no limit and with one that has, while a tenth of the requests is repeatable
    #[value(alias = "g")]
    Limited,
    /// Tasks that are done offline, from POST to task_completed: as fast as they are accepted, and 100 per second
    #[value(alias = "h")]
    Tasks,
    /// 1,000 listeners to tasks and 200 workers that wait for one, on one gateway: what memory they take
    #[value(alias = "i")]
    Listeners,
    /// Action runs of event.emit, from POST to the signed callback: as fast as they are accepted, and 200 per second
    #[value(alias = "j")]
    Runs,
    /// One endpoint that takes 200 requests in a second and fails the others
    #[value(alias = "k")]
    Capacity,
    /// 300 events per second with 3 matches each: alone, beside 100,000 subscriptions, and beside an event for 10,000 of them
    #[value(alias = "l")]
    Scale,
    /// An inbox that 16 readers drain: messages leased and acknowledged per second
    Inbox,
    /// One endpoint and every list, on a database with next to nothing and with a million events
    #[value(alias = "m")]
    Million,
}

/// Labels of the load runs, by which results are found again.
pub(crate) mod label {
    pub(crate) const CALIBRATE: &str = "load → sink";
    pub(crate) const ROWS: &str = "rows → Postgres";
    pub(crate) const ONE: &str = "1 endpoint";
    pub(crate) const FIVE: &str = "5 endpoints";
    pub(crate) const PACED: &str = "1 endpoint at 500/s";
    pub(crate) const STEP: &str = "1 endpoint in step";
    pub(crate) const ALONE: &str = "4 endpoints at 400/s";
    pub(crate) const WITH_SLOW: &str = "the same plus one that takes 2 s";
    pub(crate) const FAILING: &str = "20 % of replies are 500";
    pub(crate) const UNLIMITED: &str = "1 endpoint, no limit";
    pub(crate) const LIMITED: &str = "1 endpoint, a limit, every 10th request with Idempotency-Key";
    pub(crate) const TASKS: &str = "tasks";
    pub(crate) const TASKS_PACED: &str = "tasks at 100/s";
    pub(crate) const LISTENERS: &str = "1,000 listeners, 200 workers";
    pub(crate) const CAPACITY: &str = "an endpoint that takes 200/s";
    pub(crate) const SCALE_FEW: &str = "3 subscriptions";
    pub(crate) const SCALE_MANY: &str = "3 of 100,000 subscriptions";
    pub(crate) const SCALE_BESIDE: &str = "the same beside an event for 10,000";
    pub(crate) const INBOX: &str = "an inbox, 16 readers";
    pub(crate) const FEW_STORED: &str = "next to nothing stored";
    pub(crate) const MILLION_STORED: &str = "a million events stored";
    pub(crate) const RUNS: &str = "action runs";
    pub(crate) const RUNS_PACED: &str = "action runs at 200/s";
}

/// Events per second of the cases that tell latencies end to end.
const PACED_PER_S: u32 = 500;

/// One load run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape {
    /// Name in the results.
    pub(crate) label: &'static str,
    /// Events to send.
    pub(crate) events: u64,
    /// Connections to the ingest API.
    pub(crate) conns: usize,
    /// Events per second; None: as fast as they are accepted.
    pub(crate) rate: Option<u32>,
    /// Endpoints that behave.
    pub(crate) plain: usize,
    /// Behaviour of one more endpoint.
    pub(crate) special: Option<&'static str>,
    /// What is posted.
    pub(crate) posts: Posts,
}

/// What is posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Posts {
    /// Events.
    Events,
    /// Events whose requests are counted, and some of which can be repeated: what limits and idempotency cost.
    Limited,
    /// Tasks.
    Tasks,
    /// Action runs.
    Runs,
}

impl Posts {
    /// The built-in target.
    pub(crate) fn target(self) -> &'static str {
        match self {
            Self::Events => "hookyard",
            Self::Limited => "hookyard-limited",
            Self::Tasks => "hookyard-tasks",
            Self::Runs => "hookyard-runs",
        }
    }
}

impl Case {
    /// All cases, in the order they run.
    pub(crate) const ALL: [Self; 15] = [
        Self::Calibrate,
        Self::One,
        Self::Five,
        Self::Paced,
        Self::Step,
        Self::Isolation,
        Self::Failing,
        Self::Limited,
        Self::Tasks,
        Self::Listeners,
        Self::Runs,
        Self::Capacity,
        Self::Scale,
        Self::Inbox,
        Self::Million,
    ];

    /// The load runs of the case, one after the other on the same system; `quick` sends about a tenth of the events.
    pub(crate) fn shapes(self, quick: bool) -> Vec<Shape> {
        let fast = |label, full: u64, plain, special| {
            let events = if quick { full / 10 } else { full };
            Shape { label, events, conns: 64, rate: None, plain, special, posts: Posts::Events }
        };
        let paced = |label, rate: u32, plain, special| {
            let seconds = if quick { 3 } else { 20 };
            let events = u64::from(rate) * seconds;
            Shape { label, events, conns: 16, rate: Some(rate), plain, special, posts: Posts::Events }
        };
        match self {
            Self::Calibrate => vec![Self::calibrate_shape(quick)],
            Self::One => vec![fast(label::ONE, 50_000, 1, None)],
            Self::Five => vec![fast(label::FIVE, 30_000, 5, None)],
            Self::Paced => vec![paced(label::PACED, PACED_PER_S, 1, None)],
            // For the reference machine: see `Shape::in_step`.
            Self::Step => vec![paced(label::STEP, PACED_PER_S, 1, None)],
            Self::Isolation => {
                let slow = Some("delay_ms=2000");
                vec![paced(label::ALONE, 400, 4, None), paced(label::WITH_SLOW, 400, 4, slow)]
            }
            Self::Failing => vec![fast(label::FAILING, 30_000, 0, Some("fail=0.2"))],
            Self::Limited => vec![
                fast(label::UNLIMITED, 50_000, 1, None),
                Shape { posts: Posts::Limited, ..fast(label::LIMITED, 50_000, 1, None) },
            ],
            Self::Tasks => vec![
                Shape { posts: Posts::Tasks, ..fast(label::TASKS, 20_000, 1, None) },
                Shape { posts: Posts::Tasks, ..paced(label::TASKS_PACED, 100, 1, None) },
            ],
            Self::Runs => vec![
                Shape { posts: Posts::Runs, ..fast(label::RUNS, 20_000, 1, None) },
                Shape { posts: Posts::Runs, ..paced(label::RUNS_PACED, 200, 1, None) },
            ],
            Self::Capacity => vec![fast(label::CAPACITY, 8_000, 0, Some("capacity=200&status=503"))],
            // With what comes between them: see `scale`.
            Self::Scale => vec![
                paced(label::SCALE_FEW, 300, 3, None),
                paced(label::SCALE_MANY, 300, 3, None),
                paced(label::SCALE_BESIDE, 300, 3, None),
            ],
            Self::Million => {
                vec![fast(label::FEW_STORED, 25_000, 1, None), fast(label::MILLION_STORED, 25_000, 1, None)]
            }
            // No load: see `listeners` and `inbox`.
            Self::Listeners | Self::Inbox => Vec::new(),
        }
    }

    /// What reached the reference machine's 185,000/s (`reference::SINK_PER_S`): 16 connections, 1 KB.
    pub(crate) fn calibrate_shape(quick: bool) -> Shape {
        let events = if quick { 100_000 } else { 400_000 };
        let label = label::CALIBRATE;
        Shape { label, events, conns: 16, rate: None, plain: 1, special: None, posts: Posts::Events }
    }
}

impl Shape {
    /// The same for a machine that is `speed` times as fast as the one it was made for: as long, with as many events fewer.
    pub(crate) fn in_step(self, speed: f64) -> Self {
        let slowed = |number: f64| (number * speed).round().max(1.0);
        let rate = self.rate.map(|rate| slowed(f64::from(rate)) as u32);
        Self { rate, events: slowed(self.events as f64) as u64, ..self }
    }

    /// Whether the special endpoint cannot keep up by design, so that nobody waits for it.
    pub(crate) fn leaves_backlog(&self) -> bool {
        self.plain > 0 && self.special.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_slow_endpoint_is_not_waited_for() {
        let shapes = Case::ALL.into_iter().flat_map(|case| case.shapes(false));
        let left: Vec<_> = shapes.filter(Shape::leaves_backlog).map(|shape| shape.label).collect();
        assert_eq!(left, [label::WITH_SLOW]);
    }

    #[test]
    fn half_as_fast_a_machine_is_asked_for_half_as_much_in_step() {
        let [paced, step] = [Case::Paced, Case::Step].map(|case| case.shapes(false).remove(0));
        assert_eq!(Shape { label: label::STEP, ..paced }, step.clone().in_step(1.0));
        let asked = |speed| (step.clone().in_step(speed).rate, step.clone().in_step(speed).events);
        assert_eq!((asked(0.5), asked(0.0)), ((Some(250), 5_000), (Some(1), 1)));
    }

    #[test]
    fn quick_is_shorter_everywhere() {
        for case in Case::ALL {
            for (quick, full) in case.shapes(true).iter().zip(case.shapes(false)) {
                assert!(quick.events < full.events && quick.events > 0, "{}", full.label);
            }
        }
    }
}
