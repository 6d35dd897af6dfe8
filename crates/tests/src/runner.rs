//! Runners of tasks in this process, and tasks that are put into the database as a gateway would.

use std::time::{Duration, Instant};

use diesel::{QueryableByName, RunQueryDsl as _, sql_types};
use hookyard_chassis::metrics::Registry as Metrics;
use hookyard_domain::{
    clock::Clock,
    db::Db,
    email,
    id::{RunId, TaskId, TenantId},
    subscription::UrlRules,
    task::{
        self, Draft, Ledger, RunState, Step,
        ledger::{By, Move, Written},
        model::{self, Models},
        output,
        respond::RespondLinks,
        store,
        webhook::WebhookUrls,
    },
    trace::TraceContext,
    wire::parse_stored,
};
use hookyard_egress::{Egress, Services};
use hookyard_messaging::Bus;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{database::Database, llm::FakeLlm, secrets::vault};

/// Where links lead in tests.
pub const ORIGIN: &str = "https://hooks.example.com";

/// How a runner is made.
#[derive(Clone, Debug)]
pub struct Runner {
    /// Section `[runner]`; by default it looks often.
    pub settings: hookyard_runner::Settings,
    /// Section `[tasks]`.
    pub tasks: task::Settings,
    /// Section `[llm]`.
    pub llm: model::Settings,
    /// Section `[mail]`.
    pub mail: email::Settings,
    /// What the guard is told; by default the loopback addresses are allowed.
    pub egress: hookyard_egress::Settings,
}

impl Default for Runner {
    fn default() -> Self {
        Self {
            settings: hookyard_runner::Settings {
                poll_interval_ms: 100,
                look_interval_ms: 50,
                timer_interval_ms: 50,
                output_interval_ms: 50,
                first_wait_ms: 10,
                ..hookyard_runner::Settings::default()
            },
            tasks: task::Settings::default(),
            llm: model::Settings::default(),
            mail: email::Settings::default(),
            egress: hookyard_egress::Settings {
                allow: vec!["127.0.0.0/8".parse().expect("a range")],
                ..hookyard_egress::Settings::default()
            },
        }
    }
}

impl Runner {
    /// One whose providers are both this one, with a key.
    #[must_use]
    pub fn with(llm: &FakeLlm) -> Self {
        let mut runner = Self::default();
        runner.llm.providers = vec![
            format!("anthropic=anthropic@{}", llm.base_url()),
            format!("openai=openai@{}", llm.base_url()),
        ];
        runner.llm.anthropic_api_key = Some(model::ApiKey::new(crate::llm::KEY));
        runner.llm.openai_api_key = Some(model::ApiKey::new(crate::llm::KEY));
        runner
    }

    /// Starts it.
    ///
    /// # Panics
    /// When its settings make no sense.
    pub fn start(
        &self,
        database: &Database,
        bus: &Bus,
        clock: &Clock,
        stop: CancellationToken,
    ) -> JoinHandle<anyhow::Result<()>> {
        let models = Models::new(&self.llm).expect("models");
        let urls: Vec<_> = models.providers().filter_map(|provider| provider.base_url.clone()).collect();
        let deps = hookyard_runner::Deps {
            db: database.pool(),
            engine_db: database.engine_pool(),
            bus: bus.clone(),
            clock: clock.clone(),
            vault: vault(),
            services: Services::new(&hookyard_egress::Settings::default(), &urls).expect("a client"),
            egress: Egress::new(&self.egress).expect("a guarded client"),
            metrics: Metrics::new("test").expect("a registry of metrics"),
            tasks: self.tasks.clone(),
            models,
            urls: webhook_urls(),
            origin: ORIGIN.to_owned(),
            mail: self.mail.clone(),
        };
        tokio::spawn(hookyard_runner::run(deps, self.settings.clone(), stop))
    }
}

fn webhook_urls() -> WebhookUrls {
    WebhookUrls::new(UrlRules::new(&["http://127.0.0.1".to_owned()]).expect("prefixes that are urls"))
}

/// Tasks of one tenant, past the gateway.
#[derive(Clone)]
pub struct Tasks {
    db: Db,
    bus: Bus,
    clock: Clock,
    tenant: TenantId,
    settings: task::Settings,
    models: Models,
}

