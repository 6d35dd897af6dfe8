//! A database with tenants, and the ledger, all at a time that the test says.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{QueryableByName, RunQueryDsl, sql_query};
use hookyard_domain::{
    db::{Conn, Db},
    id::{RunId, TenantId},
    subscription::UrlRules,
    task::{
        Draft, Ledger, NewTask, Refused, Settings, Step, Usage,
        claim::{self, ClaimedRun},
        lease,
        ledger::{Applied, By, Move, Written},
        list::{self, TaskRow},
        model::{self, Models},
        respond::RespondLinks,
        store,
        webhook::WebhookUrls,
    },
    trace::TraceContext,
    wire::parse,
};
use hookyard_tests::{database::Database, secrets::vault};

pub(crate) struct Shop {
    pub(crate) db: Db,
    pub(crate) tenant: TenantId,
    pub(crate) ledger: Ledger,
    pub(crate) now: DateTime<Utc>,
    made: AtomicI64,
    _database: Database,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        Self::with(Settings::default()).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        let database = Database::create().await;
        let db = database.pool();
        let now = hookyard_domain::clock::Clock::system().now();
        let ledger =
            Ledger { settings, links: RespondLinks::new(&vault(), "https://h.example"), mail: Some(vault()) };
        let mut shop = Self {
            db,
            tenant: TenantId::new(now),
            ledger,
            now,
            made: AtomicI64::new(0),
            _database: database,
        };
        shop.tenant = shop.new_tenant().await;
        shop
    }

    pub(crate) async fn new_tenant(&self) -> TenantId {
        let (id, now) = (TenantId::new(self.now), self.now);
        self.run(move |conn| hookyard_domain::tenant::store::insert(conn, id, "Shop", None, now)).await;
        id
    }

    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> hookyard_domain::Result<T> + Send + 'static,
    ) -> T {
        self.db.run(work).await.unwrap()
    }

    pub(crate) fn pass(&mut self, seconds: i64) {
        self.now += TimeDelta::seconds(seconds);
    }

    /// A task with these members besides title and description.
    pub(crate) fn draft(&self, tenant: TenantId, more: &str) -> NewTask {
        let models = Models::new(&model::Settings::default()).unwrap();
        let urls = WebhookUrls::new(UrlRules::default());
        let body = format!(r#"{{"title":"A title","description":"What to do"{more}}}"#);
        let draft = Draft::parse(parse(body.as_bytes()).unwrap(), &models, &urls, self.now).unwrap();
        let mut task = draft.accept(tenant, None, TraceContext::fresh(), self.now);
        // Ids of one millisecond are in no order: here they are in the order in which they were made.
        let made = self.made.fetch_add(1, Ordering::Relaxed);
        task.run = RunId::new(self.now + TimeDelta::milliseconds(made));
        task
    }

    pub(crate) async fn store(&self, tasks: Vec<NewTask>) -> Vec<Option<String>> {
        let (settings, now) = (self.ledger.settings.clone(), self.now);
        self.run(move |conn| store::create(conn, &settings, &vault(), &tasks, now)).await
    }

    pub(crate) async fn task(&self, more: &str) -> NewTask {
        let task = self.draft(self.tenant, more);
        assert_eq!(self.store(vec![task.clone()]).await, [None]);
        task
    }

    pub(crate) async fn claim(&self, limit: u32) -> Vec<ClaimedRun> {
        let (settings, now) = (self.ledger.settings.clone(), self.now);
        self.run(move |conn| claim::claim_built_in(conn, &settings, limit, now)).await
    }

    pub(crate) async fn apply(&self, moves: Vec<Move>) -> Written {
        let (ledger, now) = (self.ledger.clone(), self.now);
        self.run(move |conn| ledger.apply(conn, &moves, now)).await
    }

    pub(crate) async fn say(&self, run: RunId, by: By, step: Step) -> Result<Applied, Refused> {
        self.apply(vec![Move { run, by, step }]).await.results.remove(0)
    }

    /// What the holder of a run says.
    pub(crate) async fn report(&self, held: &ClaimedRun, step: Step) -> Result<Applied, Refused> {
        self.say(held.run, By::Holder(held.lease), step).await
    }

    /// Everything that is due.
    pub(crate) async fn tick(&self) -> Written {
        let now = self.now;
        let runs = self.run(move |conn| lease::overdue(conn, now, 1_000)).await;
        self.apply(runs.into_iter().map(|run| Move { run, by: By::Clock, step: Step::Tick }).collect()).await
    }

    pub(crate) async fn shown(&self, task: &NewTask) -> TaskRow {
        let (tenant, id) = (task.tenant, task.id);
        self.run(move |conn| list::show(conn, tenant, id)).await.unwrap()
    }

    /// The bodies of the events of a run, in order.
    pub(crate) async fn told(&self, run: RunId) -> Vec<serde_json::Value> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = diesel::sql_types::Binary)]
            body: Vec<u8>,
        }
        let rows: Vec<Row> = self
            .run(|conn| {
                Ok(sql_query("SELECT body FROM events WHERE event_type LIKE 'task.%' ORDER BY id")
                    .load(conn)?)
            })
            .await;
        let bodies =
            rows.into_iter().map(|row| serde_json::from_slice::<serde_json::Value>(&row.body).unwrap());
        bodies.filter(|body| body["payload"]["run_id"] == run.to_string()).collect()
    }

    /// The events of a run, as words.
    pub(crate) async fn words(&self, run: RunId) -> Vec<String> {
        let told = self.told(run).await;
        told.iter().map(|body| body["payload"]["event"].as_str().unwrap().to_owned()).collect()
    }
}

pub(crate) fn complete(result: &str) -> Step {
    Step::Complete { result: result.to_owned(), summary: None, usage: Usage::default() }
}

pub(crate) fn used(input_tokens: u64, output_tokens: u64, cost_micros: u64) -> Usage {
    Usage { input_tokens, output_tokens, cost_micros }
}
