//! Every route of the document × everybody who may or may not call it × their own and another tenant's objects (contract
//! §1). What is expected follows from what the document says of a route; how a route is called stands in [`rows`], and a
//! route without a row there fails.

mod rows;
mod world;

use std::collections::BTreeSet;

use hookyard_domain::{credential::Scope, person::Role};
use hookyard_tests::http::{Reply, Request};
use serde_json::Value;

use self::{
    rows::{ROWS, Row},
    world::{Caller, Objects, World},
};

/// What the document says of a route.
#[derive(Debug)]
struct Demand {
    public: bool,
    scope: Option<Scope>,
    role: Option<Role>,
    /// Only a worker token.
    worker: bool,
}

impl Demand {
    fn of(operation: &Value) -> Self {
        let word = |name: &str| operation[name].as_str();
        let demand = Self {
            public: operation["security"].as_array().unwrap().is_empty(),
            scope: word("x-scope").map(|word| word.parse().unwrap()),
            role: word("x-role").map(|word| word.parse().unwrap()),
            worker: operation["x-worker"] == true,
        };
        let schemes: BTreeSet<&str> = operation["security"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|scheme| scheme.as_object().unwrap().keys().map(String::as_str))
            .collect();
        // The three ways to say who may call agree with each other.
        assert_eq!(demand.public, schemes.is_empty(), "{operation}");
        assert_eq!(schemes.contains("bearer"), demand.scope.is_some(), "{operation}");
        assert_eq!(schemes.contains("session"), demand.role.is_some(), "{operation}");
        assert_eq!(schemes.contains("worker"), demand.worker, "{operation}");
        demand
    }

    /// Whether the route lets this caller in.
    fn lets_in(&self, caller: &Caller) -> bool {
        match caller {
            Caller::Nobody => self.public,
            Caller::Key { scopes, .. } => {
                self.public
                    || self.scope.is_some_and(|needed| {
                        scopes.iter().any(|scope| *scope == needed || *scope == Scope::Admin)
                    })
            }
            Caller::Worker { .. } => self.public || self.worker,
            Caller::Person { role, .. } => self.public || self.role.is_some_and(|least| least <= *role),
        }
    }
}

/// Every operation of the document, by its name.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &Value)| {
        let path = path.clone();
        let operations = item.as_object().unwrap().iter();
        let named =
            operations.map(move |(method, _)| (format!("{} {path}", method.to_uppercase()), method.clone()));
        named.collect::<Vec<_>>()
    };
    let names = paths.iter().flat_map(of_path).collect::<Vec<_>>();
    let find = |(name, method): (String, String)| {
        let path = name.split_once(' ').unwrap().1.to_owned();
        (name, &document["paths"][path][method])
    };
    names.into_iter().map(find).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_lets_in_whom_it_says_and_nobody_near_another_tenants_things() {
    let world = World::new().await;
    let document = world.system.anonymous().get("/openapi.json").await.expect(200);
    let operations = operations(&document);
    let documented: BTreeSet<&str> = operations.iter().map(|(name, _)| name.as_str()).collect();
    let with_row: BTreeSet<&str> = ROWS.iter().map(|row| row.route).collect();
    assert_eq!(with_row, documented, "each route has one row in matrix/rows.rs");
    assert_eq!(ROWS.len(), with_row.len(), "a route has two rows");
    let mut flaws = Vec::new();
    let mut rows: Vec<(&Row, &Value)> = Vec::new();
    for (name, operation) in &operations {
        rows.push((ROWS.iter().find(|row| row.route == name.as_str()).unwrap(), operation));
    }
    rows.sort_by_key(|(row, _)| row.ends_callers);
    for (row, operation) in rows {
        walk(&world, row, &Demand::of(operation), &mut flaws).await;
    }
    assert!(flaws.is_empty(), "{} flaws:\n{}", flaws.len(), flaws.join("\n"));
}

