//! Two tenants with everybody who may call, and new objects of theirs as often as they are wanted.

use std::{collections::HashMap, fmt};

use diesel::{
    RunQueryDsl, sql_query,
    sql_types::{Array, Binary, Nullable, SmallInt, Text, Timestamptz, Uuid},
};
use hookyard_domain::{
    action_run::{
        self, Effect, End,
        claim::{self, Wants},
    },
    credential::{
        Kind, Limits, Scope, Scopes, Token,
        store::{self, NewCredential},
    },
    delivery::DeliveryState,
    id::{
        ClaimId, ClientId, ConnectionId, CredentialId, EventId, GrantId, InputId, InvitationId, SessionId,
        TaskId, TenantId, UserId,
    },
    person::Role,
    task::respond::RespondLinks,
};
use hookyard_tests::{
    http::{Client, Request},
    outcomes::settle_due,
    secrets::vault,
    session::Session,
    system::{Options, System, unlimited},
};
use serde_json::{Value, json};

use super::rows::Row;

/// Somebody who calls.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    /// Without a credential.
    Nobody,
    /// A program.
    Key { what: &'static str, scopes: Vec<Scope>, key: String },
    /// An external worker.
    Worker { token: String },
    /// A person who is logged in.
    Person { role: Role, session: Session },
}

impl Caller {
    /// The request as this caller makes it.
    pub(super) fn sign(&self, request: Request) -> Request {
        match self {
            Self::Nobody => request,
            Self::Key { key, .. } => request.header("authorization", format!("Bearer {key}")),
            Self::Worker { token } => request.header("authorization", format!("Bearer {token}")),
            Self::Person { session, .. } => session.sign(request),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("nobody"),
            Self::Key { what, scopes, .. } => {
                write!(f, "{what} [{}]", scopes.iter().copied().collect::<Scopes>())
            }
            Self::Worker { .. } => f.write_str("a worker"),
            Self::Person { role, .. } => write!(f, "a person, {role}"),
        }
    }
}

/// A tenant and everybody of it.
#[derive(Debug)]
pub(super) struct Side {
    tenant: TenantId,
    admin: Client,
    worker: Client,
    /// Programs, and nobody. Whoever may do everything stands first among those who may do something.
    programs: Vec<Caller>,
}

/// Two tenants that know nothing of each other.
#[derive(Debug)]
pub(super) struct World {
    pub(super) system: System,
    pub(super) ours: Side,
    pub(super) theirs: Side,
}

/// New objects of one tenant, by what stands for them in a row.
#[derive(Debug)]
pub(super) struct Objects(Vec<(&'static str, String)>);

impl Objects {
    /// A path or a body with these objects in it.
    pub(super) fn fill(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, id)| text.replace(&format!("{{{name}}}"), id))
    }
}

impl World {
    pub(super) async fn new() -> Self {
        let mut options = Options::default();
        let limits = &mut options.gateway.gateway;
        (limits.rate_limit, limits.hook_write_limit, limits.sample_limit) = (0, 0, 0);
        (limits.person_limit, limits.unauthenticated_limit) = (0, 0);
        (limits.action_limit, limits.action_address_limit) = (0, 0);
        let system = System::with(options).await;
        let (ours, theirs) = (system.tenant, system.tenant("Other").await);
        let (ours, theirs) = (Side::of(&system, ours).await, Side::of(&system, theirs).await);
        Self { system, ours, theirs }
    }

    /// Everybody of a side; people have just logged in, whatever a row before has done to them.
    pub(super) async fn callers(&self, side: &Side) -> Vec<Caller> {
        let mut callers = side.programs.clone();
        for role in Role::ALL {
            let session = Session::of(&self.system, side.tenant, role).await;
            callers.push(Caller::Person { role, session });
        }
        callers
    }

