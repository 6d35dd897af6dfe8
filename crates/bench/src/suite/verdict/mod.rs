//! The targets, and whether they are reached: as measured, and scaled to the reference machine.
//!
//! Rates and CPU costs scale with the speed of the machine: the calibrated rate of the same suite, load straight to sink,
//! relative to the reference machine's; Postgres' part of them with what a row costs it, which does not fit into a processor's caches
//! (docs/decisions/0065). Ratios of two figures of one suite and memory are not scaled: the first are free of the
//! machine, the other does not follow its speed. Neither do latencies at a rate that is the same on every machine: what waits for a
//! processor waits longer, and more of it does. At a rate that is as much slower as the machine (case `step`) everything takes
//! as much longer, but for what a timer of the load generator adds.

mod targets;

use super::{
    reference::{ROWS_CPU, SINK_PER_S},
    results::{Group, MAX_NOISE, Results},
    speed::Speed,
    system::Mode,
    table::{cell, head, row},
};

/// How a figure follows the speed of the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scale {
    /// A faster machine has more of it. Of all that the machine does `postgres` is Postgres' share.
    Rate { postgres: f64 },
    /// A faster machine has less of it, of which `postgres` is Postgres' share.
    Cost { postgres: f64 },
    /// Measured in step with the machine: a faster one has less of it, of which `postgres` is Postgres' share, but for so many ms that are
    /// the load generator's.
    Step { late_ms: f64, postgres: f64 },
    /// Not scaled.
    Fixed,
}

impl Scale {
    /// Of the rate of these runs.
    fn rate(group: &Group<'_>) -> Self {
        Self::Rate { postgres: share(group, true) }
    }

    /// Of their cost.
    fn cost(group: &Group<'_>) -> Self {
        Self::Cost { postgres: share(group, false) }
    }

    /// Of their latencies: waiting for a processor, and for those who have it.
    fn step(group: &Group<'_>, late_ms: f64) -> Self {
        Self::Step { late_ms, postgres: share(group, true) }
    }
}

fn share(group: &Group<'_>, all: bool) -> f64 {
    group.median(|report| Some(report.share_of_postgres(all))).unwrap_or(0.0)
}

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

impl Limit {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(limit) => value >= limit,
            Self::AtMost(limit) => value <= limit,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(limit) => format!("≥ {}", short(limit)),
            Self::AtMost(limit) => format!("≤ {}", short(limit)),
        }
    }
}

/// One target of one mode.
#[derive(Debug, PartialEq)]
struct Check {
    what: String,
    mode: Mode,
    limit: Limit,
    scale: Scale,
    /// Svix's figure on the reference machine.
    svix: Option<f64>,
    measured: f64,
}

/// The table of targets; says so when the calibration is missing.
pub(crate) fn render(results: &Results) -> String {
    let speed = Speed::of(results);
    let mut out = String::from("\n## Targets\n\n");
    match speed {
        Some(speed) => {
            let Speed { machine, postgres } = speed;
            let of_rows = match results.rows_cpu_s_per_1000() {
                Some(cpu) => format!(
                    "1,000 rows cost Postgres {cpu:.4} CPU s, there {ROWS_CPU:.4}: {postgres:.2} × its speed"
                ),
                None => "Postgres was not measured and is scaled like the rest".to_owned(),
            };
            out += &format!(
                "This machine: load → sink {:.0}/s, {machine:.2} × the reference machine's {SINK_PER_S:.0}/s; {of_rows}. Scaled figures are what the reference machine would show.\n\n",
                machine * SINK_PER_S,
            );
        }
        None => out += "No calibration without noise: nothing is scaled.\n\n",
    }
    out += &warnings(results);
    out += &head(&["target", "mode", "limit", "measured", "× Svix", "", "scaled", "× Svix, scaled", ""]);
    let mut checks = targets::checks(results);
    checks.sort_by_key(|check| check.mode);
    for check in &checks {
        let scaled = speed.map(|speed| check.scaled(speed));
        row(
            &mut out,
            &[
                check.what.clone(),
                check.mode.name().into(),
                check.limit.text(),
                short(check.measured),
                check.times_svix(check.measured),
                verdict(check.limit.holds(check.measured)).into(),
                scaled.map_or("–".into(), short),
                scaled.map_or("–".into(), |scaled| check.times_svix(scaled)),
                scaled.map_or("–", |scaled| verdict(check.limit.holds(scaled))).into(),
            ],
        );
    }
    out
}

/// What makes the figures unfit for a verdict.
fn warnings(results: &Results) -> String {
    let mut out = String::new();
    if cfg!(debug_assertions) {
        out += "**Load and sink were built without optimisation; use a release build.**\n\n";
    }
    if results.quick {
        out += "**A quick run: too short to be a measurement.**\n\n";
    }
    let noisy: Vec<String> = results
        .groups()
        .iter()
        .filter(|group| group.noise > MAX_NOISE)
        .map(|group| format!("{} {}", group.mode.map_or("", Mode::name), group.label).trim().to_owned())
        .collect();
    if !noisy.is_empty() {
        let share = MAX_NOISE * 100.0;
        out += &format!(
            "**Other processes used over {share:.0} % of the machine during: {}.**\n\n",
            noisy.join(", ")
        );
    }
    out
}

fn verdict(holds: bool) -> &'static str {
    if holds { "PASS" } else { "**MISS**" }
}

/// Three digits or so, whatever the size.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 || v.fract() == 0.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    cell(Some(value), digits)
}

