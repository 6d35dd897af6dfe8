//! `/webhooks/integrationKeys/zapier`: one key for Zapier, which ends when there is another.

use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use hookyard_domain::{credential::Scope, db::Db, person::Role};
use hookyard_tests::{
    http::{Client, Reply},
    session::Session,
    system::{Options, RunningGateway, System},
};
use tokio::{
    sync::{broadcast, mpsc},
    task::JoinSet,
};

use super::{EVENT, audited, count, everywhere, stands_in, text, two_gateways, with_status};

const PATH: &str = "/webhooks/integrationKeys/zapier";

/// A body that is refused by whoever lets its sender in; nobody has to ask the database for that answer.
const NO_JSON: &str = "{";

async fn rotate(client: &Client) -> String {
    let reply = client.request("POST", PATH).send().await;
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let made = reply.expect(201);
    assert_eq!(made.as_object().unwrap().len(), 1, "{made}");
    text(&made["key"])
}

#[tokio::test]
async fn the_key_opens_with_the_client_id_and_does_not_administrate() {
    let system = System::start().await;
    let admin = system.client().await;
    let none = admin.get(PATH).await.expect(200);
    assert_eq!(text(&none["client_id"]), system.tenant.uuid().to_string());
    assert!(none["id"].is_null() && none["prefix"].is_null() && none["created_at"].is_null(), "{none}");
    let key = rotate(&admin).await;
    assert!(key.starts_with("sk_integ_") && key.len() == 9 + 43, "{key}");
    let basic = |user: &str| {
        let shown = format!("Basic {}", STANDARD.encode(format!("{user}:{key}")));
        system.anonymous().request("GET", "/zapier/hook/sample").header("authorization", shown).send()
    };
    assert_eq!(basic(&system.tenant.uuid().to_string()).await.status, 200);
    assert_eq!(basic(&system.tenant("Other").await.uuid().to_string()).await.status, 401);
    let client = system.anonymous().with_key(&key);
    for path in ["/v1/hooks", "/v1/events", "/v1/event-types"] {
        assert_eq!(client.get(path).await.status, 200, "{path}");
    }
    assert_eq!(client.post("/events", EVENT).await.status, 202);
    for (method, path) in [("GET", "/v1/keys"), ("POST", "/v1/keys"), ("GET", PATH), ("POST", PATH)] {
        let reply = client.request(method, path).send().await;
        assert_eq!(reply.error(), (403, "INSUFFICIENT_PERMISSIONS".to_owned()), "{method} {path}");
    }
    let shown = admin.get(PATH).await.expect(200);
    assert!(key.starts_with(&text(&shown["prefix"])) && shown["created_at"].is_string(), "{shown}");
    assert!(!shown.to_string().contains(&key));
    for table in ["credentials", "audit_log"] {
        assert!(!stands_in(&system, table, &key).await, "the key stands in {table}");
    }
    assert_eq!(audited(&system).await, ["integration_key.rotated"]);
}

#[tokio::test]
async fn admins_and_developers_rotate_and_viewers_look() {
    let system = System::start().await;
    for (role, status) in [(Role::Viewer, 403), (Role::Developer, 201), (Role::Admin, 201)] {
        let session = Session::of(&system, system.tenant, role).await;
        let request = |method| session.sign(system.anonymous().request(method, PATH)).send();
        assert_eq!(request("GET").await.status, 200, "{role}");
        let reply = request("POST").await;
        assert_eq!(reply.status, status, "{role}: {}", reply.text());
        if status == 403 {
            assert_eq!(reply.error().1, "INSUFFICIENT_PERMISSIONS");
            assert_eq!(reply.json()["details"]["field"], "role");
        }
    }
    let key = system.key(&[Scope::HooksWrite, Scope::HooksRead]).await;
    assert_eq!(system.anonymous().with_key(&key).request("POST", PATH).send().await.status, 403);
}

#[tokio::test]
async fn the_same_rotation_again_makes_no_second_key() {
    let system = System::start().await;
    let admin = system.client().await;
    let keyed = || admin.request("POST", PATH).header("idempotency-key", "r").send();
    let key = text(&keyed().await.expect(201)["key"]);
    let again = keyed().await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert!(again.expect(201)["key"].is_null());
    assert_eq!(system.anonymous().with_key(&key).get("/v1/hooks").await.status, 200);
    assert!(!stands_in(&system, "idempotency_keys", &key).await);
}

