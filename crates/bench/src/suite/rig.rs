//! One measurement: a fresh sink and a fresh Hookyard, a warm-up, the load runs of a case.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{
    Args,
    case::{Case, Posts, Shape},
    child::Process,
    inbox, listeners, million,
    system::{Mode, Plan, System, free_addresses},
    timing::SIGNING,
    workdir::WorkDir,
};
use crate::{cost::Proc, http, load::Report};

/// Events of the warm-up, to plain endpoints of another tenant.
const WARM_UP_EVENTS: u64 = 2_000;
const WARM_UP_CONNS: usize = 16;
/// A run of the failing case has its last retry 9 s after the try before; nothing is quiet for longer.
const IDLE_S: u64 = 13;

/// What all measurements share.
pub(crate) struct Rig<'a> {
    args: &'a Args,
    work: &'a WorkDir,
    bench: PathBuf,
    hookyard: PathBuf,
}

/// Where one load run sends its events and who pays.
struct Aim<'a> {
    target: &'a [String],
    procs: &'a [Proc],
    database_url: Option<&'a str>,
}

impl<'a> Rig<'a> {
    /// Looks for the binaries.
    ///
    /// # Errors
    /// When the binary to measure is not there though a case needs it.
    pub(crate) fn new(args: &'a Args, work: &'a WorkDir) -> Result<Self> {
        let only_calibrate = args.cases.iter().all(|case| *case == super::Case::Calibrate);
        // Absolute, because the children run in another folder.
        let hookyard = match args.hookyard.canonicalize() {
            Err(_) if only_calibrate => args.hookyard.clone(),
            found => found.with_context(|| format!("no binary at {}", args.hookyard.display()))?,
        };
        let bench = std::env::current_exe().context("cannot find this program")?;
        Ok(Self { args, work, bench, hookyard })
    }

    /// The machine's own limit: load straight to sink.
    ///
    /// # Errors
    /// When a child fails; the text shows its log.
    pub(crate) async fn calibrate(&self, shape: &Shape) -> Result<Report> {
        let folder = self.folder()?;
        let (_sink, address) = self.start_sink(&folder).await?;
        let target = ["sink".into(), "--addr".into(), address.to_string()];
        let aim = Aim { target: &target, procs: &[], database_url: None };
        self.load(shape, &aim, address, &folder).await
    }

    /// Starts Hookyard in `mode` and runs `shapes` on it, each as a tenant of its own.
    ///
    /// # Errors
    /// When a child fails; the text shows its log.
    pub(crate) async fn measure(&self, mode: Mode, shapes: &[Shape]) -> Result<Vec<Report>> {
        let folder = self.folder()?;
        // The sink is declared first so that it outlives the system that sends to it.
        let (_sink, sink) = self.start_sink(&folder).await?;
        let mut system = System::start(mode, &self.plan(&folder, sink)).await?;
        let procs = system.charged()?;
        let plain = shapes.first().map_or(1, |shape| shape.plain.max(1));
        let warm_up = Shape {
            label: "warm-up",
            events: WARM_UP_EVENTS,
            conns: WARM_UP_CONNS,
            rate: None,
            plain,
            special: None,
            posts: match shapes.first().map_or(Posts::Events, |shape| shape.posts) {
                Posts::Events | Posts::Limited => Posts::Events,
                posts @ (Posts::Tasks | Posts::Runs) => posts,
            },
        };
        let mut reports = Vec::new();
        for shape in [&warm_up].into_iter().chain(shapes) {
            let target = target(shape, system.api, &system.make_key(shape.posts == Posts::Limited)?);
            let aim = Aim { target: &target, procs: &procs, database_url: Some(&system.database_url) };
            let before = system.timing("delivery", SIGNING).await?;
            let measured = self.load(shape, &aim, sink, &folder).await;
            // A dead service explains a failed run better than the run does.
            system.check()?;
            let signing_ms = system.timing("delivery", SIGNING).await?.since(&before).mean_ms();
            reports.push(Report { signing_ms, ..measured? });
        }
        // Only the runs of the case count.
        reports.remove(0);
        Ok(reports)
    }

    /// Starts Hookyard in `mode`, with those who listen and wait.
    ///
    /// # Errors
    /// When a child fails or one of them is not served.
    pub(crate) async fn listen(&self, mode: Mode, quick: bool) -> Result<Report> {
        let folder = self.folder()?;
        let [nowhere] = free_addresses()?;
        let mut system = System::start(mode, &self.plan(&folder, nowhere)).await?;
        let measured = Box::pin(listeners::measure(&system, quick)).await;
        system.check()?;
        measured
    }

    /// Starts Hookyard in `mode`, with an inbox that is filled and drained.
    ///
    /// # Errors
    /// When a child fails or a message is not acknowledged exactly once.
    pub(crate) async fn drain(&self, mode: Mode, quick: bool) -> Result<Report> {
        let folder = self.folder()?;
        let [nowhere] = free_addresses()?;
        let mut system = System::start(mode, &self.plan(&folder, nowhere)).await?;
        let measured = Box::pin(inbox::measure(&system, quick)).await;
        system.check()?;
        measured
    }

