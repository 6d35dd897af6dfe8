//! All runs of a suite, and the medians over them.

use std::{fs, io::Write, path::Path};

use anyhow::Result;
use serde::Serialize;

use super::{case::label, system::Mode};
use crate::load::Report;

/// Runs in which other processes used more than this share of the machine are left out when there are better ones.
pub(crate) const MAX_NOISE: f64 = 0.10;

/// One load run with its circumstances.
#[derive(Serialize)]
pub(crate) struct Run {
    /// None for the calibration, which needs no Hookyard.
    pub(crate) mode: Option<Mode>,
    /// Round, from 1.
    pub(crate) run: usize,
    /// What was measured.
    #[serde(flatten)]
    pub(crate) report: Report,
}

impl Run {
    /// Appends one line of JSON to the file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn append_to(&self, path: &Path) -> Result<()> {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path)?;
        writeln!(file, "{}", serde_json::to_string(self)?)?;
        Ok(())
    }
}

/// All runs.
pub(crate) struct Results {
    /// Whether this was the smoke version.
    pub(crate) quick: bool,
    cores: usize,
    runs: Vec<Run>,
}

/// The runs of one mode and label.
pub(crate) struct Group<'a> {
    /// None for the calibration.
    pub(crate) mode: Option<Mode>,
    /// Label of the load run.
    pub(crate) label: &'a str,
    /// Runs that were left out for noise.
    pub(crate) left_out: usize,
    /// Largest share (0 to 1) of the machine that other processes used in a run that counts.
    pub(crate) noise: f64,
    /// The runs that count.
    pub(crate) reports: Vec<&'a Report>,
    /// The round of each, and which one of this label it was in its round.
    rounds: Vec<(usize, usize)>,
}

impl Group<'_> {
    /// Median of a figure; None when no run has it.
    pub(crate) fn median(&self, figure: impl Fn(&Report) -> Option<f64>) -> Option<f64> {
        median(self.reports.iter().filter_map(|report| figure(report)).collect())
    }

    /// Median of what comes of two figures of one round, ours and the other group's: machines change their speed between rounds more
    /// than within one. Where a round has several of each, the first is compared with the first, and so on. None when no round has both.
    pub(crate) fn beside(
        &self,
        other: &Self,
        figure: impl Fn(&Report) -> Option<f64>,
        compared: impl Fn(f64, f64) -> f64,
    ) -> Option<f64> {
        let pairs = self.rounds.iter().zip(&self.reports).filter_map(|(round, report)| {
            let at = other.rounds.iter().position(|other| other == round)?;
            Some(compared(figure(report)?, figure(other.reports[at])?))
        });
        median(pairs.collect())
    }

    /// Largest of a figure; None when no run has it.
    pub(crate) fn max(&self, figure: impl Fn(&Report) -> Option<f64>) -> Option<f64> {
        self.reports.iter().filter_map(|report| figure(report)).reduce(f64::max)
    }
}

