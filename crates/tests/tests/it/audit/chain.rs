//! Chains as they are written: whole under a race, in time whatever the clocks say, and append-only.

use chrono::TimeDelta;
use diesel::{RunQueryDsl, sql_query};
use hookyard_domain::{
    Error,
    audit::{
        Actor, Chain, record, record_all,
        store::{end, export},
        verify::{chains, verify},
    },
};
use hookyard_tests::system::{Options, System};
use serde_json::json;
use tokio::task::JoinSet;

use super::{entry, write};

#[tokio::test(flavor = "multi_thread")]
async fn fifty_writers_at_once_leave_one_chain_without_a_gap() {
    let options = Options { gateways: 2, ..Options::default() };
    let system = System::with(options).await;
    let client = system.client().await;
    let mut writers = JoinSet::new();
    for n in 0..50 {
        let client = client.at(system.gateways[n % 2].addr);
        let url = format!("https://hooks.zapier.com/hooks/standard/1/{n}/");
        writers
            .spawn(async move { client.post_json("/zapier/hook", &json!({"url": url})).await.expect(200) });
    }
    assert_eq!(writers.join_all().await.len(), 50);
    let chain = Chain::Tenant(system.tenant);
    let (verified, entries) = system
        .db
        .run(move |conn| Ok((verify(conn, chain, &[])?, export(conn, chain, 0, i64::MAX, 100)?)))
        .await
        .unwrap();
    assert_eq!((verified.end.seq, verified.flaw), (50, None));
    assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), (1..=50).collect::<Vec<_>>());
    assert!(entries.is_sorted_by_key(|entry| entry.at), "{entries:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_with_entries_of_two_chains_do_not_wait_for_each_other() {
    let system = System::start().await;
    let tenants = [system.tenant, system.tenant("Other").await];
    let mut writers = JoinSet::new();
    for n in 0..40 {
        let (db, now) = (system.db.clone(), system.clock.now());
        let (first, second) = (tenants[n % 2], tenants[(n + 1) % 2]);
        writers.spawn(async move {
            let entries = [entry(first, n), entry(second, n), entry(first, n)];
            db.run(move |conn| record_all(conn, &Actor::system("test"), &entries, now)).await
        });
    }
    // A deadlock would be an error of one of them.
    assert!(writers.join_all().await.iter().all(Result::is_ok));
    for tenant in tenants {
        let verified = system.db.run(move |conn| verify(conn, Chain::Tenant(tenant), &[])).await.unwrap();
        assert_eq!((verified.end.seq, verified.flaw), (60, None));
    }
}

#[tokio::test]
async fn a_change_that_is_rolled_back_leaves_no_entry_and_no_gap() {
    let system = System::start().await;
    let (tenant, now) = (system.tenant, system.clock.now());
    write(&system, tenant, 2).await;
    let refused = system
        .db
        .run(move |conn| {
            record(conn, &Actor::system("test"), &entry(tenant, 3), now)?;
            Err::<(), _>(Error::NotFound { what: "reason" })
        })
        .await;
    assert!(refused.is_err());
    write(&system, tenant, 1).await;
    let verified = system.db.run(move |conn| verify(conn, Chain::Tenant(tenant), &[])).await.unwrap();
    assert_eq!((verified.end.seq, verified.flaw), (3, None));
}

#[tokio::test]
async fn an_entry_is_never_older_than_the_one_before() {
    let system = System::start().await;
    let (tenant, now) = (system.tenant, system.clock.now());
    let entries = system
        .db
        .run(move |conn| {
            // The second writer's clock is behind, the third's is ahead.
            for (n, skew) in [(1, 0), (2, -5), (3, 5)] {
                record(conn, &Actor::system("test"), &entry(tenant, n), now + TimeDelta::minutes(skew))?;
            }
            export(conn, Chain::Tenant(tenant), 0, i64::MAX, 10)
        })
        .await
        .unwrap();
    let times: Vec<_> = entries.iter().map(|entry| entry.at).collect();
    assert_eq!(times, [now, now, now + TimeDelta::minutes(5)]);
}

#[tokio::test]
async fn what_is_written_cannot_be_changed() {
    let system = System::start().await;
    let tenant = system.tenant;
    write(&system, tenant, 3).await;
    for statement in [
        "UPDATE audit_log SET actor_name = 'bob'",
        "UPDATE audit_log SET seq = seq + 1 WHERE seq = 3",
        "DELETE FROM audit_log WHERE seq = 3",
        "TRUNCATE audit_log",
    ] {
        let refused = system.db.run(move |conn| Ok(sql_query(statement).execute(conn)?)).await;
        let text = refused.unwrap_err().chain();
        assert!(text.contains("the audit log is append-only"), "{statement}: {text}");
    }
    let verified = system.db.run(move |conn| verify(conn, Chain::Tenant(tenant), &[])).await.unwrap();
    assert_eq!((verified.end.seq, verified.flaw), (3, None));
}

#[tokio::test]
async fn each_tenant_has_a_chain_and_the_installation_has_one() {
    let system = System::start().await;
    let other = system.tenant("Other").await;
    let now = system.clock.now();
    assert_eq!(system.db.run(chains).await.unwrap(), []);
    write(&system, system.tenant, 2).await;
    write(&system, other, 1).await;
    let nobodys = super::Entry { tenant: None, ..entry(other, 1) };
    system.db.run(move |conn| record(conn, &Actor::operator("alice"), &nobodys, now)).await.unwrap();
    let all = system.db.run(chains).await.unwrap();
    assert_eq!(all, [Chain::Installation, Chain::Tenant(system.tenant), Chain::Tenant(other)]);
    let ends = system
        .db
        .run(move |conn| all.into_iter().map(|chain| end(conn, chain)).collect::<Result<Vec<_>, _>>());
    assert_eq!(ends.await.unwrap().iter().map(|mark| mark.seq).collect::<Vec<_>>(), [1, 2, 1]);
}
