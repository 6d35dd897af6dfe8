//! Sends events to a target's ingest API, waits until the sink has seen all deliveries, reports.
//!
//! The sender puts `seq` and `sent_ns` into the payload; the sink reads them from whatever body it gets, so a target may
//! wrap the payload in an envelope.

mod report;
mod sender;
mod target;
mod template;

use std::{
    cell::RefCell,
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

pub(crate) use self::report::Report;
use self::{
    sender::{Plan, Sent, send},
    target::{Target, Vars, expand},
    template::{Template, Templates, UUID, payload},
};
use crate::{
    cost::{Counters, Proc, Watch},
    http,
    latency::now_ns,
    sink::Stats,
};

/// Settings of one run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The system under test: a TOML file, or the built-in sink, hookyard or hookyard-batch
    target: PathBuf,
    /// HOST:PORT of the ingest API, instead of the target's
    #[arg(long)]
    addr: Option<String>,
    /// Variable for the target's templates, as NAME=VALUE
    #[arg(short = 'v', long = "var")]
    vars: Vec<String>,
    /// Number of events
    #[arg(short, long, default_value_t = 20_000)]
    n: u64,
    /// Connections to the ingest API
    #[arg(short, long, default_value_t = 16)]
    conns: usize,
    /// Events per second; as fast as accepted when left out
    #[arg(short, long)]
    rate: Option<f64>,
    /// Payload size in bytes
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Plain endpoints to create
    #[arg(short, long, default_value_t = 1)]
    endpoints: usize,
    /// One more endpoint with this behaviour, e.g. delay_ms=2000 or fail=0.2
    #[arg(long = "endpoint")]
    special: Vec<String>,
    /// Address of the sink
    #[arg(long, default_value = "127.0.0.1:9100")]
    sink: String,
    /// Process tree to charge, as NAME=PID
    #[arg(short, long = "proc")]
    procs: Vec<Proc>,
    /// Postgres URL of the system's database, to measure growth
    #[arg(long)]
    db: Option<String>,
    /// Stop sending after this many seconds
    #[arg(long, default_value_t = 120)]
    max_s: u64,
    /// Wait at most this long for deliveries after the last event
    #[arg(long, default_value_t = 120)]
    wait_s: u64,
    /// Give up when nothing is delivered for this long
    #[arg(long, default_value_t = 15)]
    idle_s: u64,
    /// Wait for the plain endpoints only
    #[arg(long)]
    wait_plain: bool,
    /// Name of the case in the results
    #[arg(short, long, default_value = "")]
    label: String,
    /// Append the report to this file as a line of JSON
    #[arg(short, long)]
    out: Option<PathBuf>,
}

/// Makes one run and prints its report.
///
/// # Errors
/// When the target, the sink or a measured process is not there. Lost deliveries are reported, not errors.
pub(crate) async fn run(args: Args) -> Result<()> {
    let report = measure(&args).await?;
    report.print();
    match &args.out {
        Some(path) => report.append_to(path),
        None => Ok(()),
    }
}

async fn measure(args: &Args) -> Result<Report> {
    let mut target = Target::read(&args.target)?;
    if let Some(addr) = &args.addr {
        target.addr.clone_from(addr);
    }
    ensure!(args.n > 0 && args.n.is_multiple_of(target.batch), "n must be a multiple of batch");
    ensure!(args.rate.is_none_or(|rate| rate > 0.0), "rate must be positive");

    ask(&args.sink, "/reset").await?;
    let urls = endpoint_urls(args);
    ensure!(!urls.is_empty(), "no endpoints");
    let templates = prepare(args, &target, &urls).await?;

    let db_before = args.db.as_deref().map(Counters::read).transpose()?;
    let mut procs = args.procs.clone();
    let sink_pid = ask_number(&args.sink, "/pid").await? as u32;
    procs.push(Proc { name: "load".into(), pid: std::process::id() });
    procs.push(Proc { name: "sink".into(), pid: sink_pid });
    let watch = Rc::new(RefCell::new(Watch::start(&procs)?));
    let sampler = tokio::task::spawn_local({
        let watch = watch.clone();
        async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                watch.borrow_mut().sample();
            }
        }
    });

    let (start, start_ns) = (Instant::now(), now_ns());
    let plan = Plan {
        addr: target.addr.clone(),
        events: args.n,
        batch: target.batch,
        conns: args.conns,
        rate: args.rate,
        start,
        start_ns,
        deadline: start + Duration::from_secs(args.max_s),
    };
    let sent = send(plan, &templates).await?;
    let accept_s = start.elapsed().as_secs_f64();
    let fanout = target.fanout.unwrap_or(urls.len() as u64);
    let expected = sent.accepted.get() * fanout;
    if args.wait_plain {
        wait(args, "/settled/plain", sent.accepted.get() * args.endpoints as u64).await?;
    } else {
        wait(args, "/settled", expected).await?;
    }
    // Bookkeeping after the last delivery belongs to the cost too.
    tokio::time::sleep(Duration::from_millis(500)).await;
    sampler.abort();
    let _aborted = sampler.await;
    let watch = Rc::into_inner(watch).context("watch is shared")?.into_inner();
    let (usage, other_cpu_s) = watch.finish();
    let watched_s = start.elapsed().as_secs_f64();
    let db_after = args.db.as_deref().map(Counters::read).transpose()?;
    let sink: Stats = serde_json::from_slice(&ask(&args.sink, "/stats").await?)?;

    let mut report = rates(&sink, &sent, accept_s, start_ns);
    let delivered = sink.done.max(1) as f64;
    report.usage = usage;
    report.cpu_s_per_1000 = report.system_cpu_s() / delivered * 1000.0;
    if let (Some(before), Some(after)) = (db_before, db_after) {
        report.db_bytes_per_delivery = Some((after.size - before.size) as f64 / delivered);
        report.wal_bytes_per_delivery = Some((after.wal - before.wal) as f64 / delivered);
        report.commits_per_delivery = Some((after.commits - before.commits) as f64 / delivered);
    }
    Ok(Report {
        label: if args.label.is_empty() { target.name.clone() } else { args.label.clone() },
        target: target.name,
        n: args.n,
        conns: args.conns,
        rate: args.rate,
        endpoints: urls.len(),
        plain_endpoints: args.endpoints,
        expected,
        sink,
        other_cpu_s,
        watched_s,
        ..report
    })
}

