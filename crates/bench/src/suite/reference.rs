//! What Svix reaches on the reference machine, and what the issue "The main job" asks of us ("How fast"). Constants with
//! their source; nothing is measured here.
//!
//! Source of the figures: the project's peer study, file `peer-speed.md`, tables "Peers": Svix 1.100 with a Redis queue,
//! Postgres 15 with `synchronous_commit=on`, events of 1 KB, everything on two cores over loopback, medians of 3 runs.

/// Load straight to sink on the reference machine, per second: row "load → sink".
pub(crate) const SINK_PER_S: f64 = 185_000.0;

/// Postgres' processor time on the reference machine for 1,000 rows, half of them inserted and half updated by 200 in a statement: table "Raw limits
/// of the parts", rows "insert of an attempt row" (0.0022) and "update of a delivery by id" (0.0018).
pub(crate) const ROWS_CPU: f64 = (0.002_2 + 0.001_8) / 2.0;

/// Postgres' share in what an event costs at 500 per second, about: of services a third, of `up` a half.
pub(crate) const STEP_POSTGRES: f64 = 0.4;

/// Svix at one endpoint, deliveries per second.
pub(crate) const SVIX_ONE_PER_S: f64 = 1_500.0;
/// Svix at one endpoint, CPU seconds per 1,000 deliveries.
pub(crate) const SVIX_ONE_CPU: f64 = 1.21;
/// Svix at five endpoints, deliveries per second.
pub(crate) const SVIX_FIVE_PER_S: f64 = 3_716.0;
/// Svix at five endpoints, CPU seconds per 1,000 deliveries.
pub(crate) const SVIX_FIVE_CPU: f64 = 0.485;
/// Svix at 500 events per second, end to end, median in ms.
pub(crate) const SVIX_PACED_P50_MS: f64 = 2.2;
/// Svix at 500 events per second, end to end, 99th percentile in ms.
pub(crate) const SVIX_PACED_P99_MS: f64 = 5.5;
/// By how much Svix's 99th percentile grows when a slow endpoint joins four fast ones: 7.5 to 8,643 ms.
pub(crate) const SVIX_ISOLATION: f64 = 8_643.0 / 7.5;
/// Svix's accepted events per second with 20 % failing replies, relative to none failing: 1,093 of 1,500.
pub(crate) const SVIX_FAILING: f64 = 1_093.0 / 1_500.0;

/// Our rate must be this multiple of Svix's; our CPU per delivery at most its inverse.
pub(crate) const TIMES_SVIX: f64 = 5.0;
/// Over RabbitMQ at 500 events per second, median in ms.
pub(crate) const SERVICES_P50_MS: f64 = 6.0;
/// Over RabbitMQ at 500 events per second, 99th percentile in ms.
pub(crate) const SERVICES_P99_MS: f64 = 20.0;
/// With a slow endpoint beside them, the fast ones' 99th percentile may grow by this factor.
pub(crate) const ISOLATION: f64 = 2.0;
/// With 20 % failing replies, first tries keep this share of their rate.
pub(crate) const FAILING_FIRST_TRIES: f64 = 0.70;
/// With a limit on the key, and every tenth request repeatable, the rate keeps this share (issue "Access").
pub(crate) const LIMITED_RATE: f64 = 0.90;
/// Offline tasks, from POST to task_completed, per second (issue "Tasks").
pub(crate) const TASKS_PER_S: f64 = 500.0;
/// At 100 tasks per second, end to end, 99th percentile in ms (issue "Tasks").
pub(crate) const TASKS_P99_MS: f64 = 150.0;
/// Peak RSS of a gateway with 1,000 listeners and 200 waiting workers, in MiB (issue "Tasks": 150 MB).
pub(crate) const LISTENED_RSS_MIB: f64 = 150e6 / 1_048_576.0;
/// Action runs of `event.emit`, from POST to the signed callback, per second (issue "Action runs").
pub(crate) const RUNS_PER_S: f64 = 1_000.0;
/// Deliveries per second to an endpoint that takes 200 (issue "Catalogue, consumers, inbox and replay": 90 % of it).
pub(crate) const CAPACITY_PER_S: f64 = 180.0;
/// Share of the tries at it that fail (the same).
pub(crate) const CAPACITY_FAILED: f64 = 0.02;
/// With 100,000 subscriptions the fan-out of an event with 3 matches may take so much longer, 99th percentile in ms (the same).
pub(crate) const SCALE_MS: f64 = 5.0;
/// Seconds until an event for 10,000 hooks has arrived at all of them (ours: the issue wants only that it does).
pub(crate) const SCALE_S: f64 = 30.0;
/// Memory of a registry for each of them, in bytes (the same: 1 KB).
pub(crate) const SCALE_BYTES: f64 = 1_000.0;
/// With a million events stored, rates keep this share and latencies grow by its inverse at most (the same).
pub(crate) const MILLION: f64 = 0.90;
/// Share of retries that must come within ±10 % of when they are due.
pub(crate) const RETRIES_ON_TIME: f64 = 0.90;
/// Peak RSS of each service, in MiB (100 MB).
pub(crate) const SERVICE_RSS_MIB: f64 = 100e6 / 1_048_576.0;
/// Peak RSS of `hookyard up` without Postgres, in MiB (150 MB).
pub(crate) const UP_RSS_MIB: f64 = 150e6 / 1_048_576.0;
