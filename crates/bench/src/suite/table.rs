//! The tables of figures, in Markdown. The comparison with the targets is in `verdict`.

use std::fmt::Write;

use super::{
    case::label,
    results::{Group, Results, Run, losses},
};
use crate::{latency::Summary, load::Report};

/// Processes in the order of the tables: those of mode services, that of mode up, the servers.
const PROCESSES: [&str; 7] = ["gateway", "registry", "delivery", "runner", "up", "postgres", "rabbit"];

/// All tables of figures.
pub(crate) fn render(results: &Results) -> String {
    let groups = results.groups();
    let mut out = String::from(
        "\n## Figures\n\nMedians of the runs; end to end in ms; latencies of a case with a slow endpoint are those of the fast ones.\n\n",
    );
    if results.quick {
        out += "**A quick run: too short to be a measurement.**\n\n";
    }
    out += &rates(&groups);
    out += "\nCPU seconds per 1,000 deliveries (peak MiB: RSS of our processes, anonymous memory of Postgres and RabbitMQ).\n\n";
    out += &costs(&groups);
    let lists = lists(&groups);
    if !lists.is_empty() {
        out += "\nLists: from request to answer, p50 and p99 in ms.\n\n";
        out += &lists;
    }
    let signing = signing(&groups);
    if !signing.is_empty() {
        out += "\nSigning a callback (RS256, 2048 bits), in ms of computing for each.\n\n";
        out += &signing;
    }
    let fan_out = fan_out(&groups);
    if !fan_out.is_empty() {
        out += "\nFanning out: from taking an event up to its deliveries being written, as the registry tells.\n\n";
        out += &fan_out;
    }
    let gaps = retries(&groups);
    if !gaps.is_empty() {
        out += "\nRetries: wait after the failed try before, in ms.\n\n";
        out += &gaps;
    }
    out
}

/// One line about a run that just ended.
pub(crate) fn progress(run: &Run) -> String {
    let (report, latency) = (&run.report, latency(&run.report));
    format!(
        "run {} {:8} {:33} {:>7.0} accepted/s {:>7.0} delivered/s p50 {:.1} p99 {:.1} ms, {:.3} CPU s/1000, {} duplicates, {} lost",
        run.run,
        run.mode.map_or("", |mode| mode.name()),
        report.label,
        report.accepted_per_s,
        report.delivered_per_s,
        latency.p50,
        latency.p99,
        report.cpu_s_per_1000,
        report.sink.total.duplicates,
        losses(report)
    )
}

/// Latency end to end of the endpoints that behave; of all when none does.
pub(crate) fn latency(report: &Report) -> &Summary {
    if report.plain_endpoints == 0 { &report.sink.total.success } else { &report.sink.plain.success }
}