fn endpoint_urls(args: &Args) -> Vec<String> {
    let plain = (0..args.endpoints).map(|_| String::new());
    let special = args.special.iter().map(|behaviour| format!("?{behaviour}"));
    let queries = plain.chain(special).enumerate();
    queries.map(|(i, query)| format!("http://{}/e/{i}{query}", args.sink)).collect()
}

/// Creates the endpoints and the requests that are sent for events.
async fn prepare(args: &Args, target: &Target, urls: &[String]) -> Result<Templates> {
    let mut vars: Vars = target.vars.clone();
    for var in &args.vars {
        let (name, value) = var.split_once('=').context("--var takes NAME=VALUE")?;
        vars.insert(name.into(), value.into());
    }
    target.set_up(&mut vars, urls).await?;
    let event = payload(args.size);
    vars.insert("payload_str".into(), event.replace('"', "\\\""));
    vars.insert("payload".into(), event);
    vars.insert("uuid".into(), UUID.into());
    if target.batch > 1 {
        let item = expand(&target.item, &vars)?;
        vars.insert("items".into(), vec![item; target.batch as usize].join(","));
    }
    let plain = Template::new(target.request("POST", &target.path, &target.body, &vars)?, target.batch)?;
    let repeatable = match target.repeatable(&vars)? {
        None => None,
        Some((every, bytes)) => Some((every, Template::new(bytes, target.batch)?)),
    };
    Ok(Templates { plain, repeatable })
}

/// Waits until the count at `path` of the sink is `expected`, or stands still, or `--wait-s` is over.
async fn wait(args: &Args, path: &str, expected: u64) -> Result<()> {
    let (mut last, mut last_at) = (0, Instant::now());
    let give_up = Instant::now() + Duration::from_secs(args.wait_s);
    loop {
        let settled = ask_number(&args.sink, path).await?;
        if settled != last {
            (last, last_at) = (settled, Instant::now());
        }
        let idle = last_at.elapsed() > Duration::from_secs(args.idle_s);
        if settled >= expected || idle || Instant::now() > give_up {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The part of the report that needs neither target nor cost.
fn rates(sink: &Stats, sent: &Sent, accept_s: f64, start_ns: u64) -> Report {
    let seconds_to = |ns: u64| (ns.saturating_sub(start_ns) as f64 / 1e9).max(1e-9);
    let (accepted, delivered) = (sent.accepted.get(), sink.done);
    let deliver_s = seconds_to(sink.total.last_ns);
    Report {
        accepted,
        statuses: sent.statuses.borrow().clone(),
        accept_s,
        accepted_per_s: accepted as f64 / accept_s,
        accept_ms: sent.latency.borrow().summary(),
        late_ms: sent.late.borrow().summary(),
        delivered,
        deliver_s,
        delivered_per_s: delivered as f64 / deliver_s,
        first_tries_per_s: sink.total.seen as f64 / seconds_to(sink.total.last_new_ns),
        ..Report::default()
    }
}

async fn ask(sink: &str, path: &str) -> Result<Vec<u8>> {
    let (status, body) = http::get(sink, path).await.with_context(|| format!("no sink at {sink}"))?;
    ensure!(status == 200, "sink answered {status} to {path}");
    Ok(body)
}

async fn ask_number(sink: &str, path: &str) -> Result<u64> {
    Ok(String::from_utf8(ask(sink, path).await?)?.parse()?)
}