impl Check {
    /// The figure on the reference machine, relative to which this one has that speed.
    fn scaled(&self, speed: Speed) -> f64 {
        match self.scale {
            Scale::Rate { postgres } => self.measured / speed.with(postgres),
            Scale::Cost { postgres } => self.measured * speed.with(postgres),
            Scale::Step { late_ms, postgres } => {
                (self.measured - late_ms).max(0.0) * speed.with(postgres) + late_ms
            }
            Scale::Fixed => self.measured,
        }
    }

    fn times_svix(&self, value: f64) -> String {
        self.svix.map_or("–".into(), |svix| short(value / svix))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{case::label, results::tests::run},
        *,
    };
    use crate::cost::Usage;

    fn check(limit: Limit, scale: Scale, measured: f64) -> Check {
        Check { what: "x".into(), mode: Mode::Up, limit, scale, svix: Some(100.0), measured }
    }

    const fn speed(speed: f64) -> Speed {
        Speed { machine: speed, postgres: speed }
    }

    #[test]
    fn scaling_is_in_favour_of_a_slow_machine_only() {
        let rate = check(Limit::AtLeast(500.0), Scale::Rate { postgres: 0.3 }, 300.0);
        assert_eq!((rate.scaled(speed(0.5)), rate.scaled(speed(2.0))), (600.0, 150.0));
        let cost = check(Limit::AtMost(1.0), Scale::Cost { postgres: 0.0 }, 1.5);
        assert_eq!((cost.scaled(speed(0.5)), cost.scaled(speed(2.0))), (0.75, 3.0));
        let fixed = check(Limit::AtMost(1.0), Scale::Fixed, 1.5);
        assert_eq!(fixed.scaled(speed(0.5)), 1.5);
        let step = check(Limit::AtMost(2.0), Scale::Step { late_ms: 0.5, postgres: 0.3 }, 3.5);
        assert_eq!((step.scaled(speed(0.5)), step.scaled(speed(2.0))), (2.0, 6.5));
        assert!(!rate.limit.holds(300.0) && rate.limit.holds(500.0) && cost.limit.holds(1.0));
    }

    #[test]
    fn postgres_part_is_scaled_by_its_own_speed() {
        let speed = Speed { machine: 0.5, postgres: 0.25 };
        let cost = check(Limit::AtMost(1.0), Scale::Cost { postgres: 0.4 }, 1.0);
        // 0.4 by a quarter, 0.6 by half.
        assert!((cost.scaled(speed) - 0.4).abs() < 1e-9);
        let rate = check(Limit::AtLeast(1.0), Scale::Rate { postgres: 0.4 }, 100.0);
        assert!((rate.scaled(speed) - 250.0).abs() < 1e-9);
        let step = check(Limit::AtMost(1.0), Scale::Step { late_ms: 1.0, postgres: 0.4 }, 6.0);
        assert!((step.scaled(speed) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn the_shares_and_the_speed_of_postgres_are_those_of_the_runs() {
        let mut results = Results::new(false);
        results.add(run(None, label::CALIBRATE, SINK_PER_S / 2.0, 0.0));
        let with = |mut run: crate::suite::results::Run, usage: &[(&str, f64)]| {
            let usage = usage
                .iter()
                .map(|(name, cpu_s)| ((*name).to_owned(), Usage { cpu_s: *cpu_s, ..Usage::default() }));
            run.report.usage = usage.collect();
            run
        };
        let one = run(Some(Mode::Services), label::ONE, 3_000.0, 0.0);
        results.add(with(one, &[("gateway", 4.0), ("postgres", 4.0), ("load", 1.0), ("sink", 1.0)]));
        let group = results.group(Some(Mode::Services), label::ONE).unwrap();
        assert_eq!(Scale::rate(&group), Scale::Rate { postgres: 0.4 });
        assert_eq!(Scale::cost(&group), Scale::Cost { postgres: 0.5 });
        let speed = Speed::of(&results).unwrap();
        assert_eq!((speed.machine, speed.postgres), (0.5, 0.5), "not measured");
        let mut rows = run(None, label::ROWS, 100_000.0, 0.0);
        rows.report.cpu_s_per_1000 = 4.0 * ROWS_CPU;
        results.add(rows);
        let speed = Speed::of(&results).unwrap();
        assert_eq!((speed.machine, speed.postgres), (0.5, 0.25));
        assert!(render(&results).contains("there 0.0020: 0.25 × its speed"));
    }

    #[test]
    fn a_slow_machine_passes_when_its_scaled_figure_does() {
        let mut results = Results::new(false);
        results.add(run(None, label::CALIBRATE, SINK_PER_S / 2.0, 0.0));
        results.add(run(Some(Mode::Services), label::ONE, 4_000.0, 0.0));
        let text = render(&results);
        let line = text.lines().find(|line| line.contains("deliveries/s")).unwrap();
        let expected =
            "| 1 endpoint: deliveries/s | services | ≥ 7500 | 4000 | 2.67 | **MISS** | 8000 | 5.33 | PASS |";
        assert_eq!(line, expected);
    }

    #[test]
    fn a_disturbed_calibration_scales_nothing_and_is_named() {
        let mut results = Results::new(false);
        results.add(run(None, label::CALIBRATE, SINK_PER_S / 4.0, 1_000.0));
        results.add(run(Some(Mode::Services), label::ONE, 4_000.0, 0.0));
        let text = render(&results);
        assert!(
            text.contains("nothing is scaled") && text.contains(&format!("during: {}.", label::CALIBRATE))
        );
        let line = text.lines().find(|line| line.contains("deliveries/s")).unwrap();
        assert!(line.ends_with("| **MISS** | – | – | – |"), "{line}");
    }
}