    /// Starts Hookyard in `mode` twice, with next to nothing and with a million events stored, and measures what each accepts and lists, in
    /// turns: a machine that changes its speed changes it for both. Which of them accepts first changes with every turn. The lists
    /// are asked for once, and told with every turn.
    ///
    /// # Errors
    /// When a child fails, Postgres refuses, or a list is not answered.
    pub(crate) async fn million(&self, mode: Mode, quick: bool) -> Result<Vec<Report>> {
        let folders = [self.folder()?, self.folder()?];
        let (_sink, sink) = self.start_sink(&folders[0]).await?;
        let [few, many] = &folders;
        let mut systems = [
            System::start(mode, &self.plan(few, sink)).await?,
            System::start(mode, &self.plan(many, sink)).await?,
        ];
        let shapes = Case::Million.shapes(quick);
        let lists = million::lists(&systems, quick).await?;
        // Both begin with a warm-up.
        let warm_up =
            Shape { label: "warm-up", events: WARM_UP_EVENTS, conns: WARM_UP_CONNS, ..shapes[0].clone() };
        for (system, folder) in systems.iter().zip(&folders) {
            self.load_on(system, &warm_up, &system.make_key(false)?, sink, folder).await?;
        }
        let mut reports = Vec::new();
        for turn in 0..million::TURNS {
            for at in if turn % 2 == 0 { [0, 1] } else { [1, 0] } {
                let (system, folder) = (&mut systems[at], &folders[at]);
                let key = system.make_key(false)?;
                let measured = self.load_on(system, &shapes[at], &key, sink, folder).await;
                system.check()?;
                reports.push(Report { lists: lists[at].clone(), ..measured? });
            }
        }
        Ok(reports)
    }

    pub(super) fn plan<'p>(&'p self, folder: &'p Path, sink: SocketAddr) -> Plan<'p> {
        Plan {
            hookyard: &self.hookyard,
            folder,
            database_url: &self.args.database_url,
            amqp_url: &self.args.amqp_url,
            embedded_url: &self.args.embedded_url,
            sink,
            foresight: true,
        }
    }

    /// A new folder for the logs and data of one measurement.
    pub(super) fn folder(&self) -> Result<PathBuf> {
        let taken = fs::read_dir(self.work.path())?.count();
        let folder = self.work.path().join(format!("{:03}", taken + 1));
        fs::create_dir(&folder)?;
        Ok(folder)
    }

    pub(super) async fn start_sink(&self, folder: &Path) -> Result<(Process, SocketAddr)> {
        let [address] = free_addresses()?;
        let mut command = Command::new(&self.bench);
        command.args(["sink", "--listen", &address.to_string()]);
        let mut sink = Process::start("sink", command, folder.join("sink.log"))?;
        let deadline = Instant::now() + Duration::from_secs(5);
        while http::get(&address.to_string(), "/pid").await.is_err() {
            sink.check()?;
            ensure!(Instant::now() < deadline, "the sink does not answer");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok((sink, address))
    }

    /// One load run on a system, with this key.
    ///
    /// # Errors
    /// When the load fails; the text shows its log.
    pub(super) async fn load_on(
        &self,
        system: &System,
        shape: &Shape,
        key: &str,
        sink: SocketAddr,
        folder: &Path,
    ) -> Result<Report> {
        let (target, procs) = (target(shape, system.api, key), system.charged()?);
        let aim = Aim { target: &target, procs: &procs, database_url: Some(&system.database_url) };
        self.load(shape, &aim, sink, folder).await
    }

    /// One load run, in a process of its own: its CPU time must not mix with the suite's.
    async fn load(&self, shape: &Shape, aim: &Aim<'_>, sink: SocketAddr, folder: &Path) -> Result<Report> {
        let out = folder.join("report.json");
        let mut command = Command::new(&self.bench);
        command.arg("load").args(aim.target).args(["--sink", &sink.to_string(), "--label", shape.label]);
        command.args(["-n", &shape.events.to_string(), "-c", &shape.conns.to_string()]);
        command.args(["-e", &shape.plain.to_string(), "--idle-s", &IDLE_S.to_string()]);
        command.arg("--out").arg(&out);
        if let Some(rate) = shape.rate {
            command.args(["--rate", &rate.to_string()]);
        }
        if let Some(special) = shape.special {
            command.args(["--endpoint", special]);
        }
        if shape.leaves_backlog() {
            command.arg("--wait-plain");
        }
        for proc in aim.procs {
            command.args(["--proc", &format!("{}={}", proc.name, proc.pid)]);
        }
        if let Some(url) = aim.database_url {
            command.args(["--db", url]);
        }
        Process::start("load", command, folder.join("load.log"))?.finished().await?;
        let text = fs::read_to_string(&out).context("the load wrote no report")?;
        fs::remove_file(&out)?;
        serde_json::from_str(&text).context("the load's report is not valid")
    }
}

fn target(shape: &Shape, api: SocketAddr, key: &str) -> [String; 5] {
    [shape.posts.target().into(), "--addr".into(), api.to_string(), "--var".into(), format!("key={key}")]
}
