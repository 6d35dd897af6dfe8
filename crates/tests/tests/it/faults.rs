//! Faults under load, on real servers: whatever is killed, stopped or missing, what was accepted arrives.
//!
//! Each scenario has a PostgreSQL and a RabbitMQ of its own, the real binary as processes, two tenants with three hooks
//! each and at least 20,000 events. `cargo nextest run --no-capture faults` shows what each came to.

mod action_runs;
mod broker;
mod database;
mod inboxes;
mod kills;
mod overload;
mod recoveries;
mod tasks;
mod together;

use std::{net::SocketAddr, time::Duration};

use hookyard_tests::{
    broker::Broker,
    postgres::Postgres,
    processes::{Environment, Process, environment, free_port, run},
    sink::Sink,
};

/// How long a process may take until it is ready.
const START: Duration = Duration::from_secs(60);

/// How long a process may take until it has ended: the grace period and a little.
const STOP: Duration = Duration::from_secs(30);

/// Results written in one statement. Smaller than the default, so that the bound of duplicates is tight.
const SETTLE_BATCH: usize = 250;

/// Tries under way at once: the cap of an endpoint, times six.
const IN_FLIGHT: usize = 48 * 6;

/// What a deliverer that is killed can have sent without having it written down: the tries under way, the outcomes that
/// wait to be written (four batches) and those that are being written.
const LOST_BY_A_KILL: usize = IN_FLIGHT + 5 * SETTLE_BATCH;

/// The three services as processes.
struct Services {
    gateway: Process,
    registry: Process,
    delivery: Process,
    api: SocketAddr,
    environment: Environment,
}

impl Services {
    /// Migrates, and starts all three; does not wait for them.
    fn start(sink: &Sink, postgres: &Postgres, broker: &Broker, settings: &[(&str, &str)]) -> Self {
        let api = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut environment = environment(
            &sink.prefix(),
            &[
                ("DATABASE_URL", &postgres.url()),
                ("AMQP_URL", &broker.url()),
                ("HOOKYARD__HTTP__LISTEN", &api.to_string()),
                ("HOOKYARD__DELIVERY__SETTLE_BATCH", &SETTLE_BATCH.to_string()),
            ],
        );
        environment.extend(settings.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        let migrated = run(&["migrate"], &environment);
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        let [gateway, registry, delivery] =
            ["gateway", "registry", "delivery"].map(|service| Process::start(&[service], &environment));
        Self { gateway, registry, delivery, api, environment }
    }

    fn all(&mut self) -> [&mut Process; 3] {
        [&mut self.gateway, &mut self.registry, &mut self.delivery]
    }

    fn wait_until_ready(&mut self) {
        for process in self.all() {
            process.wait_until_ready(START);
        }
    }

    /// Ends them in order; each has to end well.
    fn stop(&mut self) {
        for process in self.all() {
            process.stop(STOP);
        }
    }
}
