//! The suite: starts Hookyard, measures every case in both modes and in alternation, compares with the targets and leaves
//! nothing behind.
//!
//! Everything that is started or created is held by a value whose `Drop` ends or deletes it. Errors, panics and Ctrl-C all
//! drop the values, so there is one way to clean up.

mod case;
mod child;
mod cluster;
mod crowd;
mod inbox;
mod listeners;
mod million;
mod reference;
mod results;
mod rig;
mod rows;
mod scale;
mod server;
mod speed;
mod system;
mod table;
mod timing;
mod verdict;
mod workdir;

use std::path::PathBuf;

use anyhow::{Result, bail};

use self::{
    case::{Case, Shape},
    reference::STEP_POSTGRES,
    results::{Results, Run},
    rig::Rig,
    speed::Speed,
    system::Mode,
    workdir::WorkDir,
};

/// Settings of the suite.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The binary to measure, a release build
    #[arg(long, default_value = "target/release/hookyard")]
    hookyard: PathBuf,
    /// Postgres URL of a role that may create databases, for mode services
    #[arg(long, default_value = "postgres://postgres@127.0.0.1:5432/postgres")]
    database_url: String,
    /// AMQP URL of the broker for mode services; the suite adds a virtual host to it with rabbitmqctl and deletes it
    #[arg(long, default_value = "amqp://guest:guest@127.0.0.1:5672/")]
    amqp_url: String,
    /// Where `hookyard up` keeps its private Postgres, as a URL; {socket}, {port} and {data_dir} are filled in
    #[arg(long, default_value = "postgresql:///hookyard?host={socket}&port={port}&user=hookyard")]
    embedded_url: String,
    /// Cases to run; calibrate always runs
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Case::ALL)]
    cases: Vec<Case>,
    /// Modes to run the cases in
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Mode::ALL)]
    modes: Vec<Mode>,
    /// Runs of each case and mode, in alternation; 3 when left out, 1 with --quick
    #[arg(long)]
    runs: Option<usize>,
    /// Short smoke version: a tenth of the events, one run; its figures are no measurement
    #[arg(long)]
    quick: bool,
    /// Append every run to this file, a line of JSON each
    #[arg(short, long)]
    out: Option<PathBuf>,
    /// Folder for temporary files; every user must be able to enter it, because Postgres does not run as root
    #[arg(long, default_value = "/var/tmp")]
    work_dir: PathBuf,
    /// Keep the logs of the children even when all went well
    #[arg(long)]
    keep_logs: bool,
}

/// Runs the suite and prints its tables. Ctrl-C and SIGTERM stop it cleanly.
///
/// # Errors
/// When something cannot be started or measured; the text names the logs. A missed target is not an error.
pub(crate) async fn run(args: Args) -> Result<()> {
    let work = WorkDir::create(&args.work_dir)?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let measured = tokio::select! {
        result = Box::pin(measure(&args, &work)) => result,
        _ = tokio::signal::ctrl_c() => bail!("interrupted; everything that was started is stopped"),
        _ = terminate.recv() => bail!("terminated; everything that was started is stopped"),
    };
    if (args.keep_logs || measured.is_err()) && work.keep() {
        eprintln!("logs are in {}", work.path().display());
    }
    let results = measured?;
    println!("{}", table::render(&results));
    println!("{}", verdict::render(&results));
    Ok(())
}

async fn measure(args: &Args, work: &WorkDir) -> Result<Results> {
    let runs = args.runs.unwrap_or(if args.quick { 1 } else { 3 });
    let rig = Rig::new(args, work)?;
    let mut results = Results::new(args.quick);
    for run in 1..=runs {
        let calibrate = Case::calibrate_shape(args.quick);
        let report = rig.calibrate(&calibrate).await?;
        let rows = rows::measure(&args.database_url, &rig.folder()?, args.quick)
            .await
            .inspect_err(|error| eprintln!("how fast Postgres is on this machine is not known: {error:#}"))
            .ok();
        let speed = Speed::of_round(&report, rows.as_ref());
        for report in [report].into_iter().chain(rows) {
            record(&mut results, Run { mode: None, run, report }, args)?;
        }
        for case in args.cases.iter().copied().filter(|case| *case != Case::Calibrate) {
            for mode in args.modes.iter().copied() {
                let reports = match (case, mode) {
                    (Case::Listeners, _) => vec![rig.listen(mode, args.quick).await?],
                    (Case::Inbox, _) => vec![rig.drain(mode, args.quick).await?],
                    (Case::Scale, Mode::Services) => Box::pin(scale::measure(&rig, args.quick)).await?,
                    // The registry is no process of its own.
                    (Case::Scale, Mode::Up) => Vec::new(),
                    (Case::Million, _) => Box::pin(rig.million(mode, args.quick)).await?,
                    _ => {
                        let speed = if case == Case::Step { speed.with(STEP_POSTGRES) } else { 1.0 };
                        let shapes = case.shapes(args.quick).into_iter().map(|shape| shape.in_step(speed));
                        rig.measure(mode, &shapes.collect::<Vec<Shape>>()).await?
                    }
                };
                for report in reports {
                    record(&mut results, Run { mode: Some(mode), run, report }, args)?;
                }
            }
        }
    }
    Ok(results)
}

fn record(results: &mut Results, run: Run, args: &Args) -> Result<()> {
    eprintln!("{}", table::progress(&run));
    if let Some(path) = &args.out {
        run.append_to(path)?;
    }
    results.add(run);
    Ok(())
}