/// The old key fails on the very next request, also at a gateway that hears nothing from the database meanwhile and has
/// taken the key a moment before.
#[tokio::test(flavor = "multi_thread")]
async fn the_old_key_ends_everywhere_with_the_answer() {
    let mut options = Options::default();
    options.gateway.gateway.rate_limit = 0;
    let system = System::with(options.clone()).await;
    options.gateway.gateway.credential_refresh_ms = 400;
    options.database.pool_size = 2;
    options.database.patience_ms = 100;
    let pool = system.database.pool_with(&options.database);
    let stalled = RunningGateway::start(&options, pool.clone(), &system.bus, &system.clock);
    let admin = system.client().await;
    let at = |key: &str| Client::new(stalled.addr).with_key(key);
    let mut old = rotate(&admin).await;
    let mut unaware = 0;
    for round in 0..10 {
        assert_eq!(at(&old).post("/events", NO_JSON).await.status, 400, "round {round}: it is learned");
        // All connections of this gateway are held: it hears nothing until they are let go.
        let (release, _) = broadcast::channel::<()>(1);
        let (held, mut holding) = mpsc::channel(2);
        let mut holders: JoinSet<()> =
            (0..2).map(|_| hold(pool.clone(), held.clone(), release.clone())).collect();
        for _ in 0..2 {
            holding.recv().await.unwrap();
        }
        let before = at(&old).post("/events", NO_JSON).await.status;
        assert!([400, 503].contains(&before), "round {round}: {before}");
        unaware += u32::from(before == 400);
        let new = rotate(&admin).await;
        // Both are the very next requests: they are sent together.
        let next = |client: &Client| client.request("POST", "/events").json(NO_JSON).send();
        let (here, there) = tokio::join!(next(&system.anonymous().with_key(&old)), next(&at(&old)));
        assert_eq!(here.status, 401, "round {round}");
        assert!([401, 503].contains(&there.status), "round {round}: {}", there.status);
        let _nobody_listens = release.send(());
        while holders.join_next().await.is_some() {}
        let end = Instant::now() + Duration::from_secs(20);
        while at(&new).post("/events", NO_JSON).await.status != 400 {
            assert!(Instant::now() < end, "the gateway does not come back");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(at(&old).post("/events", NO_JSON).await.status, 401, "round {round}");
        old = new;
    }
    assert!(unaware > 0, "the gateway never took a key without asking");
}

/// Takes a connection of a pool and keeps it until it is told to let go.
async fn hold(pool: Db, held: mpsc::Sender<()>, release: broadcast::Sender<()>) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let (held, mut released) = (held.clone(), release.subscribe());
        let kept = pool.once(move |_| {
            held.blocking_send(()).unwrap();
            let _let_go = released.blocking_recv();
            Ok(())
        });
        // The gateway's own look may have had the last one.
        if kept.await.is_ok() {
            return;
        }
        assert!(Instant::now() < end, "no connection becomes free");
    }
}

#[tokio::test]
async fn of_many_rotations_at_once_one_key_is_left() {
    let system = two_gateways().await;
    let admins = everywhere(&system, &system.key(&[Scope::Admin]).await);
    let send = |client: &Client| client.request("POST", PATH).send();
    let replies: Vec<Reply> =
        admins.iter().cycle().take(20).map(send).collect::<JoinSet<_>>().join_all().await;
    assert_eq!(with_status(&replies, 201), 20, "{replies:?}");
    let mut live = 0;
    for reply in &replies {
        let key = text(&reply.json()["key"]);
        let mut told = Vec::new();
        for client in everywhere(&system, &key) {
            told.push(client.get("/v1/hooks").await.status);
        }
        assert!(told == [200, 200] || told == [401, 401], "{told:?}");
        live += usize::from(told == [200, 200]);
    }
    assert_eq!(live, 1);
    let all = "SELECT count(*) AS n FROM credentials WHERE kind = 1";
    let left = "SELECT count(*) AS n FROM credentials WHERE kind = 1 AND revoked_at IS NULL";
    assert_eq!((count(&system, all).await, count(&system, left).await), (20, 1));
    assert_eq!(audited(&system).await, ["integration_key.rotated"; 20]);
}