/// How a run stands.
#[derive(Clone, Debug, QueryableByName)]
#[expect(missing_docs, reason = "each is a column of task_runs")]
pub struct Standing {
    #[diesel(sql_type = sql_types::SmallInt)]
    pub state: RunState,
    #[diesel(sql_type = sql_types::SmallInt)]
    pub attempt: i16,
    #[diesel(sql_type = sql_types::Nullable<sql_types::Text>)]
    pub result: Option<String>,
    #[diesel(sql_type = sql_types::Nullable<sql_types::Text>)]
    pub error: Option<String>,
    #[diesel(sql_type = sql_types::Nullable<sql_types::Text>)]
    pub error_code: Option<String>,
    #[diesel(sql_type = sql_types::BigInt)]
    pub input_tokens: i64,
    #[diesel(sql_type = sql_types::BigInt)]
    pub output_tokens: i64,
    #[diesel(sql_type = sql_types::BigInt)]
    pub cost_micros: i64,
}

impl Tasks {
    /// Of this tenant, with a runner's settings.
    ///
    /// # Panics
    /// When the settings make no sense.
    pub fn new(db: &Db, bus: &Bus, clock: &Clock, tenant: TenantId, runner: &Runner) -> Self {
        let models = Models::new(&runner.llm).expect("models");
        let settings = runner.tasks.clone();
        Self { db: db.clone(), bus: bus.clone(), clock: clock.clone(), tenant, settings, models }
    }

    /// Makes a task, and rings.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn make(&self, body: Value) -> (TaskId, RunId) {
        let json = parse_stored(body.to_string().as_bytes()).expect("canonical JSON can be made");
        let now = self.clock.now();
        let draft =
            Draft::parse(json, &self.models, &webhook_urls(), now).expect("a task that is acceptable");
        let new = draft.accept(self.tenant, None, TraceContext::fresh(), now);
        let (task, run, queued) = (new.id, new.run, vec![(self.tenant, new.agent_type)]);
        let settings = self.settings.clone();
        self.db
            .run(move |conn| store::create(conn, &settings, &vault(), &[new], now))
            .await
            .expect("a task can be stored");
        self.bus.ring_tasks(&queued).await;
        (task, run)
    }

    /// How a run stands.
    ///
    /// # Panics
    /// When there is none.
    pub async fn standing(&self, run: RunId) -> Standing {
        let query = "SELECT state, attempt, result, error, error_code, input_tokens, output_tokens, cost_micros \
                     FROM task_runs WHERE id = $1";
        self.db
            .once(move |conn| {
                Ok(diesel::sql_query(query).bind::<sql_types::Uuid, _>(run.uuid()).get_result(conn)?)
            })
            .await
            .expect("a run")
    }

    /// Waits until a run is in this state.
    ///
    /// # Panics
    /// When it does not come to it, or ends otherwise.
    pub async fn wait(&self, run: RunId, state: RunState) -> Standing {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let standing = self.standing(run).await;
            if standing.state == state {
                return standing;
            }
            assert!(!standing.state.is_terminal() && Instant::now() < end, "no {state:?} but {standing:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Moves a run as its owner or the clock would.
    ///
    /// # Panics
    /// When the database refuses.
    pub async fn apply(&self, run: RunId, by: By, step: Step) -> Written {
        let ledger = Ledger::new(self.settings.clone(), RespondLinks::new(&vault(), ORIGIN), None);
        let now = self.clock.now();
        self.db
            .run(move |conn| ledger.apply(conn, &[Move { run, by, step }], now))
            .await
            .expect("a move can be written")
    }

    /// Cancels it.
    pub async fn cancel(&self, run: RunId) {
        self.apply(run, By::Owner(self.tenant), Step::Cancel { reason: None }).await;
    }

    /// The types of the events of a run, in order.
    ///
    /// # Panics
    /// When the database is away.
    pub async fn events(&self, run: RunId) -> Vec<String> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = sql_types::Binary)]
            body: Vec<u8>,
        }
        let rows: Vec<Row> = self
            .db
            .once(move |conn| Ok(diesel::sql_query("SELECT body FROM events ORDER BY id").load(conn)?))
            .await
            .expect("events can be read");
        rows.iter()
            .filter_map(|row| serde_json::from_slice::<Value>(&row.body).ok())
            .filter(|event| event["payload"]["run_id"] == run.to_string())
            .filter_map(|event| event["event_type"].as_str().map(ToOwned::to_owned))
            .collect()
    }

    /// What listeners of a run have seen: kind and data of each line.
    ///
    /// # Panics
    /// When the database is away.
    pub async fn lines(&self, run: RunId) -> Vec<(String, Value)> {
        let lines = self.db.once(move |conn| output::after(conn, &[(run, 0)], 10_000)).await;
        lines
            .expect("lines can be read")
            .into_iter()
            .map(|line| (line.kind.as_str().to_owned(), serde_json::from_str(&line.data).unwrap_or_default()))
            .collect()
    }
}
