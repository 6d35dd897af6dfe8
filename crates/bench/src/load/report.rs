//! The report of one load run: a line of JSON for machines, some lines of text for people.

use std::{collections::BTreeMap, fs, io::Write, path::Path};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::{cost::Usage, latency::Summary, sink::Stats};

/// One run. Rates are per second from the first event sent; costs are per delivery, an event answered 200 by an endpoint.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Name of the case.
    pub(crate) label: String,
    /// Name of the target.
    pub(crate) target: String,
    /// Events that were to be sent.
    pub(crate) n: u64,
    /// Connections to the ingest API.
    pub(crate) conns: usize,
    /// Events per second that were asked for.
    pub(crate) rate: Option<f64>,
    /// Endpoints, plain and special.
    pub(crate) endpoints: usize,
    /// Endpoints without a behaviour of their own.
    pub(crate) plain_endpoints: usize,
    /// Events answered 2xx.
    pub(crate) accepted: u64,
    /// Events by status of the answer; 0 is a transport error.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// Seconds until the last event was answered.
    pub(crate) accept_s: f64,
    /// Accepted events per second.
    pub(crate) accepted_per_s: f64,
    /// Time from request to answer.
    pub(crate) accept_ms: Summary,
    /// How late events were sent that were due at a fixed rate, where a connection was free: the load generator's own share of the latency
    /// end to end.
    #[serde(default)]
    pub(crate) late_ms: Summary,
    /// Deliveries that the accepted events cause.
    pub(crate) expected: u64,
    /// Distinct deliveries answered 200.
    pub(crate) delivered: u64,
    /// Seconds until the last request reached the sink.
    pub(crate) deliver_s: f64,
    /// Distinct deliveries answered 200 per second.
    pub(crate) delivered_per_s: f64,
    /// First tries per second, until the last first try.
    pub(crate) first_tries_per_s: f64,
    /// What the sink saw.
    pub(crate) sink: Stats,
    /// Cost by process tree.
    pub(crate) usage: BTreeMap<String, Usage>,
    /// CPU seconds of the system under test (all trees but load and sink) per 1,000 deliveries.
    pub(crate) cpu_s_per_1000: f64,
    /// CPU seconds that no tracked process used: noise.
    pub(crate) other_cpu_s: f64,
    /// Seconds over which CPU time was counted.
    pub(crate) watched_s: f64,
    /// Growth of the database.
    pub(crate) db_bytes_per_delivery: Option<f64>,
    /// Write-ahead log of the server.
    pub(crate) wal_bytes_per_delivery: Option<f64>,
    /// Committed transactions.
    pub(crate) commits_per_delivery: Option<f64>,
    /// Signing the token of a callback, in ms of computing; None where none was signed.
    #[serde(default)]
    pub(crate) signing_ms: Option<f64>,
    /// Making the deliveries of an event, 99th percentile in ms, as the registry tells; of the case `scale`.
    #[serde(default)]
    pub(crate) fan_out_p99_ms: Option<f64>,
    /// Memory that a registry needs for each subscription, in bytes; of one run of the case `scale`.
    #[serde(default)]
    pub(crate) bytes_per_subscription: Option<f64>,
    /// Seconds until an event for 10,000 hooks had arrived at all of them; of one run of the case `scale`.
    #[serde(default)]
    pub(crate) crowd_s: Option<f64>,
    /// Time from request to answer of lists, by name; empty where none was asked for.
    #[serde(default)]
    pub(crate) lists: BTreeMap<String, Summary>,
}

impl Report {
    /// CPU seconds of one process tree per 1,000 deliveries; None when it was not tracked.
    pub(crate) fn cpu_per_1000(&self, name: &str) -> Option<f64> {
        self.usage.get(name).map(|usage| usage.cpu_s / self.delivered.max(1) as f64 * 1000.0)
    }

    /// CPU seconds of the system under test: all trees but those of the load and the sink.
    pub(crate) fn system_cpu_s(&self) -> f64 {
        let system = self.usage.iter().filter(|(name, _)| !["load", "sink"].contains(&name.as_str()));
        // A sum of nothing is -0.
        system.fold(0.0, |sum, (_, usage)| sum + usage.cpu_s)
    }

    /// Share (0 to 1) of Postgres in the CPU time of the system under test, or of `all` that was counted, load and sink among it; 0 when
    /// nothing was.
    pub(crate) fn share_of_postgres(&self, all: bool) -> f64 {
        let counted =
            if all { self.usage.values().map(|usage| usage.cpu_s).sum() } else { self.system_cpu_s() };
        self.usage.get("postgres").map_or(0.0, |usage| usage.cpu_s / counted.max(f64::MIN_POSITIVE))
    }

    /// Share (0 to 1) of the machine's `cores` that other processes used during the run.
    pub(crate) fn noise(&self, cores: usize) -> f64 {
        self.other_cpu_s / (self.watched_s * cores as f64).max(0.001)
    }

    /// Events that were not answered 2xx.
    pub(crate) fn refused(&self) -> u64 {
        self.statuses.values().sum::<u64>().saturating_sub(self.accepted)
    }

    /// Appends one line of JSON to the file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn append_to(&self, path: &Path) -> Result<()> {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path)?;
        writeln!(file, "{}", serde_json::to_string(self)?)?;
        Ok(())
    }

    /// Prints the report for people.
    pub(crate) fn print(&self) {
        let ms =
            |s: &Summary| format!("p50 {:.1} p95 {:.1} p99 {:.1} max {:.1} ms", s.p50, s.p95, s.p99, s.max);
        let total = &self.sink.total;
        println!("== {} n={} conns={} endpoints={}", self.label, self.n, self.conns, self.endpoints);
        println!(
            "accepted   {} in {:.2} s = {:.0}/s; {} {:?}",
            self.accepted,
            self.accept_s,
            self.accepted_per_s,
            ms(&self.accept_ms),
            self.statuses
        );
        println!(
            "delivered  {} of {} in {:.2} s = {:.0}/s; first tries {:.0}/s",
            self.delivered, self.expected, self.deliver_s, self.delivered_per_s, self.first_tries_per_s
        );
        println!("end to end {}; first try {}", ms(&total.success), ms(&total.first_try));
        if self.rate.is_some() {
            println!("           of which events were sent late: {}", ms(&self.late_ms));
        }
        println!(
            "sink       {} requests, {} failed on purpose, {} duplicates, {} unparsed, {} given up",
            total.requests, total.failed, total.duplicates, total.unparsed, total.given_up
        );
        for gap in &total.gaps {
            println!(
                "retry {}    {} after p5 {:.0} p50 {:.0} p95 {:.0} ms, due after {} ms; {:.1} % on time",
                gap.retry,
                gap.count,
                gap.p5,
                gap.p50,
                gap.p95,
                gap.step_ms,
                gap.on_time * 100.0
            );
        }
        for (name, usage) in &self.usage {
            println!(
                "cpu        {name}: {:.2} s = {:.3} s/1000; anon {:.0} MiB, root RSS {:.0} MiB",
                usage.cpu_s,
                self.cpu_per_1000(name).unwrap_or(0.0),
                usage.peak_anon_mib,
                usage.root_peak_rss_mib
            );
        }
        println!(
            "cpu        system {:.3} s/1000; other processes {:.2} s",
            self.cpu_s_per_1000, self.other_cpu_s
        );
        if let (Some(db), Some(wal), Some(commits)) =
            (self.db_bytes_per_delivery, self.wal_bytes_per_delivery, self.commits_per_delivery)
        {
            println!("database   per delivery: {db:.0} B, WAL {wal:.0} B, {commits:.2} commits");
        }
    }
}
