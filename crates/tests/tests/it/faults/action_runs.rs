//! `kill -9` of gateway, runner and delivery while action runs are at every point: each run ends once, its callback arrives with
//! its id and the same bytes on every try, and a request that may have been sent is not sent twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use diesel::{
    Connection as _, PgConnection, QueryableByName, RunQueryDsl as _, sql_query, sql_types::BigInt,
};
use hookyard_tests::{
    broker::Broker,
    http::{Client, raw},
    postgres::Postgres,
    processes::{Process, environment, free_port, new_tenant, run},
    receiver::{Answer, Receiver},
};
use serde_json::{Value, json};

use super::{START, STOP};

const PATIENCE: Duration = Duration::from_secs(90);

/// All services as processes, a receiver, and a client without limits.
struct Stage {
    gateway: Process,
    registry: Process,
    delivery: Process,
    runner: Process,
    receiver: Receiver,
    client: Client,
    api: SocketAddr,
    postgres: Postgres,
    _broker: Broker,
}

impl Stage {
    async fn new() -> Self {
        let receiver = Receiver::start().await;
        let (postgres, broker) = (Postgres::running(), Broker::running());
        let api = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let environment = environment(
            &receiver.prefix(),
            &[
                ("DATABASE_URL", &postgres.url()),
                ("AMQP_URL", &broker.url()),
                ("HOOKYARD__HTTP__LISTEN", &api.to_string()),
                // What a killed runner held is taken over after these; kills shall not spend the attempts of tasks.
                ("HOOKYARD__RUNNER__ACTION_LEASE_S", "15"),
                ("HOOKYARD__TASKS__HEARTBEAT_S", "2"),
                ("HOOKYARD__TASKS__ATTEMPTS", "10"),
            ],
        );
        let migrated = run(&["migrate"], &environment);
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        let [gateway, registry, delivery, runner] = ["gateway", "registry", "delivery", "runner"]
            .map(|service| Process::start(&[service], &environment));
        let mut stage = Self {
            gateway,
            registry,
            delivery,
            runner,
            receiver,
            client: Client::new(api),
            api,
            postgres,
            _broker: broker,
        };
        stage.ready();
        stage.client = stage.client.with_key(&new_tenant("Acme", &environment).1);
        stage
    }

    fn ready(&mut self) {
        for process in [&mut self.gateway, &mut self.registry, &mut self.delivery, &mut self.runner] {
            process.wait_until_ready(START);
        }
    }

    fn stop(mut self) {
        for process in [&mut self.gateway, &mut self.registry, &mut self.delivery, &mut self.runner] {
            process.stop(STOP);
        }
    }

    async fn run(&self, body: &Value) -> String {
        let made = self.client.post_json("/v2/action-runs", body).await.expect(200);
        made["data"]["id"].as_str().unwrap().to_owned()
    }

