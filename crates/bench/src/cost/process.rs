//! CPU time and memory of processes, from `/proc` (proc(5)). Linux only.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// Unit of the CPU times in `/proc`: USER_HZ, which is 100 on every Linux.
const TICKS_PER_S: f64 = 100.0;

#[derive(Clone, Copy, Default)]
struct Stat {
    parent: u32,
    /// Own CPU time, in ticks.
    own: u64,
    /// CPU time of children that ended, in ticks.
    reaped: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Stat> {
    // Field 2, the name, may hold spaces and parentheses: count from its closing one.
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let number = |i: usize| fields.get(i).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
    Some(Stat { parent: number(1) as u32, own: number(11) + number(12), reaped: number(13) + number(14) })
}

fn status_kib(pid: u32, name: &str) -> u64 {
    fs::read_to_string(format!("/proc/{pid}/status"))
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse().ok()
        })
        .unwrap_or(0)
}

/// The memory of a process that is in RAM at the moment, in bytes; 0 when there is no such process.
pub(crate) fn rss_bytes(pid: u32) -> u64 {
    status_kib(pid, "VmRSS:") * 1024
}

fn command_name(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim().into())
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn all_stats() -> HashMap<u32, Stat> {
    pids().filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

/// The parent of a process; None when there is no such process.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    stat(pid).map(|stat| stat.parent)
}

/// Whether process `pid` exists and its executable is called `name`.
pub(crate) fn is_alive(pid: u32, name: &str) -> bool {
    command_name(pid).is_some_and(|found| found == name)
}

/// The processes whose executable is called `name`, lowest id first.
pub(crate) fn named(name: &str) -> Vec<u32> {
    let mut found: Vec<u32> = pids().filter(|pid| is_alive(*pid, name)).collect();
    found.sort_unstable();
    found
}

/// CPU seconds that all processes of the machine used, idle and I/O wait left out.
fn machine_cpu_s() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let values: Vec<f64> = line.split_whitespace().skip(1).filter_map(|value| value.parse().ok()).collect();
    let idle = values.get(3).unwrap_or(&0.0) + values.get(4).unwrap_or(&0.0);
    (values.iter().take(8).sum::<f64>() - idle) / TICKS_PER_S
}

/// A process that is charged by name with all its descendants, except those that are charged by a name of their own.
#[derive(Clone, Debug)]
pub(crate) struct Proc {
    /// Name in the report.
    pub(crate) name: String,
    /// Process id.
    pub(crate) pid: u32,
}

impl std::str::FromStr for Proc {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, pid) = text.split_once('=').context("expected NAME=PID")?;
        Ok(Self { name: name.into(), pid: pid.trim().parse()? })
    }
}

/// Cost of one process tree.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// CPU seconds, user and system.
    pub(crate) cpu_s: f64,
    /// Largest sum of anonymous memory over the tree that was seen, in MiB.
    pub(crate) peak_anon_mib: f64,
    /// Peak RSS of the root process since it started, in MiB.
    pub(crate) root_peak_rss_mib: f64,
}

struct Tracked {
    proc: Proc,
    start_ticks: u64,
    peak_anon_kib: u64,
}

/// Watches processes from [`Watch::start`] to [`Watch::finish`].
pub(crate) struct Watch {
    tracked: Vec<Tracked>,
    roots: HashSet<u32>,
    machine_start_s: f64,
}

/// `root` with its descendants, without the subtrees of other `roots`.
fn tree(root: u32, roots: &HashSet<u32>, all: &HashMap<u32, Stat>) -> Vec<u32> {
    let mut out = vec![root];
    let mut i = 0;
    while i < out.len() {
        let parent = out[i];
        let children = all.iter().filter(|(pid, stat)| stat.parent == parent && !roots.contains(pid));
        out.extend(children.map(|(pid, _)| *pid));
        i += 1;
    }
    out
}

fn ticks(root: u32, roots: &HashSet<u32>, all: &HashMap<u32, Stat>) -> u64 {
    tree(root, roots, all).iter().filter_map(|pid| all.get(pid)).map(|stat| stat.own + stat.reaped).sum()
}

impl Watch {
    /// Starts to charge `procs`.
    ///
    /// # Errors
    /// When one of them does not exist.
    pub(crate) fn start(procs: &[Proc]) -> Result<Self> {
        let all = all_stats();
        let roots: HashSet<u32> = procs.iter().map(|proc| proc.pid).collect();
        let mut tracked = Vec::new();
        for proc in procs {
            if !all.contains_key(&proc.pid) {
                bail!("no process {} for {}", proc.pid, proc.name);
            }
            let start_ticks = ticks(proc.pid, &roots, &all);
            tracked.push(Tracked { proc: proc.clone(), start_ticks, peak_anon_kib: 0 });
        }
        Ok(Self { tracked, roots, machine_start_s: machine_cpu_s() })
    }

    /// Looks at the memory; to be called about once a second.
    pub(crate) fn sample(&mut self) {
        let all = all_stats();
        for tracked in &mut self.tracked {
            let tree = tree(tracked.proc.pid, &self.roots, &all);
            let kib = tree.iter().map(|pid| status_kib(*pid, "RssAnon:")).sum();
            tracked.peak_anon_kib = tracked.peak_anon_kib.max(kib);
        }
    }

    /// Usage by name, and the CPU seconds of everything else on the machine.
    pub(crate) fn finish(mut self) -> (BTreeMap<String, Usage>, f64) {
        self.sample();
        let all = all_stats();
        let mut other_s = machine_cpu_s() - self.machine_start_s;
        let mut usage = BTreeMap::new();
        for tracked in self.tracked {
            let now = ticks(tracked.proc.pid, &self.roots, &all);
            let cpu_s = now.saturating_sub(tracked.start_ticks) as f64 / TICKS_PER_S;
            other_s -= cpu_s;
            let peak_anon_mib = tracked.peak_anon_kib as f64 / 1024.0;
            let root_peak_rss_mib = status_kib(tracked.proc.pid, "VmHWM:") as f64 / 1024.0;
            usage.insert(tracked.proc.name, Usage { cpu_s, peak_anon_mib, root_peak_rss_mib });
        }
        (usage, other_s.max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let stat = parse_stat("42 (a (b) c) S 7 1 1 0 -1 0 1 2 3 4 10 20 30 40 20 0").unwrap();
        assert_eq!((stat.parent, stat.own, stat.reaped), (7, 30, 70));
    }

    #[test]
    fn a_tree_ends_where_another_charged_tree_begins() {
        let stat = |parent| Stat { parent, ..Stat::default() };
        let all = HashMap::from([(1, stat(0)), (2, stat(1)), (3, stat(2)), (4, stat(1)), (5, stat(4))]);
        let sorted = |root, roots: &[u32]| {
            let mut tree = tree(root, &roots.iter().copied().collect(), &all);
            tree.sort_unstable();
            tree
        };
        assert_eq!(sorted(1, &[1]), [1, 2, 3, 4, 5]);
        assert_eq!(sorted(1, &[1, 4]), [1, 2, 3]);
        assert_eq!(sorted(4, &[1, 4]), [4, 5]);
    }

    #[test]
    fn this_process_has_a_parent_and_a_cost() {
        let pid = std::process::id();
        assert!(parent(pid).is_some());
        let watch = Watch::start(&[Proc { name: "own".into(), pid }]).unwrap();
        let (usage, _) = watch.finish();
        assert!(usage["own"].root_peak_rss_mib > 0.5);
        assert!(Watch::start(&[Proc { name: "none".into(), pid: u32::MAX }]).is_err());
    }
}
