//! How long something took, as a process of Hookyard tells in its metrics.

/// Deliverers: signing the token of a callback.
pub(crate) const SIGNING: &str = "hookyard_delivery_signing_seconds";

/// Registries: making the deliveries of an event.
pub(crate) const FAN_OUT: &str = "hookyard_registry_fan_out_seconds";

/// A histogram without labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Timing {
    seconds: f64,
    count: f64,
    /// Upper bounds in seconds, ascending, and how often it took no longer; the last has no bound.
    buckets: Vec<(f64, f64)>,
}

impl Timing {
    /// Reads one from the text of a process; nothing where it is not in it.
    pub(crate) fn read(metrics: &str, name: &str) -> Self {
        let mut timing = Self::default();
        for line in metrics.lines() {
            let Some((what, number)) = line.strip_prefix(name).and_then(|rest| rest.rsplit_once(' ')) else {
                continue;
            };
            let Ok(number) = number.parse() else { continue };
            let bound = what.strip_prefix("_bucket{le=\"").and_then(|bound| bound.strip_suffix("\"}"));
            match (what, bound) {
                ("_sum", _) => timing.seconds = number,
                ("_count", _) => timing.count = number,
                (_, Some("+Inf")) => timing.buckets.push((f64::INFINITY, number)),
                (_, Some(bound)) => {
                    timing.buckets.extend(bound.parse().ok().map(|bound: f64| (bound, number)))
                }
                _ => {}
            }
        }
        timing
    }

    /// What came since.
    pub(crate) fn since(mut self, before: &Self) -> Self {
        self.seconds -= before.seconds;
        self.count -= before.count;
        for ((_, count), (_, before)) in self.buckets.iter_mut().zip(&before.buckets) {
            *count -= before;
        }
        self
    }

    /// One of them, in ms; None when there was none.
    pub(crate) fn mean_ms(&self) -> Option<f64> {
        (self.count > 0.0).then(|| self.seconds / self.count * 1000.0)
    }

    /// What this share (0 to 1) of them took at the most, in ms, as Prometheus estimates it: evenly spread within a bucket. None when there
    /// was none.
    pub(crate) fn quantile_ms(&self, share: f64) -> Option<f64> {
        if self.count <= 0.0 {
            return None;
        }
        let wanted = share * self.count;
        let (mut from, mut below) = (0.0, 0.0);
        for (to, count) in &self.buckets {
            if wanted <= *count && to.is_finite() {
                return Some((from + (to - from) * (wanted - below) / (count - below).max(1.0)) * 1000.0);
            }
            if to.is_finite() {
                (from, below) = (*to, *count);
            }
        }
        Some(from * 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP took_seconds x\n# TYPE took_seconds histogram\ntook_seconds_bucket{le=\"0.001\"} 100\n\
        took_seconds_bucket{le=\"0.002\"} 300\ntook_seconds_bucket{le=\"+Inf\"} 400\ntook_seconds_sum 0.5\n\
        took_seconds_count 400\ntook_seconds_more_sum 9\n";

    #[test]
    fn a_mean_and_quantiles_are_read_from_the_metrics() {
        let timing = Timing::read(TEXT, "took_seconds");
        assert_eq!(timing.mean_ms(), Some(1.25));
        assert_eq!(
            [0.0, 0.25, 0.5, 0.75, 1.0].map(|share| timing.quantile_ms(share).unwrap()),
            [0.0, 1.0, 1.5, 2.0, 2.0]
        );
        assert_eq!(Timing::read(TEXT, "other_seconds"), Timing::default());
        assert_eq!(Timing::default().quantile_ms(0.5), None);
    }

    #[test]
    fn what_came_before_is_left_out() {
        let before = Timing::read(TEXT, "took_seconds");
        assert_eq!(before.clone().since(&before).mean_ms(), None);
        let more = TEXT
            .replace("} 100", "} 110")
            .replace("} 300", "} 310")
            .replace("400", "410")
            .replace("0.5", "0.51");
        let since = Timing::read(&more, "took_seconds").since(&before);
        assert_eq!(since.quantile_ms(1.0), Some(1.0));
        assert!((since.mean_ms().unwrap() - 1.0).abs() < 1e-9);
    }
}