    async fn ended(&self, id: &str) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let run = self.client.get(&format!("/v2/action-runs/{id}")).await.expect(200)["data"].clone();
            if run["status"] == "success" || run["status"] == "error" {
                return run;
            }
            assert!(Instant::now() < end, "{run}\n{}", self.runner.last_words());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Until the callback of a run stands as delivered: a deliverer killed after that does not send it again.
    async fn told(&self, id: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let run = self.client.get(&format!("/v2/action-runs/{id}")).await.expect(200)["data"].clone();
            if run["callback"]["status"] == "delivered" {
                return;
            }
            assert!(Instant::now() < end, "{run}\n{}", self.delivery.last_words());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn count(&self, what: &str) -> i64 {
        #[derive(QueryableByName)]
        struct Count {
            #[diesel(sql_type = BigInt)]
            n: i64,
        }
        let mut conn = PgConnection::establish(&self.postgres.url()).unwrap();
        let count: Count =
            sql_query(format!("SELECT count(*) AS n FROM {what}")).get_result(&mut conn).unwrap();
        count.n
    }

    /// The callbacks that came to a path, by run: each with the run's id in body and token, and the same bytes on every try.
    fn callbacks(&self, path: &str) -> BTreeMap<String, usize> {
        let mut bodies: BTreeMap<String, (Vec<u8>, usize)> = BTreeMap::new();
        for one in self.receiver.at(path) {
            let id = one.json()["data"]["id"].as_str().unwrap().to_owned();
            let token = one.header("zapier-callback-signature");
            let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
            let claims: Value = serde_json::from_slice(&claims).unwrap();
            assert_eq!(claims["sub"], json!(id));
            let (body, tries) = bodies.entry(id).or_insert_with(|| (one.body.clone(), 0));
            assert_eq!(*body, one.body, "every try says the same");
            *tries += 1;
        }
        bodies.into_iter().map(|(id, (_, tries))| (id, tries)).collect()
    }

    async fn called_back(&self, path: &str, runs: &BTreeSet<String>) -> BTreeMap<String, usize> {
        let end = Instant::now() + PATIENCE;
        loop {
            let callbacks = self.callbacks(path);
            let came: BTreeSet<String> = callbacks.keys().cloned().collect();
            if came == *runs {
                return callbacks;
            }
            assert!(came.is_subset(runs), "callbacks of runs that nobody asked for: {came:?}");
            let (came, all) = (came.len(), runs.len());
            assert!(Instant::now() < end, "{came} of {all} callbacks\n{}", self.delivery.last_words());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn emit(callback: &str) -> Value {
    let input = json!({"event_type": "order.created", "payload": {"id": 7}});
    json!({"action": "event.emit", "input": input, "callback_url": callback})
}

fn request(url: &str, idempotent: bool, callback: &str) -> Value {
    let input = json!({"url": url, "method": "POST", "idempotent": idempotent, "timeout_seconds": 5});
    json!({"action": "http.request", "input": input, "callback_url": callback})
}

#[tokio::test(flavor = "multi_thread")]
async fn at_each_point_somebody_is_killed() {
    let mut stage = Stage::new().await;
    let callback = stage.receiver.url("cb");
    let mut runs = BTreeSet::new();

    // The gateway, as soon as it has answered; and the runner, before it could claim.
    stage.runner.kill();
    let id = stage.run(&emit(&callback)).await;
    stage.gateway.kill_and_restart();
    stage.runner.restart();
    stage.ready();
    assert_eq!(stage.ended(&id).await["status"], "success");
    runs.insert(id);

    // The runner, after the claim and before the end: the end cannot be written, as somebody holds the events.
    let mut holder = PgConnection::establish(&stage.postgres.url()).unwrap();
    sql_query("BEGIN").execute(&mut holder).unwrap();
    sql_query("LOCK TABLE events IN EXCLUSIVE MODE").execute(&mut holder).unwrap();
    let id = stage.run(&emit(&callback)).await;
    let end = Instant::now() + PATIENCE;
    while stage.count("action_runs WHERE state = 1") == 0 {
        assert!(Instant::now() < end, "nobody claims");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stage.runner.kill();
    sql_query("ROLLBACK").execute(&mut holder).unwrap();
    stage.runner.restart();
    stage.ready();
    assert_eq!(stage.ended(&id).await["status"], "success");
    runs.insert(id);
    assert_eq!(stage.count("events WHERE event_type = 'order.created'"), 2, "each emits once");

    // The runner, while a request is under way.
    for path in ["once", "again"] {
        stage.receiver.hold(path);
    }
    let once = stage.run(&request(&stage.receiver.url("once"), false, &callback)).await;
    let again = stage.run(&request(&stage.receiver.url("again"), true, &callback)).await;
    for path in ["once", "again"] {
        stage.receiver.wait_for(path, 1, PATIENCE).await;
    }
    stage.runner.kill_and_restart();
    for path in ["once", "again"] {
        stage.receiver.release(path);
    }
    stage.ready();
    let run = stage.ended(&once).await;
    assert_eq!(
        (&run["errors"][0]["code"], &run["errors"][0]["title"]),
        (&json!("partner"), &json!("Outcome unknown"))
    );
    assert_eq!(stage.ended(&again).await["status"], "success");
    assert_eq!((stage.receiver.count("once"), stage.receiver.count("again")), (1, 2));
    runs.extend([once, again]);

    // The deliverer, between the end and the callback; and the runner, as soon as the run has ended.
    for id in &runs {
        stage.told(id).await;
    }
    stage.delivery.kill();
    let id = stage.run(&emit(&callback)).await;
    stage.ended(&id).await;
    stage.runner.kill_and_restart();
    assert!(!stage.callbacks("cb").contains_key(&id));
    stage.delivery.restart();
    stage.ready();
    runs.insert(id);
    let came = stage.called_back("cb", &runs).await;
    assert!(came.values().all(|tries| *tries == 1), "no deliverer was killed while it sent: {came:?}");

    // The deliverer, during the callback: it is sent once more, and nobody knows whether it had arrived.
    stage.receiver.hold("held");
    let id = stage.run(&emit(&stage.receiver.url("held"))).await;
    stage.receiver.wait_for("held", 1, PATIENCE).await;
    stage.delivery.kill_and_restart();
    stage.receiver.release("held");
    stage.ready();
    stage.receiver.wait_for("held", 2, PATIENCE).await;
    assert_eq!(stage.callbacks("held"), BTreeMap::from([(id.clone(), 2)]));
    stage.told(&id).await;
    runs.insert(id);
    assert_eq!(stage.count("events WHERE event_type = 'action_run.finished'"), runs.len() as i64);
    stage.stop();
}

/// Asks again with the same key until the gateway answers.
async fn insist(client: Client, api: SocketAddr, key: String, body: String) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let request = client.request("POST", "/v2/action-runs").header("idempotency-key", &key).json(&body);
        let reachable = tokio::net::TcpStream::connect(api).await.is_ok();
        if reachable
            && let Ok(Some(reply)) = tokio::spawn(raw(api, request.bytes())).await
            && reply.status == 200
        {
            return reply.json()["data"]["id"].as_str().unwrap().to_owned();
        }
        assert!(Instant::now() < end, "no answer to {key}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_killed_under_load_and_every_run_ends_once() {
    const ROUND: usize = 60;
    let mut stage = Stage::new().await;
    stage.receiver.answer("cb", Answer::status(200).after(Duration::from_millis(30)));
    let callback = stage.receiver.url("cb");
    let (mut asked, mut emitted, mut runs) = (0, 0, BTreeSet::new());
    let mut harmful: BTreeMap<String, String> = BTreeMap::new();
    for victim in ["runner", "delivery", "gateway", "runner", "gateway", "delivery", "runner"] {
        let mut asking = tokio::task::JoinSet::new();
        for n in 0..ROUND {
            asked += 1;
            let once = format!("once-{asked}");
            stage.receiver.answer(&once, Answer::status(200).after(Duration::from_millis(400)));
            let (body, path) = match n % 6 {
                0 => (request(&stage.receiver.url(&once), false, &callback), Some(once)),
                1 => (request(&stage.receiver.url(&format!("again-{asked}")), true, &callback), None),
                2 if n < 30 => {
                    let input =
                        json!({"title": "t", "description": "Summarize: all is well.", "model": "offline"});
                    (json!({"action": "task.run", "input": input, "callback_url": callback}), None)
                }
                _ => {
                    emitted += 1;
                    (emit(&callback), None)
                }
            };
            let (client, api, key) = (stage.client.clone(), stage.api, format!("run-{asked}"));
            asking.spawn(async move { (insist(client, api, key, body.to_string()).await, path) });
        }
        // Somewhere in the middle of it.
        tokio::time::sleep(Duration::from_millis(rand::random_range(20..400))).await;
        let process = match victim {
            "runner" => &mut stage.runner,
            "delivery" => &mut stage.delivery,
            _ => &mut stage.gateway,
        };
        process.kill_and_restart();
        while let Some(made) = asking.join_next().await {
            let (id, path) = made.unwrap();
            if let Some(path) = path {
                harmful.insert(id.clone(), path);
            }
            assert!(runs.insert(id), "each request makes a run of its own");
        }
        stage.ready();
    }
    let callbacks = stage.called_back("cb", &runs).await;
    assert_eq!(stage.count("action_runs"), runs.len() as i64, "no request made two");
    assert_eq!(stage.count("action_runs WHERE state < 2"), 0);
    assert_eq!(stage.count("events WHERE event_type = 'action_run.finished'"), runs.len() as i64);
    assert_eq!(stage.count("events WHERE event_type = 'order.created'"), emitted);
    let mut unknown = 0;
    for (id, path) in &harmful {
        let (run, sent) = (stage.ended(id).await, stage.receiver.count(path));
        assert!(sent <= 1, "{path} was asked {sent} times");
        if run["status"] == "success" {
            assert_eq!(sent, 1);
        } else {
            assert_eq!(run["errors"][0]["title"], "Outcome unknown", "{run}");
            unknown += 1;
        }
    }
    for id in runs.iter().filter(|id| !harmful.contains_key(*id)) {
        assert_eq!(stage.ended(id).await["status"], "success");
    }
    let twice = callbacks.values().filter(|tries| **tries > 1).count();
    println!("{} runs; {unknown} outcomes unknown, {twice} callbacks came more than once", runs.len());
    stage.stop();
}