/// Everybody calls one route, about the same new objects: first those who must not reach them, last those who may.
async fn walk(world: &World, row: &Row, demand: &Demand, flaws: &mut Vec<String>) {
    let objects = world.objects(&world.ours, row).await;
    let theirs = world.objects(&world.theirs, row).await;
    let mut check = |who: &str, reply: &Reply, as_expected: bool, expected: &str| {
        if !as_expected {
            flaws.push(format!(
                "{}: {who}: expected {expected}, got {} {}",
                row.route,
                reply.status,
                reply.text()
            ));
        }
    };
    let (our_callers, their_callers) = (world.callers(&world.ours).await, world.callers(&world.theirs).await);
    if row.looks_itself {
        for caller in our_callers.iter().chain(&their_callers) {
            let reply = call(world, row, caller, &objects).await;
            check(&caller.to_string(), &reply, demand.public && reply.status < 500, "an answer");
        }
        return;
    }
    let (lacking, let_in): (Vec<&Caller>, Vec<&Caller>) =
        our_callers.iter().partition(|caller| !demand.lets_in(caller));
    for caller in lacking {
        for objects in [&objects, &theirs] {
            let reply = call(world, row, caller, objects).await;
            let expected = if matches!(caller, Caller::Nobody) {
                (401, "UNAUTHORIZED")
            } else {
                (403, "INSUFFICIENT_PERMISSIONS")
            };
            let told = reply.error();
            check(
                &caller.to_string(),
                &reply,
                (told.0, told.1.as_str()) == expected,
                &format!("{expected:?}"),
            );
        }
    }
    if let Some(expected) = row.foreign {
        let before =
            (world.seen(&world.ours, row, &objects).await, world.seen(&world.theirs, row, &theirs).await);
        // Who could do everything at home, and everybody of ours who is let in.
        for (caller, objects) in their_callers
            .iter()
            .filter(|caller| demand.lets_in(caller))
            .map(|caller| (caller, &objects))
            .chain(let_in.iter().map(|caller| (*caller, &theirs)))
            .filter(|(caller, _)| !matches!(caller, Caller::Nobody))
        {
            let reply = call(world, row, caller, objects).await;
            let who = format!("{caller}, another tenant's object");
            check(&who, &reply, reply.status == expected, &expected.to_string());
            if expected == 404 {
                check(&who, &reply, reply.error().1 == "NOT_FOUND", "NOT_FOUND");
            }
        }
        let after =
            (world.seen(&world.ours, row, &objects).await, world.seen(&world.theirs, row, &theirs).await);
        assert_eq!(after, before, "{}: another tenant has changed something", row.route);
    }
    for (at, caller) in let_in.into_iter().enumerate() {
        let reply = call(world, row, caller, &objects).await;
        let passes = ![401, 403].contains(&reply.status) && reply.status < 500;
        check(&caller.to_string(), &reply, passes, "to pass");
        // The first finds everything as it was made, which also proves that nobody before has touched it.
        if at == 0 {
            check(&caller.to_string(), &reply, reply.status == row.status, &row.status.to_string());
        }
    }
}

/// A key that is too long is refused by every route that looks at one, before it does anything, and no other route minds it.
#[tokio::test(flavor = "multi_thread")]
async fn every_route_that_makes_something_looks_at_idempotency_key_if_the_document_says_so() {
    let world = World::new().await;
    let document = world.system.anonymous().get("/openapi.json").await.expect(200);
    let (mut flaws, mut taking) = (Vec::new(), 0);
    for (name, operation) in operations(&document) {
        let row = ROWS.iter().find(|row| row.route == name.as_str()).unwrap();
        // Forms of pages and the endpoints of OAuth have no credential that a key could belong to.
        if !name.starts_with("POST ") || row.looks_itself {
            continue;
        }
        let mut parameters = operation["parameters"].as_array().into_iter().flatten();
        let told = parameters.any(|parameter| parameter["name"] == "Idempotency-Key");
        let (objects, callers) = (world.objects(&world.ours, row).await, world.callers(&world.ours).await);
        let demand = Demand::of(operation);
        let caller = callers.iter().find(|caller| demand.lets_in(caller)).unwrap();
        let request = request(&world, row, caller, &objects).header("idempotency-key", "k".repeat(256));
        let reply = request.send().await;
        let looked_at = reply.status == 400 && reply.text().contains("INVALID_IDEMPOTENCY_KEY");
        if looked_at != told {
            flaws.push(format!("{name}: told {told}, got {} {}", reply.status, reply.text()));
        }
        taking += i32::from(told);
    }
    assert!(
        flaws.is_empty() && taking > 25,
        "{taking} take it, {} flaws:\n{}",
        flaws.len(),
        flaws.join("\n")
    );
}

async fn call(world: &World, row: &Row, caller: &Caller, objects: &Objects) -> Reply {
    request(world, row, caller, objects).send().await
}

fn request(world: &World, row: &Row, caller: &Caller, objects: &Objects) -> Request {
    let (method, _) = row.route.split_once(' ').unwrap();
    let path = objects.fill(row.path);
    let request = world.system.anonymous().request(method, &path);
    let request = if row.body.is_empty() { request } else { request.json(objects.fill(row.body)) };
    caller.sign(request)
}