    /// New objects of a side, as far as the row names them: none of them has met anybody.
    pub(super) async fn objects(&self, side: &Side, row: &Row) -> Objects {
        let named =
            |name: &str| [row.path, row.body].iter().any(|text| text.contains(&format!("{{{name}}}")));
        let (admin, unique) = (&side.admin, rand::random::<u64>());
        let mut objects = Vec::new();
        if ["hook", "url", "event", "dead"].into_iter().any(named) {
            objects.extend(self.delivered(admin, unique).await);
        }
        if ["consumer", "recovery"].into_iter().any(named) {
            let body = json!({"url": "https://example.com/in", "eventTypes": ["matrix.consumed"]});
            let made = admin.post_json("/webhooks", &body).await.expect(201);
            let consumer = made["id"].as_str().unwrap().to_owned();
            if named("recovery") {
                let body = json!({"endpoint_id": consumer, "since": "2020-01-01T00:00:00Z"});
                let made = admin.post_json("/v1/recoveries", &body).await.expect(202);
                objects.push(("recovery", made["id"].as_str().unwrap().to_owned()));
            }
            objects.push(("consumer", consumer));
        }
        if ["inbox", "message", "token"].into_iter().any(named) {
            objects.extend(self.inbox(side).await);
        }
        if named("type") {
            let name = format!("matrix.t{unique:x}");
            let body = json!({"name": name, "description": "x"});
            admin.post_json("/v1/event-types", &body).await.expect(201);
            objects.push(("type", name));
        }
        for (name, kind) in
            [("key", Kind::ApiKey), ("source_key", Kind::Source), ("worker_token", Kind::Worker)]
        {
            if named(name) {
                objects.push((name, self.key(side.tenant, kind).await.to_string()));
            }
        }
        if named("new") {
            objects.push(("new", format!("{unique:x}")));
        }
        if ["user", "session", "invitation", "client", "grant"].into_iter().any(named) {
            objects.extend(self.person(side.tenant).await);
        }
        if ["task", "ended", "asking", "question", "answerable", "schedule"].into_iter().any(named) {
            objects.extend(self.tasks(side).await);
        }
        if named("own") {
            objects.push(("own", format!("http://{}/livez", self.system.gateways[0].addr)));
        }
        if named("auth") {
            objects.push(("auth", self.connection(side).await));
        }
        if named("arun") {
            objects.push(("arun", self.action_run(side).await));
        }
        if named("held") {
            objects.extend(self.held(side, unique).await);
        }
        Objects(objects)
    }

