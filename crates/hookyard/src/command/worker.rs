//! `hookyard worker`: the reference worker. It takes tasks from a gateway and runs a command for each: the task as JSON on its
//! standard input, what it prints as output and result.
//!
//! It is a client of the public protocol (docs/tasks.md) and knows neither database nor broker.

mod api;
mod kept;
mod task;
mod template;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use hookyard_chassis::shutdown;
use hookyard_domain::task::AgentType;
use serde_json::{Value, json};
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;
use url::Url;

use self::{
    api::{Api, Trouble},
    task::Job,
    template::Template,
};
use crate::{process, settings::Settings};

/// How long a claim waits at the gateway.
const WAIT_S: u64 = 25;
/// Tasks of one claim at most.
const MAX_CLAIMED: usize = 10;
/// How long a claim that is under way may take when the worker stops.
const LAST_CLAIM: Duration = Duration::from_secs(3);
/// Waits between attempts while the gateway cannot be reached: doubled from the first to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where the gateway is: https://hookyard.example.com
    #[arg(long, env = "HOOKYARD_URL")]
    url: Url,
    /// The worker token (`wk_…`). Better in the environment, where other users do not see it.
    #[arg(long, env = "HOOKYARD_WORKER_TOKEN", hide_env_values = true)]
    token: String,
    /// The command to run for each task. It is split into words as a shell would and run without one; in each word {title},
    /// {task_id}, {run_id}, {agent_type} and {model} are replaced.
    #[arg(long)]
    exec: String,
    /// Types of tasks to take: general, plan, build, explore; several with commas or repeated. Default: all that the token
    /// allows.
    #[arg(long = "agent-type", value_delimiter = ',')]
    agent_types: Vec<AgentType>,
    /// Models of tasks to take. Default: all that the token allows.
    #[arg(long = "model", value_delimiter = ',')]
    models: Vec<String>,
    /// What else this worker is able to do; tasks that ask for capabilities go to workers that have all of them.
    #[arg(long = "capability", value_delimiter = ',')]
    capabilities: Vec<String>,
    /// Tasks at the same time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    slots: u16,
    /// What the worker calls itself. Default: the name of the machine and the number of the process.
    #[arg(long)]
    name: Option<String>,
    /// Seconds between SIGTERM and SIGKILL for a command that has to end.
    #[arg(long, default_value_t = 10)]
    grace_seconds: u32,
    /// Seconds that commands may still run after the worker was told to stop; then they are ended, and their tasks given back.
    #[arg(long, default_value_t = 30)]
    drain_seconds: u32,
}

pub(crate) fn run(arguments: Arguments, settings: Settings) -> anyhow::Result<()> {
    let template = Template::parse(&arguments.exec).context("--exec cannot be used")?;
    process::block_on(&settings.clone(), async move {
        let api = Api::new(&settings.egress, &arguments.url, &arguments.token)?;
        let stop = CancellationToken::new();
        shutdown::on_signals(stop.clone())?;
        let worker = Worker {
            name: arguments.name.unwrap_or_else(own_name),
            agent_types: arguments.agent_types,
            models: arguments.models,
            capabilities: arguments.capabilities,
            slots: Arc::new(Semaphore::new(arguments.slots.into())),
            job: Arc::new(Job {
                api,
                template,
                grace: Duration::from_secs(arguments.grace_seconds.into()),
                give_up: CancellationToken::new(),
            }),
        };
        worker.work(stop, Duration::from_secs(arguments.drain_seconds.into())).await
    })
}

fn own_name() -> String {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let machine = if machine.trim().is_empty() { "worker" } else { machine.trim() };
    format!("{}-{}", machine.chars().take(60).collect::<String>(), std::process::id())
}

/// The worker.
struct Worker {
    name: String,
    agent_types: Vec<AgentType>,
    models: Vec<String>,
    capabilities: Vec<String>,
    slots: Arc<Semaphore>,
    job: Arc<Job>,
}

impl Worker {
    /// Takes and does tasks until it is told to stop.
    async fn work(self, stop: CancellationToken, patience: Duration) -> anyhow::Result<()> {
        let mut running = JoinSet::new();
        tracing::info!(worker = self.name, "the worker takes tasks");
        let outcome = self.take(&stop, &mut running).await;
        let drained = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, drained).await.is_err() {
            tracing::info!(
                tasks = running.len(),
                "commands that still run are ended, their tasks given back"
            );
            self.job.give_up.cancel();
        }
        while running.join_next().await.is_some() {}
        tracing::info!(worker = self.name, "the worker has stopped");
        outcome
    }

    async fn take(&self, stop: &CancellationToken, running: &mut JoinSet<()>) -> anyhow::Result<()> {
        let mut pause = BACKOFF.0;
        loop {
            while running.try_join_next().is_some() {}
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                first = Arc::clone(&self.slots).acquire_owned() => first?,
            };
            let mut slots = vec![first];
            while slots.len() < MAX_CLAIMED
                && let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned()
            {
                slots.push(slot);
            }
            match self.claim(slots.len(), stop).await {
                Ok(tasks) => {
                    pause = BACKOFF.0;
                    for task in tasks {
                        let (job, slot) = (Arc::clone(&self.job), slots.pop());
                        running.spawn(async move {
                            Box::pin(job.run(task)).await;
                            drop(slot);
                        });
                    }
                }
                Err(Trouble::Refused { status, text }) if matches!(status, 400..=407 | 422) => {
                    bail!("the gateway refuses this worker with {status}: {text}");
                }
                Err(trouble) if !stop.is_cancelled() => {
                    tracing::warn!(error = %trouble, "the gateway gives no tasks, the worker asks again");
                    drop(slots);
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = tokio::time::sleep(pause) => pause = (pause * 2).min(BACKOFF.1),
                    }
                }
                Err(_trouble) => {}
            }
        }
        self.drain().await;
        Ok(())
    }

    /// Tasks, as the gateway gives them. Whoever is told to stop lets a claim that is under way come to its end: what it
    /// brings is ours.
    async fn claim(&self, limit: usize, stop: &CancellationToken) -> Result<Vec<Value>, Trouble> {
        let mut worker = json!({"name": self.name, "version": env!("CARGO_PKG_VERSION"), "capabilities": self.capabilities});
        if !self.agent_types.is_empty() {
            worker["agent_types"] = self.agent_types.iter().map(|agent| agent.as_str()).collect();
        }
        if !self.models.is_empty() {
            worker["models"] = self.models.clone().into();
        }
        let body = json!({"worker": worker, "limit": limit, "wait_seconds": WAIT_S});
        let claim = self.job.api.post("claim", None, &body, Duration::from_secs(WAIT_S + 15));
        tokio::pin!(claim);
        let answer = tokio::select! {
            answer = &mut claim => answer,
            () = stop.cancelled() => {
                self.drain().await;
                let late = Trouble::Unreachable("the worker stops".to_owned());
                tokio::time::timeout(LAST_CLAIM, claim).await.unwrap_or(Err(late))
            }
        };
        answer.map(|answer| answer["tasks"].as_array().cloned().unwrap_or_default())
    }

    /// Tells the gateway that this worker takes nothing new; without that it would see so itself, later.
    async fn drain(&self) {
        let body = json!({"name": self.name});
        if let Err(trouble) = self.job.api.post("drain", None, &body, Duration::from_secs(5)).await {
            tracing::info!(error = %trouble, "the gateway was not told that the worker stops");
        }
    }
}
