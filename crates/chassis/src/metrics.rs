//! The metrics of a process: a registry that is handed around (there is no global one), what Prometheus reads from
//! it, and the figures that every process has. It measures nothing of what a service does.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Counter, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, TextEncoder,
};
use thiserror::Error;

/// Upper bounds, in seconds, for how long something took: 1 ms to 60 s.
pub const LATENCY_BUCKETS_S: &[f64] =
    &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0];

/// The media type of [`Registry::render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Why a metric cannot be registered or written: a mistake of the programmer, seen at the start of the process.
#[derive(Debug, Error)]
pub enum MetricsError {
    /// The name is taken by a metric of another kind or with other labels.
    #[error("metric `{0}` exists already, as another kind or with other labels")]
    Taken(String),
    /// A name or a label that Prometheus does not accept.
    #[error("metric not accepted")]
    Refused(#[from] prometheus::Error),
}

/// The metrics of one process. Clones are handles on the same registry.
///
/// Registering a name again with the same kind and labels gives the metric that is there, so that services that share
/// a process can share it.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    registry: prometheus::Registry,
    /// By name: a boxed `Registered<C>`.
    known: Mutex<HashMap<String, Box<dyn Any + Send + Sync>>>,
}

struct Registered<C> {
    labels: Vec<String>,
    collector: C,
}

impl Registry {
    /// A registry with `hookyard_build_info` and the figures of this process: CPU seconds, resident memory, open file
    /// descriptors (all three on Linux only) and uptime.
    ///
    /// # Errors
    /// None in practice: the names of these metrics are fixed.
    pub fn new(version: &str) -> Result<Self, MetricsError> {
        let known = Mutex::new(HashMap::new());
        let this = Self(Arc::new(Inner { registry: prometheus::Registry::new(), known }));
        let build = this.gauges("hookyard_build_info", "The build that runs; always 1.", &["version"])?;
        build.with_label_values(&[version]).set(1);
        this.0.registry.register(Box::new(ProcessFigures::new()?))?;
        Ok(this)
    }

    /// Counts what only grows.
    ///
    /// # Errors
    /// See [`MetricsError`]; the same holds for the other registrations.
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
        Ok(self.counters(name, help, &[])?.get_metric_with_label_values::<&str>(&[])?)
    }

    /// A counter for each combination of label values. Labels must have few values: no id, no URL.
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, MetricsError> {
        self.register(name, labels, || IntCounterVec::new(Opts::new(name, help), labels))
    }

    /// A whole number that goes up and down.
    pub fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        Ok(self.gauges(name, help, &[])?.get_metric_with_label_values::<&str>(&[])?)
    }

    /// A gauge for each combination of label values.
    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, MetricsError> {
        self.register(name, labels, || IntGaugeVec::new(Opts::new(name, help), labels))
    }

    /// A gauge that is read when Prometheus asks. `read` must be quick: it runs while the answer is written.
    pub fn read_gauge(
        &self,
        name: &str,
        help: &str,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> Result<(), MetricsError> {
        let gauge = Gauge::new(name, help)?;
        Ok(self.0.registry.register(Box::new(ReadGauge { gauge, read }))?)
    }

    /// How often values fell under each bound, usually [`LATENCY_BUCKETS_S`].
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, MetricsError> {
        Ok(self.histograms(name, help, &[], buckets)?.get_metric_with_label_values::<&str>(&[])?)
    }

    /// A histogram for each combination of label values.
    pub fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec, MetricsError> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.register(name, labels, || HistogramVec::new(options, labels))
    }

    /// All metrics in the text format of Prometheus.
    ///
    /// # Errors
    /// A metric that cannot be written, such as a family without a name.
    pub fn render(&self) -> Result<String, MetricsError> {
        Ok(TextEncoder::new().encode_to_string(&self.0.registry.gather())?)
    }

    fn register<C: Collector + Clone + Send + Sync + 'static>(
        &self,
        name: &str,
        labels: &[&str],
        make: impl FnOnce() -> prometheus::Result<C>,
    ) -> Result<C, MetricsError> {
        // A panic while the lock was held leaves a whole map: entries are only ever added.
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = known.get(name) {
            return match there.downcast_ref::<Registered<C>>() {
                Some(registered) if registered.labels == labels => Ok(registered.collector.clone()),
                Some(_) | None => Err(MetricsError::Taken(name.to_owned())),
            };
        }
        let collector = make()?;
        self.0.registry.register(Box::new(collector.clone()))?;
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        known.insert(name.to_owned(), Box::new(Registered { labels, collector: collector.clone() }));
        Ok(collector)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registry")
    }
}

struct ReadGauge<F> {
    gauge: Gauge,
    read: F,
}

impl<F: Fn() -> f64 + Send + Sync> Collector for ReadGauge<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.gauge.set((self.read)());
        self.gauge.collect()
    }
}

/// Named as Prometheus' own client libraries name them, so that common dashboards work.
struct ProcessFigures {
    started: Instant,
    uptime: Gauge,
    cpu: Counter,
    resident: IntGauge,
    open_files: IntGauge,
    /// Two scrapes at once must not both add the same CPU seconds.
    reading: Mutex<()>,
}