fn rates(groups: &[Group<'_>]) -> String {
    let mut out = head(&[
        "case",
        "mode",
        "runs",
        "noise",
        "accepted/s",
        "refused",
        "delivered/s",
        "first tries/s",
        "p50",
        "p95",
        "p99",
        "sent late",
        "duplicates",
        "losses",
        "DB B per delivery",
        "WAL B",
        "commits",
    ]);
    for group in groups {
        let runs = match group.left_out {
            0 => group.reports.len().to_string(),
            left_out => format!("{} ({left_out} noisy left out)", group.reports.len()),
        };
        row(
            &mut out,
            &[
                group.label.into(),
                group.mode.map_or("–", |mode| mode.name()).into(),
                runs,
                format!("{:.0} %", group.noise * 100.0),
                cell(group.median(|report| Some(report.accepted_per_s)), 0),
                cell(group.max(|report| Some(report.refused() as f64)), 0),
                cell(group.median(|report| Some(report.delivered_per_s)), 0),
                cell(group.median(|report| Some(report.first_tries_per_s)), 0),
                cell(group.median(|report| Some(latency(report).p50)), 2),
                cell(group.median(|report| Some(latency(report).p95)), 2),
                cell(group.median(|report| Some(latency(report).p99)), 2),
                cell(group.median(|report| report.rate.map(|_| report.late_ms.p50)), 2),
                cell(group.max(|report| Some(report.sink.total.duplicates as f64)), 0),
                cell(group.max(|report| Some(losses(report) as f64)), 0),
                cell(group.median(|report| report.db_bytes_per_delivery), 0),
                cell(group.median(|report| report.wal_bytes_per_delivery), 0),
                cell(group.median(|report| report.commits_per_delivery), 3),
            ],
        );
    }
    out
}

/// How long lists took, with next to nothing and with much stored.
fn lists(groups: &[Group<'_>]) -> String {
    let mut out = String::new();
    for group in groups {
        let Some(asked) = group.reports.iter().find(|report| !report.lists.is_empty()) else { continue };
        if out.is_empty() {
            out = head(&["list", "case", "mode", "p50", "p99"]);
        }
        for name in asked.lists.keys() {
            let of = |figure: fn(&Summary) -> f64| group.median(|report| report.lists.get(name).map(figure));
            row(
                &mut out,
                &[
                    name.clone(),
                    group.label.into(),
                    group.mode.map_or("–", |mode| mode.name()).into(),
                    cell(of(|summary| summary.p50), 2),
                    cell(of(|summary| summary.p99), 2),
                ],
            );
        }
    }
    out
}

fn costs(groups: &[Group<'_>]) -> String {
    let mut columns = vec!["case", "mode", "total"];
    columns.extend(PROCESSES);
    columns.extend(["load", "sink"]);
    let mut out = head(&columns);
    for group in groups {
        let mut cells: Vec<String> = vec![
            group.label.into(),
            group.mode.map_or("–", |mode| mode.name()).into(),
            match group.label {
                label::CALIBRATE => "–".into(),
                label::ROWS => cell(group.median(|report| Some(report.cpu_s_per_1000)), 4),
                _ => cell(group.median(|report| Some(report.cpu_s_per_1000)), 3),
            },
        ];
        cells.extend(PROCESSES.map(|name| match group.median(|report| report.cpu_per_1000(name)) {
            None => "–".into(),
            Some(cpu) => format!("{cpu:.3} ({})", cell(group.max(|report| peak_mib(report, name)), 0)),
        }));
        cells.extend(["load", "sink"].map(|name| cell(group.median(|report| report.cpu_per_1000(name)), 3)));
        row(&mut out, &cells);
    }
    out
}

/// Peak memory of a process in MiB. Of the servers only anonymous memory says something: their shared buffers are counted
/// in the RSS of every process that touches them, and they ran before the suite did.
pub(crate) fn peak_mib(report: &Report, name: &str) -> Option<f64> {
    let usage = report.usage.get(name)?;
    let server = ["postgres", "rabbit"].contains(&name);
    Some(if server { usage.peak_anon_mib } else { usage.root_peak_rss_mib })
}

fn retries(groups: &[Group<'_>]) -> String {
    let mut out = String::new();
    for group in groups {
        let retries = group
            .reports
            .iter()
            .flat_map(|report| &report.sink.total.gaps)
            .map(|gap| gap.retry)
            .max()
            .unwrap_or(0);
        for i in 0..retries {
            if out.is_empty() {
                out = head(&["case", "mode", "retry", "due", "count", "p5", "p50", "p95", "within ±10 %"]);
            }
            let gap = |figure: fn(&crate::sink::GapStats) -> f64| {
                group
                    .median(|report| report.sink.total.gaps.iter().find(|gap| gap.retry == i + 1).map(figure))
            };
            row(
                &mut out,
                &[
                    group.label.into(),
                    group.mode.map_or("–", |mode| mode.name()).into(),
                    (i + 1).to_string(),
                    cell(gap(|gap| gap.step_ms as f64), 0),
                    cell(gap(|gap| gap.count as f64), 0),
                    cell(gap(|gap| gap.p5), 0),
                    cell(gap(|gap| gap.p50), 0),
                    cell(gap(|gap| gap.p95), 0),
                    cell(gap(|gap| gap.on_time * 100.0).map(|share| (share * 10.0).floor() / 10.0), 1) + " %",
                ],
            );
        }
    }
    out
}

fn fan_out(groups: &[Group<'_>]) -> String {
    let mut out = String::new();
    for group in groups {
        let Some(ms) = group.median(|report| report.fan_out_p99_ms) else { continue };
        if out.is_empty() {
            out = head(&["case", "mode", "p99 ms per event"]);
        }
        row(
            &mut out,
            &[group.label.into(), group.mode.map_or("–", |mode| mode.name()).into(), cell(Some(ms), 1)],
        );
    }
    out
}

fn signing(groups: &[Group<'_>]) -> String {
    let mut out = String::new();
    for group in groups {
        let Some(ms) = group.median(|report| report.signing_ms) else { continue };
        if out.is_empty() {
            out = head(&["case", "mode", "ms per callback", "share of one processor"]);
        }
        let share = group.median(|report| Some(report.signing_ms? * report.delivered_per_s / 10.0));
        row(
            &mut out,
            &[
                group.label.into(),
                group.mode.map_or("–", |mode| mode.name()).into(),
                cell(Some(ms), 3),
                cell(share, 0) + " %",
            ],
        );
    }
    out
}

/// A figure with this number of digits; a dash when there is none.
pub(crate) fn cell(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".into(), |value| format!("{value:.digits$}"))
}

/// The first two lines of a Markdown table.
pub(crate) fn head(columns: &[&str]) -> String {
    format!("| {} |\n{}|\n", columns.join(" | "), "|---".repeat(columns.len()))
}

/// Adds one line to a Markdown table.
pub(crate) fn row(out: &mut String, cells: &[String]) {
    // Writing to a string cannot fail.
    let _written = writeln!(out, "| {} |", cells.join(" | "));
}

#[cfg(test)]
mod tests {
    use super::{super::results::tests::run, *};
    use crate::suite::system::Mode;

    #[test]
    fn every_line_of_a_table_has_the_columns_of_its_head() {
        let mut results = Results::new(true);
        results.add(run(None, label::CALIBRATE, 185_000.0, 0.0));
        let mut failing = run(Some(Mode::Up), label::FAILING, 900.0, 0.0);
        failing.report.sink.total.gaps = vec![crate::sink::GapStats { retry: 1, ..Default::default() }];
        failing.report.usage.insert("up".into(), Default::default());
        failing.report.signing_ms = Some(0.5);
        results.add(failing);
        let text = render(&results);
        let mut columns = 0;
        for line in text.lines().filter(|line| line.starts_with('|')) {
            let count = line.matches('|').count();
            if line.starts_with("| case") {
                columns = count;
            }
            assert_eq!(count, columns, "{line}");
        }
        assert!(text.contains("A quick run"));
        assert_eq!(text.matches("| case").count(), 4);
    }
}
