//! Who gets what, and when: long polls, hints, many workers at the same time.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use hookyard_tests::{
    http::Client,
    system::{Options, System},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use super::{Fleet, claim, owner, text, token};

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_workers_never_get_the_same_run() {
    let mut options = Options { gateways: 2, ..Options::default() };
    options.database.pool_size = 10;
    let system = System::with(options).await;
    let admin = system.client().await;
    let key = token(&admin, &json!({"name": "fleet"})).await;
    for n in 0..60 {
        let body = json!({"title": format!("t{n}"), "description": "d", "agent_type": "build"});
        admin.post_json("/v1/automation/tasks", &body).await.expect(201);
    }
    let mut claimers = JoinSet::new();
    for n in 0..16 {
        let worker = Client::new(system.gateways[n % 2].addr).with_key(&key);
        claimers.spawn(async move {
            let mut got = Vec::new();
            loop {
                let tasks = claim(&worker, &format!("w{n}"), 1 + n as u32 % 4, 0).await;
                if tasks.is_empty() {
                    return got;
                }
                got.extend(tasks);
            }
        });
    }
    let got: Vec<Value> = claimers.join_all().await.concat();
    let runs: HashSet<String> = got.iter().map(|task| text(&task["run_id"])).collect();
    let leases: HashSet<String> = got.iter().map(|task| text(&task["lease_token"])).collect();
    assert_eq!((got.len(), runs.len(), leases.len()), (60, 60, 60));
}

