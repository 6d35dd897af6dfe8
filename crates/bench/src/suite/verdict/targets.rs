//! Every target, as data about the cases: what it asks of which figure.

use super::{Check, Limit, Scale};
use crate::{
    latency::Summary,
    load::Report,
    suite::{
        case::label,
        reference::{
            CAPACITY_FAILED, CAPACITY_PER_S, FAILING_FIRST_TRIES, ISOLATION, LIMITED_RATE, LISTENED_RSS_MIB,
            MILLION, RETRIES_ON_TIME, RUNS_PER_S, SCALE_BYTES, SCALE_MS, SCALE_S, SERVICE_RSS_MIB,
            SERVICES_P50_MS, SERVICES_P99_MS, SVIX_FAILING, SVIX_FIVE_CPU, SVIX_FIVE_PER_S, SVIX_ISOLATION,
            SVIX_ONE_CPU, SVIX_ONE_PER_S, SVIX_PACED_P50_MS, SVIX_PACED_P99_MS, TASKS_P99_MS, TASKS_PER_S,
            TIMES_SVIX, UP_RSS_MIB,
        },
        results::{Group, Results, losses},
        system::Mode,
        table::{latency, peak_mib},
    },
};

/// A quantile of latencies: its name, our target and Svix's figure in ms, and where it is found.
type Quantile = (&'static str, f64, f64, fn(&Summary) -> f64);

/// Every target for which there are figures.
pub(super) fn checks(results: &Results) -> Vec<Check> {
    let mut out = Vec::new();
    for mode in Mode::ALL {
        let group = |label| results.group(Some(mode), label);
        let mut add = |what: &str, limit, scale, svix, measured: Option<f64>| {
            if let Some(measured) = measured {
                out.push(Check { what: what.into(), mode, limit, scale, svix, measured });
            }
        };
        let speeds =
            [(label::ONE, SVIX_ONE_PER_S, SVIX_ONE_CPU), (label::FIVE, SVIX_FIVE_PER_S, SVIX_FIVE_CPU)];
        for (label, per_s, cpu) in speeds {
            let Some(group) = group(label) else { continue };
            let rate = group.median(|report| Some(report.delivered_per_s));
            let at_least = Limit::AtLeast(per_s * TIMES_SVIX);
            add(&format!("{label}: deliveries/s"), at_least, Scale::rate(&group), Some(per_s), rate);
            let cost = group.median(|report| Some(report.cpu_s_per_1000));
            let at_most = Limit::AtMost(cpu / TIMES_SVIX);
            add(&format!("{label}: CPU s per 1,000"), at_most, Scale::cost(&group), Some(cpu), cost);
        }
        let (p50, p99) = match mode {
            Mode::Services => (SERVICES_P50_MS, SERVICES_P99_MS),
            Mode::Up => (SVIX_PACED_P50_MS, SVIX_PACED_P99_MS),
        };
        let quantiles: [Quantile; 2] = [
            ("p50", p50, SVIX_PACED_P50_MS, |summary| summary.p50),
            ("p99", p99, SVIX_PACED_P99_MS, |summary| summary.p99),
        ];
        for (label, short) in [(label::PACED, "500/s"), (label::STEP, "500/s, in step")] {
            let Some(group) = group(label) else { continue };
            for (name, limit, svix, quantile) in quantiles {
                let measured = group.median(|report| Some(quantile(latency(report))));
                let late_ms = group.median(|report| Some(quantile(&report.late_ms))).unwrap_or(0.0);
                let scale = if label == label::STEP { Scale::step(&group, late_ms) } else { Scale::Fixed };
                add(&format!("{short}: {name} ms"), Limit::AtMost(limit), scale, Some(svix), measured);
            }
        }
        if let (Some(alone), Some(slow)) = (group(label::ALONE), group(label::WITH_SLOW)) {
            let ratio = quotient(&slow, &alone, |report| latency(report).p99);
            let limit = Limit::AtMost(ISOLATION);
            add(
                "slow endpoint: the fast ones' p99, × alone",
                limit,
                Scale::Fixed,
                Some(SVIX_ISOLATION),
                ratio,
            );
        }
        if let (Some(failing), Some(one)) = (group(label::FAILING), group(label::ONE)) {
            let ratio = quotient(&failing, &one, |report| report.first_tries_per_s);
            let limit = Limit::AtLeast(FAILING_FIRST_TRIES);
            add("20 % failing: first tries, × none failing", limit, Scale::Fixed, Some(SVIX_FAILING), ratio);
        }
        if let (Some(limited), Some(unlimited)) = (group(label::LIMITED), group(label::UNLIMITED)) {
            let ratio = quotient(&limited, &unlimited, |report| report.accepted_per_s);
            let limit = Limit::AtLeast(LIMITED_RATE);
            add("limits and Idempotency-Keys: accepted/s, × without", limit, Scale::Fixed, None, ratio);
        }
        if let Some(tasks) = group(label::TASKS) {
            let rate = tasks.median(|report| Some(report.delivered_per_s));
            add("tasks completed/s", Limit::AtLeast(TASKS_PER_S), Scale::rate(&tasks), None, rate);
        }
        if let Some(tasks) = group(label::TASKS_PACED) {
            let p99 = tasks.median(|report| Some(latency(report).p99));
            add("100 tasks/s: p99 ms", Limit::AtMost(TASKS_P99_MS), Scale::Fixed, None, p99);
        }
        if let Some(runs) = group(label::RUNS) {
            let rate = runs.median(|report| Some(report.delivered_per_s));
            add("action runs called back/s", Limit::AtLeast(RUNS_PER_S), Scale::rate(&runs), None, rate);
        }
        if let Some(capacity) = group(label::CAPACITY) {
            let rate = capacity.median(|report| Some(report.delivered_per_s));
            add(
                "an endpoint that takes 200/s: deliveries/s",
                Limit::AtLeast(CAPACITY_PER_S),
                Scale::Fixed,
                None,
                rate,
            );
            let failed = capacity.median(|report| {
                let total = &report.sink.total;
                Some(total.failed as f64 / total.requests.max(1) as f64)
            });
            let limit = Limit::AtMost(CAPACITY_FAILED);
            add("an endpoint that takes 200/s: share of tries that fail", limit, Scale::Fixed, None, failed);
        }
        if let (Some(few), Some(many)) = (group(label::SCALE_FEW), group(label::SCALE_MANY)) {
            let more = many.beside(&few, |report| report.fan_out_p99_ms, |many, few| many - few);
            add(
                "100,000 subscriptions: p99 of fanning out to 3, ms more than without",
                Limit::AtMost(SCALE_MS),
                Scale::Fixed,
                None,
                more,
            );
            let bytes = many.max(|report| report.bytes_per_subscription);
            add(
                "100,000 subscriptions: bytes of a registry for each",
                Limit::AtMost(SCALE_BYTES),
                Scale::Fixed,
                None,
                bytes,
            );
            if let Some(beside) = group(label::SCALE_BESIDE) {
                let took = beside.max(|report| report.crowd_s);
                add(
                    "an event for 10,000: seconds until all have it",
                    Limit::AtMost(SCALE_S),
                    Scale::Cost { postgres: 0.0 },
                    None,
                    took,
                );
                let ratio = quotient(&beside, &many, |report| latency(report).p99);
                add(
                    "an event for 10,000: the others' p99, × without",
                    Limit::AtMost(ISOLATION),
                    Scale::Fixed,
                    None,
                    ratio,
                );
            }
        }
        if let (Some(full), Some(few)) = (group(label::MILLION_STORED), group(label::FEW_STORED)) {
            let rate = quotient(&full, &few, |report| report.accepted_per_s);
            let at_least = Limit::AtLeast(MILLION);
            add("a million stored: accepted/s, × next to nothing", at_least, Scale::Fixed, None, rate);
            let at_most = Limit::AtMost(1.0 / MILLION);
            let p99 = quotient(&full, &few, |report| report.accept_ms.p99);
            add("a million stored: p99 of accepting, × next to nothing", at_most, Scale::Fixed, None, p99);
            let names: std::collections::BTreeSet<&String> =
                full.reports.iter().flat_map(|report| report.lists.keys()).collect();
            for name in names {
                let of = |report: &Report| report.lists.get(name).map(|list| list.p50);
                let ratio = full.beside(&few, of, |full, few| full / few.max(0.001));
                let what = format!("a million stored: {name}, p50, × next to nothing");
                add(&what, at_most, Scale::Fixed, None, ratio);
            }
        }
        if let Some(failing) = group(label::FAILING) {
            for retry in 1..=3 {
                let on_time = failing.median(|report| {
                    report.sink.total.gaps.iter().find(|gap| gap.retry == retry).map(|gap| gap.on_time)
                });
                let what = format!("20 % failing: share of retries {retry} within ±10 %");
                add(&what, Limit::AtLeast(RETRIES_ON_TIME), Scale::Fixed, None, on_time);
            }
        }
        let (processes, limit): (&[&str], f64) = match mode {
            Mode::Services => (&["gateway", "registry", "delivery", "runner"], SERVICE_RSS_MIB),
            Mode::Up => (&["up"], UP_RSS_MIB),
        };
        let gateway = match mode {
            Mode::Services => "gateway",
            Mode::Up => "up",
        };
        if let Some(listened) = group(label::LISTENERS) {
            let peak = listened.max(|report| peak_mib(report, gateway));
            let what = format!("{}: peak RSS of {gateway}, MiB", label::LISTENERS);
            add(&what, Limit::AtMost(LISTENED_RSS_MIB), Scale::Fixed, None, peak);
        }
        let groups = results.groups();
        let of_mode = |group: &&Group<'_>| group.mode == Some(mode) && group.label != label::LISTENERS;
        let own: Vec<&Group<'_>> = groups.iter().filter(of_mode).collect();
        // Who knows 100,000 subscriptions is judged by what each takes.
        let small =
            || own.iter().filter(|group| ![label::SCALE_MANY, label::SCALE_BESIDE].contains(&group.label));
        for name in processes {
            let peak =
                small().filter_map(|group| group.max(|report| peak_mib(report, name))).reduce(f64::max);
            add(&format!("peak RSS of {name}, MiB"), Limit::AtMost(limit), Scale::Fixed, None, peak);
        }
        let lost = own.iter().filter_map(|group| group.max(|report| Some(losses(report) as f64)));
        add("lost deliveries, worst run", Limit::AtMost(0.0), Scale::Fixed, None, lost.reduce(f64::max));
    }
    out
}

/// A figure of one group over that of another, of the same round each.
fn quotient(over: &Group<'_>, under: &Group<'_>, figure: fn(&Report) -> f64) -> Option<f64> {
    over.beside(under, |report| Some(figure(report)), |over, under| over / under.max(f64::MIN_POSITIVE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cost::Usage, suite::results::tests::run};

    #[test]
    fn a_target_without_figures_is_left_out() {
        let mut results = Results::new(false);
        assert_eq!(checks(&results), []);
        results.add(run(Some(Mode::Services), label::ONE, 9_000.0, 0.0));
        let found = checks(&results);
        let whats: Vec<&str> = found.iter().map(|check| check.what.as_str()).collect();
        assert_eq!(
            whats,
            ["1 endpoint: deliveries/s", "1 endpoint: CPU s per 1,000", "lost deliveries, worst run"]
        );
        assert_eq!((found[0].limit, found[0].measured), (Limit::AtLeast(7_500.0), 9_000.0));
    }

    #[test]
    fn what_limits_cost_is_a_ratio() {
        let mut results = Results::new(false);
        for (label, rate, accepted) in
            [(label::UNLIMITED, 9_000.0, 9_000.0), (label::LIMITED, 8_000.0, 8_010.0)]
        {
            let mut run = run(Some(Mode::Up), label, rate, 0.0);
            run.report.accepted_per_s = accepted;
            results.add(run);
        }
        let found = checks(&results);
        let ratio = found.iter().find(|check| check.what.starts_with("limits")).unwrap();
        assert_eq!((ratio.measured, ratio.limit.holds(ratio.measured)), (0.89, false));
    }

    #[test]
    fn a_crowd_of_listeners_is_judged_by_itself() {
        let mut results = Results::new(false);
        for (label, mib) in [(label::LISTENERS, 120.0), (label::ONE, 80.0)] {
            let mut run = run(Some(Mode::Services), label, 9_000.0, 0.0);
            let usage = Usage { root_peak_rss_mib: mib, ..Usage::default() };
            run.report.usage.insert("gateway".into(), usage);
            results.add(run);
        }
        let peaks: Vec<(String, f64, bool)> = checks(&results)
            .into_iter()
            .filter(|check| check.what.contains("peak RSS"))
            .map(|check| (check.what, check.measured, check.limit.holds(check.measured)))
            .collect();
        assert_eq!(
            peaks,
            [
                ("1,000 listeners, 200 workers: peak RSS of gateway, MiB".to_owned(), 120.0, true),
                ("peak RSS of gateway, MiB".to_owned(), 80.0, true),
            ]
        );
    }

    #[test]
    fn many_subscriptions_are_compared_with_few() {
        let mut results = Results::new(false);
        for (label, p99, fan_out, bytes, crowd_s) in [
            (label::SCALE_FEW, 9.0, 2.0, None, None),
            (label::SCALE_MANY, 10.0, 6.0, Some(640.0), None),
            (label::SCALE_BESIDE, 25.0, 7.0, None, Some(4.0)),
        ] {
            let mut run = run(Some(Mode::Services), label, 900.0, 0.0);
            run.report.sink.plain.success.p99 = p99;
            run.report.plain_endpoints = 3;
            run.report.fan_out_p99_ms = Some(fan_out);
            (run.report.bytes_per_subscription, run.report.crowd_s) = (bytes, crowd_s);
            results.add(run);
        }
        let found: Vec<(f64, bool)> = checks(&results)
            .iter()
            .filter(|check| check.what.contains("0,000"))
            .map(|check| (check.measured, check.limit.holds(check.measured)))
            .collect();
        assert_eq!(found, [(4.0, true), (640.0, true), (4.0, true), (2.5, false)]);
    }

    #[test]
    fn isolation_compares_the_fast_endpoints_only() {
        let mut results = Results::new(false);
        for (label, p99, special) in [(label::ALONE, 5.0, 0), (label::WITH_SLOW, 8.0, 1)] {
            let mut run = run(Some(Mode::Up), label, 1_600.0, 0.0);
            (run.report.plain_endpoints, run.report.endpoints) = (4, 4 + special);
            run.report.sink.plain.success.p99 = p99;
            run.report.sink.total.success.p99 = 4_000.0;
            results.add(run);
        }
        let found = checks(&results);
        let ratio = found.iter().find(|check| check.what.starts_with("slow")).unwrap();
        assert_eq!((ratio.measured, ratio.limit.holds(ratio.measured)), (1.6, true));
    }
}