impl Results {
    /// No runs yet.
    pub(crate) fn new(quick: bool) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { quick, cores, runs: Vec::new() }
    }

    /// Adds one run.
    pub(crate) fn add(&mut self, run: Run) {
        self.runs.push(run);
    }

    /// The runs by mode and label, in the order they were first made.
    pub(crate) fn groups(&self) -> Vec<Group<'_>> {
        let mut keys: Vec<(Option<Mode>, &str)> = Vec::new();
        for run in &self.runs {
            let key = (run.mode, run.report.label.as_str());
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys.into_iter().filter_map(|(mode, label)| self.group(mode, label)).collect()
    }

    /// The runs of one mode and label; None when there are none.
    pub(crate) fn group(&self, mode: Option<Mode>, label: &str) -> Option<Group<'_>> {
        let of_group = self.runs.iter().filter(|run| run.mode == mode && run.report.label == label);
        let all: Vec<&Run> = of_group.collect();
        let label = all.first()?.report.label.as_str();
        let nth = |at: usize| all[..at].iter().filter(|run| run.run == all[at].run).count();
        let numbered: Vec<(usize, &Run)> = (0..all.len()).map(|at| (nth(at), all[at])).collect();
        let noise = |run: &Run| run.report.noise(self.cores);
        let quiet: Vec<(usize, &Run)> =
            numbered.iter().copied().filter(|(_, run)| noise(run) <= MAX_NOISE).collect();
        let left_out = if quiet.is_empty() { 0 } else { numbered.len() - quiet.len() };
        let counting = if quiet.is_empty() { numbered } else { quiet };
        let noise = counting.iter().map(|(_, run)| noise(run)).fold(0.0, f64::max);
        let reports = counting.iter().map(|(_, run)| &run.report).collect();
        let rounds = counting.iter().map(|(nth, run)| (run.run, *nth)).collect();
        Some(Group { mode, label, left_out, noise, reports, rounds })
    }

    /// The calibrated rate of this machine, deliveries per second; None when other processes disturbed the calibration,
    /// because then it says nothing about the machine and scaling by it would flatter us.
    pub(crate) fn calibrated_per_s(&self) -> Option<f64> {
        self.calibrated(label::CALIBRATE, |report| report.delivered_per_s)
    }

    /// What a row costs Postgres on this machine, CPU seconds per 1,000; None when that was not measured, or disturbed.
    pub(crate) fn rows_cpu_s_per_1000(&self) -> Option<f64> {
        self.calibrated(label::ROWS, |report| report.cpu_s_per_1000)
    }

    fn calibrated(&self, label: &str, figure: fn(&Report) -> f64) -> Option<f64> {
        let group = self.group(None, label).filter(|group| group.noise <= MAX_NOISE)?;
        group.median(|report| Some(figure(report)))
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// Deliveries that neither arrived nor became dead letters. Of a run that leaves a backlog by design only the plain
/// endpoints are judged.
pub(crate) fn losses(report: &Report) -> i64 {
    let sink = &report.sink;
    let backlog = report.plain_endpoints > 0 && report.endpoints > report.plain_endpoints;
    let (expected, settled) = if backlog {
        (report.accepted * report.plain_endpoints as u64, sink.plain.done + sink.plain.given_up)
    } else {
        (report.expected, sink.total.done + sink.total.given_up)
    };
    expected as i64 - settled as i64
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A quiet run with this rate.
    pub(crate) fn run(mode: Option<Mode>, label: &str, delivered_per_s: f64, other_cpu_s: f64) -> Run {
        let report = Report {
            label: label.into(),
            delivered_per_s,
            other_cpu_s,
            watched_s: 10.0,
            ..Report::default()
        };
        Run { mode, run: 1, report }
    }

    #[test]
    fn figures_of_one_round_are_compared_and_those_of_a_round_that_one_lacks_are_not() {
        let mut results = Results::new(false);
        for (label, round, rate) in
            [("a", 1, 10.0), ("a", 2, 40.0), ("a", 3, 90.0), ("b", 1, 5.0), ("b", 2, 10.0), ("b", 4, 1.0)]
        {
            results.add(Run { run: round, ..run(None, label, rate, 0.0) });
        }
        let group = |label| results.group(None, label).unwrap();
        let rate = |report: &Report| Some(report.delivered_per_s);
        assert_eq!(group("a").beside(&group("b"), rate, |a, b| a / b), Some(3.0), "of 2 and 4");
        assert_eq!(group("a").beside(&group("b"), |_| None, |a, b| a / b), None);
    }

    #[test]
    fn of_a_round_with_several_the_first_is_compared_with_the_first() {
        let mut results = Results { quick: false, cores: 2, runs: Vec::new() };
        // The second of "b" was disturbed, so the second pair is missing, not moved up.
        for (label, rate, other_cpu_s) in [
            ("a", 10.0, 0.0),
            ("b", 5.0, 0.0),
            ("b", 1.0, 9.0),
            ("a", 30.0, 0.0),
            ("a", 60.0, 0.0),
            ("b", 6.0, 0.0),
        ] {
            results.add(run(None, label, rate, other_cpu_s));
        }
        let group = |label| results.group(None, label).unwrap();
        let rate = |report: &Report| Some(report.delivered_per_s);
        assert_eq!(group("a").beside(&group("b"), rate, |a, b| a / b), Some(6.0), "of 2 and 10");
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
    }

    #[test]
    fn noisy_runs_are_left_out_unless_all_are_noisy() {
        let mut results = Results { quick: false, cores: 2, runs: Vec::new() };
        for (rate, other_cpu_s) in [(100.0, 0.0), (10.0, 9.0), (102.0, 1.0)] {
            results.add(run(Some(Mode::Up), "x", rate, other_cpu_s));
        }
        results.add(run(Some(Mode::Services), "x", 7.0, 9.0));
        let up = results.group(Some(Mode::Up), "x").unwrap();
        assert_eq!((up.left_out, up.median(|report| Some(report.delivered_per_s))), (1, Some(101.0)));
        let services = results.group(Some(Mode::Services), "x").unwrap();
        assert_eq!((services.left_out, services.reports.len(), services.noise > MAX_NOISE), (0, 1, true));
        assert!(results.group(None, "x").is_none());
        assert_eq!(results.groups().len(), 2);
    }

    #[test]
    fn dead_letters_and_a_backlog_by_design_are_no_losses() {
        let mut report =
            Report { accepted: 10, expected: 50, endpoints: 5, plain_endpoints: 4, ..Report::default() };
        report.sink.plain.done = 40;
        report.sink.total.done = 42;
        assert_eq!(losses(&report), 0);
        report.plain_endpoints = 5;
        report.sink.total.given_up = 1;
        assert_eq!(losses(&report), 7);
    }
}