    /// An inbox, with the names of a message and of a lease: nobody fans out here, so that there is neither.
    async fn inbox(&self, side: &Side) -> [(&'static str, String); 3] {
        let made = side.admin.post_json("/v1/inboxes", &json!({"name": "matrix"})).await.expect(201);
        let now = self.system.clock.now();
        let message = EventId::new(now).to_string().replacen("evt_", "msg_", 1);
        let text = made["id"].as_str().unwrap().to_owned();
        [("inbox", text), ("message", message), ("token", ClaimId::new(now).to_string())]
    }

    /// A connection; put there past the trial of its credentials.
    async fn connection(&self, side: &Side) -> String {
        let (id, tenant, now) =
            (ConnectionId::new(self.system.clock.now()), side.tenant, self.system.clock.now());
        let own = format!("http://{}/livez", self.system.gateways[0].addr);
        let json = json!({"name": "c", "type": "bearer", "url": own, "token": "t"}).to_string();
        let draft = hookyard_domain::wire::parse(json.as_bytes()).unwrap().into_object().unwrap();
        let draft = hookyard_domain::connection::Draft::parse(draft).unwrap();
        let put = move |conn: &mut hookyard_domain::db::Conn| {
            let ids = (tenant, id);
            hookyard_domain::connection::store::insert(conn, &vault(), ids, &draft, None, now).map(drop)
        };
        self.system.db.run(put).await.unwrap();
        id.to_string()
    }

    /// A run that has ended, whose callback did not arrive.
    async fn action_run(&self, side: &Side) -> String {
        let body = json!({"action": "event.emit", "input": {"event_type": "a.b", "payload": {}}, "callback_url": "https://example.com/cb"});
        let made = side.admin.post_json("/v2/action-runs", &body).await.expect(200);
        let id = made["data"]["id"].as_str().unwrap().to_owned();
        let now = self.system.clock.now();
        let end = move |conn: &mut hookyard_domain::db::Conn| {
            let wants = Wants { runs: 1_000, of_tenant: 1_000, busy: HashMap::new() };
            let held = claim::claim(conn, &wants, now, now + chrono::TimeDelta::seconds(60))?;
            let ends: Vec<End> = held
                .iter()
                .map(|run| End { run: run.id, lease: run.lease, effect: Effect::Outcome(Ok(Vec::new())) })
                .collect();
            action_run::apply(conn, &vault(), &ends, now)?;
            sql_query("UPDATE deliveries SET state = 2 WHERE profile = 1").execute(conn)?;
            Ok(())
        };
        self.system.db.run(end).await.unwrap();
        id
    }

    /// A run that the side's worker holds, and the lease token.
    async fn held(&self, side: &Side, unique: u64) -> [(&'static str, String); 2] {
        let body = json!({"title": "t", "description": "d", "agent_type": "build"});
        side.admin.post_json("/v1/automation/tasks", &body).await.expect(201);
        let body = json!({"worker": {"name": format!("{unique:x}"), "agent_types": ["build"]}});
        let claimed = side.worker.post_json("/v1/automation/worker/claim", &body).await.expect(200);
        let text = |name: &str| claimed["tasks"][0][name].as_str().unwrap().to_owned();
        [("held", text("run_id")), ("lease", text("lease_token"))]
    }

    /// Tasks in several states, a question with its link, and a schedule.
    async fn tasks(&self, side: &Side) -> [(&'static str, String); 6] {
        let text = |value: &Value, name: &str| value[name].as_str().unwrap().to_owned();
        let post = async || {
            let body = json!({"title": "t", "description": "d", "webhook_url": "https://example.com/in"});
            text(&side.admin.post_json("/v1/automation/tasks", &body).await.expect(201), "task_id")
        };
        let (task, ended, asking) = (post().await, post().await, post().await);
        side.admin.delete(&format!("/v1/automation/tasks/{ended}")).await.expect(200);
        let schedule = json!({"name": "s", "cron": "0 9 * * *", "task": {"title": "t", "description": "d"}});
        let schedule = side.admin.post_json("/v1/automation/schedules", &schedule).await.expect(201);
        let now = self.system.clock.now();
        let (question, id) = (InputId::new(now), asking.parse::<TaskId>().unwrap());
        let ask = move |conn: &mut hookyard_domain::db::Conn| {
            for row in [
                "UPDATE task_runs SET state = 2, due_at = $3 + interval '1 day' WHERE task_id = $1 AND $2::uuid IS NOT NULL",
                "INSERT INTO task_inputs (id, run_id, tenant_id, question, asked_at, expires_at) \
                 SELECT $2, r.id, r.tenant_id, 'Well?', $3, $3 + interval '1 day' FROM task_runs r WHERE r.task_id = $1",
            ] {
                sql_query(row)
                    .bind::<Uuid, _>(id)
                    .bind::<Uuid, _>(question)
                    .bind::<Timestamptz, _>(now)
                    .execute(conn)?;
            }
            Ok(())
        };
        self.system.db.run(ask).await.unwrap();
        let token = RespondLinks::new(&vault(), "").token(question);
        [
            ("task", task),
            ("ended", ended),
            ("asking", asking),
            ("question", question.to_string()),
            ("answerable", token),
            ("schedule", text(&schedule, "id")),
        ]
    }

    /// A person with a session, an invitation, a client and what the person allowed it; put there as rows.
    async fn person(&self, tenant: TenantId) -> [(&'static str, String); 5] {
        let now = self.system.clock.now();
        let (user, session, invitation, client, grant) = (
            UserId::new(now),
            SessionId::new(now),
            InvitationId::new(now),
            ClientId::new(now),
            GrantId::new(now),
        );
        let rows = [
            "INSERT INTO users (id, email, name, locale, created_at) VALUES ($2, $2::text || '@example.com', 'object', 'en', $7)",
            "INSERT INTO memberships (tenant_id, user_id, role, created_at) VALUES ($1, $2, 1, $7)",
            "INSERT INTO sessions (id, token_hash, user_id, tenant_id, created_at, last_seen_at, expires_at) \
             VALUES ($3, sha256($3::text::bytea), $2, $1, $7, $7, $7 + interval '1 day')",
            "INSERT INTO invitations (id, tenant_id, email, role, token_hash, created_at, expires_at) \
             VALUES ($4, $1, $4::text || '@example.com', 0, sha256($4::text::bytea), $7, $7 + interval '1 day')",
            "INSERT INTO oauth_clients (id, tenant_id, name, secret_hash, redirect_uris, scopes, created_at) \
             VALUES ($5, $1, 'object', sha256($5::text::bytea), '{https://app.example/cb}', '{hooks:read}', $7)",
            "INSERT INTO oauth_grants (id, client_id, tenant_id, user_id, scopes, created_at) \
             VALUES ($6, $5, $1, $2, '{hooks:read}', $7)",
        ];
        self.system
            .db
            .run(move |conn| {
                for row in rows {
                    // Every parameter is used, so that Postgres knows its type.
                    let row = format!(
                        "WITH all_of_them AS (SELECT $1::uuid, $2::uuid, $3::uuid, $4::uuid, $5::uuid, $6::uuid, \
                         $7::timestamptz) {row}"
                    );
                    sql_query(row)
                        .bind::<Uuid, _>(tenant)
                        .bind::<Uuid, _>(user)
                        .bind::<Uuid, _>(session)
                        .bind::<Uuid, _>(invitation)
                        .bind::<Uuid, _>(client)
                        .bind::<Uuid, _>(grant)
                        .bind::<Timestamptz, _>(now)
                        .execute(conn)?;
                }
                Ok(())
            })
            .await
            .unwrap();
        [
            ("user", user.to_string()),
            ("session", session.to_string()),
            ("invitation", invitation.to_string()),
            ("client", client.to_string()),
            ("grant", grant.to_string()),
        ]
    }

    /// A hook, an event, and a delivery of it there that has ended without success.
    async fn delivered(&self, admin: &Client, unique: u64) -> [(&'static str, String); 4] {
        let url = format!("https://hooks.zapier.com/hooks/standard/1/{unique:x}/");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let subscribe = json!({"url": url, "event_type": "matrix.only"});
        let hook = text(&admin.post_json("/zapier/hook", &subscribe).await.expect(200)["id"]);
        let event = json!({"event_type": "matrix.only", "payload": {}});
        let event = text(&admin.post_json("/events", &event).await.expect(202)["event_id"]);
        let replay = json!({"event_id": event}).to_string();
        admin.post(&format!("/v1/hooks/{hook}/replay"), replay).await.expect(202);
        let dead = settle_due(&self.system, DeliveryState::Dead, 500, b"").await;
        let dead = dead.iter().find(|id| id.event.to_string() == event).unwrap().to_string();
        [("hook", hook), ("url", url), ("event", event), ("dead", dead)]
    }

    /// What a side sees of the row's object, where the row has a witness.
    pub(super) async fn seen(&self, side: &Side, row: &Row, objects: &Objects) -> Option<Value> {
        let path = objects.fill(row.witness?);
        Some(side.admin.get(&path).await.expect(200))
    }

    /// A key that nobody holds, beyond the number that a tenant may have.
    async fn key(&self, tenant: TenantId, kind: Kind) -> CredentialId {
        let now = self.system.clock.now();
        let token = Token::with_prefix(kind.prefix(), rand::random());
        let id = CredentialId::new(now);
        let types = (kind == Kind::Source).then(|| vec!["a.b"]);
        self.system
            .db
            .run(move |conn| {
                sql_query(
                    "INSERT INTO credentials (id, tenant_id, kind, name, prefix, token_hash, scopes, event_types, \
                        created_at) VALUES ($1, $2, $3, 'object', $4, $5, $6, $7, $8)",
                )
                .bind::<Uuid, _>(id)
                .bind::<Uuid, _>(tenant)
                .bind::<SmallInt, _>(kind.code())
                .bind::<Text, _>(token.prefix())
                .bind::<Binary, _>(token.hash().bytes())
                .bind::<Array<Text>, _>(vec!["events:write"])
                .bind::<Nullable<Array<Text>>, _>(types)
                .bind::<Timestamptz, _>(now)
                .execute(conn)?;
                Ok(())
            })
            .await
            .unwrap();
        id
    }
}

impl Side {
    async fn of(system: &System, tenant: TenantId) -> Self {
        let mut callers = vec![Caller::Nobody];
        let all_but_admin: Vec<Scope> =
            Scope::ALL.into_iter().filter(|scope| *scope != Scope::Admin).collect();
        let mut add = async |what, kind, scopes: Vec<Scope>| {
            let key = key(system, tenant, kind, &scopes).await;
            callers.push(Caller::Key { what, scopes, key });
        };
        add("an admin key", Kind::ApiKey, vec![Scope::Admin]).await;
        for scope in &all_but_admin {
            add("a key", Kind::ApiKey, vec![*scope]).await;
        }
        add("the integration key", Kind::Integration, all_but_admin).await;
        add("a source key", Kind::Source, vec![Scope::EventsWrite]).await;
        let admin = callers.iter().find_map(|caller| match caller {
            Caller::Key { what: "an admin key", key, .. } => Some(system.anonymous().with_key(key)),
            Caller::Nobody | Caller::Key { .. } | Caller::Worker { .. } | Caller::Person { .. } => None,
        });
        let token = key(system, tenant, Kind::Worker, &[]).await;
        let worker = system.anonymous().with_key(&token);
        callers.push(Caller::Worker { token });
        Self { tenant, admin: admin.unwrap(), worker, programs: callers }
    }
}

/// A key of a kind, without limits.
async fn key(system: &System, tenant: TenantId, kind: Kind, scopes: &[Scope]) -> String {
    let token = Token::with_prefix(kind.prefix(), rand::random());
    let scopes = scopes.iter().copied().collect();
    let new = NewCredential {
        event_types: (kind == Kind::Source).then(|| vec!["a.b".parse().unwrap()]),
        limits: Limits { hook_write_burst: Some(0), ..unlimited() },
        ..NewCredential::new(kind, &token, tenant, "caller", scopes, system.clock.now())
    };
    system.db.run(move |conn| store::insert(conn, &new)).await.unwrap();
    token.expose().to_owned()
}