impl ProcessFigures {
    fn new() -> prometheus::Result<Self> {
        Ok(Self {
            started: Instant::now(),
            uptime: Gauge::new("process_uptime_seconds", "Seconds since the process started its metrics.")?,
            cpu: Counter::new("process_cpu_seconds_total", "CPU seconds used, in user and in system mode.")?,
            resident: IntGauge::new("process_resident_memory_bytes", "Resident memory in bytes.")?,
            open_files: IntGauge::new("process_open_fds", "Open file descriptors.")?,
            reading: Mutex::new(()),
        })
    }
}

impl Collector for ProcessFigures {
    fn desc(&self) -> Vec<&Desc> {
        let parts: [&dyn Collector; 4] = [&self.uptime, &self.cpu, &self.resident, &self.open_files];
        parts.iter().flat_map(|part| part.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _alone = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        self.uptime.set(self.started.elapsed().as_secs_f64());
        let mut families = self.uptime.collect();
        if let Some(seconds) = read("/proc/self/stat", cpu_seconds) {
            self.cpu.inc_by((seconds - self.cpu.get()).max(0.0));
            families.extend(self.cpu.collect());
        }
        if let Some(bytes) = read("/proc/self/status", resident_bytes) {
            self.resident.set(bytes);
            families.extend(self.resident.collect());
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            self.open_files.set(i64::try_from(entries.count()).unwrap_or(i64::MAX));
            families.extend(self.open_files.collect());
        }
        families
    }
}

fn read<T>(path: &str, parse: fn(&str) -> Option<T>) -> Option<T> {
    parse(&fs::read_to_string(path).ok()?)
}

/// proc(5): fields 14 and 15 of `/proc/PID/stat`. They are in units of 1/100 s on every Linux that we run on: asking
/// for it (`sysconf`) would need `unsafe`.
fn cpu_seconds(stat: &str) -> Option<f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    // The second field, the name of the program in brackets, may hold blanks and brackets.
    let (_pid_and_name, rest) = stat.rsplit_once(')')?;
    let mut times = rest.split_ascii_whitespace().skip(11).map(str::parse::<f64>);
    let (user, system) = (times.next()?.ok()?, times.next()?.ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

/// proc(5): the line `VmRSS:  1234 kB` of `/proc/PID/status`.
fn resident_bytes(status: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_rendered() {
        let registry = Registry::new("1.2.3").unwrap();
        registry.counter("things_total", "Things.").unwrap().inc_by(3);
        registry.counters("kinds_total", "Kinds.", &["kind"]).unwrap().with_label_values(&["a"]).inc();
        registry.gauge("depth", "Depth.").unwrap().set(-2);
        registry.read_gauge("level", "Level.", || 0.5).unwrap();
        registry.histogram("took_seconds", "Took.", LATENCY_BUCKETS_S).unwrap().observe(0.0015);
        let text = registry.render().unwrap();
        for line in [
            "things_total 3",
            "kinds_total{kind=\"a\"} 1",
            "depth -2",
            "level 0.5",
            "took_seconds_bucket{le=\"0.001\"} 0",
            "took_seconds_bucket{le=\"0.002\"} 1",
            "took_seconds_bucket{le=\"60\"} 1",
            "hookyard_build_info{version=\"1.2.3\"} 1",
            "# TYPE process_cpu_seconds_total counter",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert!(text.contains("process_uptime_seconds "), "{text}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_knows_itself() {
        let text = Registry::new("0").unwrap().render().unwrap();
        for name in ["process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"] {
            assert!(text.contains(&format!("\n{name} ")), "{name} is missing in\n{text}");
        }
    }

    #[test]
    fn a_name_is_shared_only_when_it_means_the_same() {
        let registry = Registry::new("0").unwrap();
        registry.counters("n_total", "N.", &["a"]).unwrap().with_label_values(&["x"]).inc();
        let again = registry.clone().counters("n_total", "N.", &["a"]).unwrap();
        again.with_label_values(&["x"]).inc();
        assert!(registry.render().unwrap().contains("n_total{a=\"x\"} 2"));
        assert!(matches!(registry.counters("n_total", "N.", &["b"]), Err(MetricsError::Taken(_))));
        assert!(matches!(registry.gauges("n_total", "N.", &["a"]), Err(MetricsError::Taken(_))));
        assert!(matches!(registry.counter("not a name", "N."), Err(MetricsError::Refused(_))));
    }

    #[test]
    fn proc_files_are_read_and_nonsense_is_not() {
        let stat = "42 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(resident_bytes("VmPeak:\t 1 kB\nVmRSS:\t    2048 kB\n"), Some(2_097_152));
        for nonsense in ["", ")", "1 (a) S", "VmRSS:", "VmRSS: x kB", "VmRSS: 99999999999999999999 kB"] {
            assert_eq!((cpu_seconds(nonsense), resident_bytes(nonsense)), (None, None), "{nonsense}");
        }
    }
}