#[tokio::test]
async fn the_highest_priority_goes_first_and_each_gets_what_it_can_do() {
    let fleet = Fleet::quiet().await;
    let post = async |more: Value| {
        let mut body = json!({"title": "t", "description": "d", "agent_type": "build"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fleet.task_with(&body).await
    };
    let low = post(json!({"priority": 1})).await;
    let high = post(json!({"priority": 9, "model": "gpt-4o"})).await;
    let special = post(json!({"priority": 5, "capabilities": ["gpu", "docker"]})).await;
    let explore = post(json!({"agent_type": "explore"})).await;
    let get = async |about: Value, limit: u32| -> Vec<String> {
        let body = json!({"worker": about, "limit": limit});
        let reply = fleet.worker.post_json("/v1/automation/worker/claim", &body).await.expect(200);
        reply["tasks"].as_array().unwrap().iter().map(|task| text(&task["task_id"])).collect()
    };
    let about = |more: Value| {
        let mut about = json!({"name": "w", "agent_types": ["build"]});
        about.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        about
    };
    assert_eq!(get(about(json!({"capabilities": ["gpu"], "models": ["claude-haiku"]})), 10).await, [""; 0]);
    assert_eq!(get(about(json!({"capabilities": ["docker", "gpu", "x"]})), 10).await, [high, special, low]);
    assert_eq!(get(about(json!({})), 10).await, [""; 0]);
    assert_eq!(get(about(json!({"agent_types": ["explore", "plan"]})), 10).await, [explore]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_waits_is_woken_within_a_second_wherever_the_task_is_made() {
    let system = System::with(Options { gateways: 2, ..Options::default() }).await;
    let admin = system.client().await;
    let key = token(&admin, &json!({"name": "fleet"})).await;
    let worker = system.anonymous().with_key(&key);
    for gateway in [0, 1] {
        let waits = {
            let worker = worker.clone();
            tokio::spawn(async move { (claim(&worker, "w", 1, 20).await, Instant::now()) })
        };
        tokio::time::sleep(Duration::from_millis(700)).await;
        let made = Instant::now();
        let body = json!({"title": "t", "description": "d", "agent_type": "build"});
        admin.at(system.gateways[gateway].addr).post_json("/v1/automation/tasks", &body).await.expect(201);
        let (tasks, at) = waits.await.unwrap();
        assert_eq!(tasks.len(), 1);
        assert!(at - made < Duration::from_secs(1), "{:?}", at - made);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_wait_each_task_wakes_one() {
    let fleet = Fleet::quiet().await;
    let mut waiting = JoinSet::new();
    for n in 0..20 {
        let worker = fleet.worker.clone();
        waiting.spawn(async move { claim(&worker, &format!("w{n}"), 1, 5).await });
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let began = Instant::now();
    let owner = owner(&fleet.system).await;
    for _ in 0..10 {
        let body = json!({"title": "t", "description": "d", "agent_type": "build"});
        owner.post_json("/v1/automation/tasks", &body).await.expect(201);
    }
    let mut got = 0;
    while got < 10 {
        got += waiting.join_next().await.unwrap().unwrap().len();
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let rest = waiting.join_all().await;
    assert_eq!(rest.iter().map(Vec::len).sum::<usize>(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_waits_ends_in_time_when_drained_and_when_the_gateway_stops() {
    let mut fleet = Fleet::quiet().await;
    let began = Instant::now();
    assert!(claim(&fleet.worker, "w", 1, 1).await.is_empty());
    let lasted = began.elapsed();
    assert!(lasted >= Duration::from_secs(1) && lasted < Duration::from_secs(3), "{lasted:?}");
    let wait = || {
        let worker = fleet.worker.clone();
        tokio::spawn(async move { claim(&worker, "w", 1, 30).await })
    };
    let drained = wait();
    tokio::time::sleep(Duration::from_millis(700)).await;
    fleet.worker.post_json("/v1/automation/worker/drain", &json!({"name": "w"})).await.expect(200);
    let ended =
        tokio::time::timeout(Duration::from_secs(2), drained).await.expect("it ends at once").unwrap();
    assert!(ended.is_empty());
    let stopped = wait();
    tokio::time::sleep(Duration::from_millis(700)).await;
    fleet.system.stop().await;
    let ended =
        tokio::time::timeout(Duration::from_secs(2), stopped).await.expect("it ends at once").unwrap();
    assert!(ended.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_tell_which_work_waits() {
    let fleet = Fleet::quiet().await;
    let builds = token(&fleet.admin, &json!({"name": "builders", "agent_types": ["build"]})).await;
    let worker = fleet.system.anonymous().with_key(&builds);
    let explore = json!({"title": "t", "description": "d", "agent_type": "explore"});
    fleet.task_with(&explore).await;
    let mut stream = TcpStream::connect(fleet.system.gateways[0].addr).await.unwrap();
    stream.write_all(&worker.request("GET", "/v1/automation/worker/hints").bytes()).await.unwrap();
    let mut heard = String::new();
    let mut listen = async |until: &str, patience: Duration| {
        let mut buffer = [0; 4096];
        let read = async {
            while !heard.contains(until) {
                let read = stream.read(&mut buffer).await.unwrap();
                assert!(read > 0, "{heard}");
                heard.push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        };
        tokio::time::timeout(patience, read).await.is_ok()
    };
    assert!(listen("retry: 1000", Duration::from_secs(2)).await);
    assert!(!listen("event: work", Duration::from_secs(1)).await, "explore is not for this token");
    fleet.task("Build").await;
    assert!(listen("event: work\ndata: {\"agent_type\":\"build\"}\n\n", Duration::from_secs(1)).await);
}

/// A long poll on a socket of its own.
async fn polling(fleet: &Fleet, name: &str) -> TcpStream {
    let mut stream = TcpStream::connect(fleet.system.gateways[0].addr).await.unwrap();
    let body = json!({"worker": {"name": name}, "wait_seconds": 30}).to_string();
    let request = fleet.worker.request("POST", "/v1/automation/worker/claim").json(body);
    stream.write_all(&request.bytes()).await.unwrap();
    stream
}

async fn waits(fleet: &Fleet, count: usize) {
    let end = Instant::now() + Duration::from_secs(5);
    let line = format!("hookyard_workers_waiting {count}");
    while !metrics(&fleet.system).contains(&line) {
        assert!(Instant::now() < end, "not {count} workers wait: {}", metrics(&fleet.system));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_gone_waits_no_longer_and_is_given_nothing() {
    let fleet = Fleet::quiet().await;
    for half in [true, false] {
        let mut stream = polling(&fleet, "gone").await;
        waits(&fleet, 1).await;
        if half {
            // As the kernel of a worker does that is killed: its side is closed, whether it reads or not.
            stream.shutdown().await.unwrap();
            waits(&fleet, 0).await;
            let mut heard = Vec::new();
            let _reset = stream.read_to_end(&mut heard).await;
            assert_eq!(String::from_utf8_lossy(&heard), "");
        } else {
            drop(stream);
            waits(&fleet, 0).await;
        }
        let task = fleet.task("Build").await;
        let tasks = claim(&fleet.worker, "there", 1, 0).await;
        assert_eq!((text(&tasks[0]["task_id"]), &tasks[0]["attempt"]), (task, &json!(1)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_for_somebody_who_goes_at_that_moment_is_given_back_at_once() {
    let fleet = Fleet::quiet().await;
    let (mut told, mut given_back) = (0, 0);
    for n in 0..60_u64 {
        let mut stream = polling(&fleet, "going").await;
        waits(&fleet, 1).await;
        let going = tokio::spawn(async move {
            // Somewhere about the time in which the task is stored, taken and told.
            tokio::time::sleep(Duration::from_micros(n * 250)).await;
            let _reset = stream.shutdown().await;
            let mut heard = Vec::new();
            let _reset = stream.read_to_end(&mut heard).await;
            String::from_utf8_lossy(&heard).into_owned()
        });
        let task = fleet.task("Build").await;
        let heard = going.await.unwrap();
        // The clock stands still: no lease ends by itself.
        let tasks = claim(&fleet.worker, "there", 1, if heard.contains(&task) { 0 } else { 5 }).await;
        if heard.contains(&task) {
            told += 1;
            assert_eq!(tasks, Vec::<Value>::new(), "it was told already");
        } else {
            given_back += 1;
            assert_eq!(tasks.len(), 1, "round {n}: nobody has it, and nobody is given it");
            assert_eq!(tasks[0]["attempt"], 1, "round {n}");
        }
    }
    assert!(told > 0 && given_back > 0, "{told} told, {given_back} given back");
}

fn metrics(system: &System) -> String {
    system.gateways[0].registry.render().unwrap()
}
