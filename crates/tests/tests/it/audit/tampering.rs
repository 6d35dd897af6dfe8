//! Whatever somebody with all rights on the database does to the log shows: to the rule, and to `hookyard audit verify`.

use diesel::{Connection, PgConnection, RunQueryDsl, sql_query};
use hookyard_domain::{
    Error,
    audit::{
        Chain, Digest, Mark, Recorded,
        store::export,
        verify::{Flaw, verify},
    },
    id::TenantId,
};
use hookyard_tests::system::System;

use super::{forge, told, verify as command, write};

/// Entries of the chain that is forged.
const ENTRIES: i64 = 6;

/// Statements that forge the chain `$T`, and what does not fit afterwards.
#[rustfmt::skip] // a table
const FORGERIES: [(&str, &str, Option<Flaw>); 31] = [
    ("nothing", "", None),
    ("another tenant", "UPDATE audit_log SET tenant_id = '00000000-0000-0000-0000-000000000001' WHERE seq = 3", Some(Flaw::Missing { seq: 3 })),
    ("another time", "UPDATE audit_log SET at = at + interval '1 microsecond' WHERE seq = 3", ALTERED),
    ("another kind of actor", "UPDATE audit_log SET actor_kind = 0 WHERE seq = 3", ALTERED),
    ("a kind that does not exist", "UPDATE audit_log SET actor_kind = 99 WHERE seq = 3", ALTERED),
    ("an actor's id", "UPDATE audit_log SET actor_id = tenant_id WHERE seq = 3", ALTERED),
    ("another name", "UPDATE audit_log SET actor_name = 'bob' WHERE seq = 3", ALTERED),
    ("no name", "UPDATE audit_log SET actor_name = '' WHERE seq = 3", ALTERED),
    ("an address", "UPDATE audit_log SET address = '192.0.2.1' WHERE seq = 3", ALTERED),
    ("an empty address", "UPDATE audit_log SET address = '' WHERE seq = 3", ALTERED),
    ("a request", "UPDATE audit_log SET request_id = 'r' WHERE seq = 3", ALTERED),
    ("another action", "UPDATE audit_log SET action = 'key.revoked' WHERE seq = 3", ALTERED),
    ("another kind of object", "UPDATE audit_log SET object_kind = 'hook' WHERE seq = 3", ALTERED),
    ("another object", "UPDATE audit_log SET object_id = 'key-4' WHERE seq = 3", ALTERED),
    ("a boundary", "UPDATE audit_log SET object_kind = 'keyk', object_id = 'ey-3' WHERE seq = 3", ALTERED),
    ("a state before", "UPDATE audit_log SET before = '' WHERE seq = 3", ALTERED),
    ("a blank in the state after", "UPDATE audit_log SET after = '{\"n\": 3}' WHERE seq = 3", ALTERED),
    ("no state after", "UPDATE audit_log SET after = NULL WHERE seq = 3", ALTERED),
    ("another hash", "UPDATE audit_log SET hash = decode(repeat('00', 32), 'hex') WHERE seq = 3", ALTERED),
    ("a short hash", "UPDATE audit_log SET hash = '' WHERE seq = 3", ALTERED),
    ("the first deleted", "DELETE FROM audit_log WHERE seq = 1", Some(Flaw::Missing { seq: 1 })),
    ("one in the middle deleted", "DELETE FROM audit_log WHERE seq = 3", Some(Flaw::Missing { seq: 3 })),
    ("the end deleted", "DELETE FROM audit_log WHERE seq > 4", Some(Flaw::CutOff { from: 5, to: ENTRIES })),
    ("all deleted", "DELETE FROM audit_log", Some(Flaw::CutOff { from: 1, to: ENTRIES })),
    ("two exchanged", "UPDATE audit_log SET seq = -seq WHERE seq IN (3, 4); UPDATE audit_log SET seq = 7 + seq WHERE seq < 0", ALTERED),
    ("one put in before the first", "INSERT INTO audit_log SELECT tenant_id, 0, at, actor_kind, actor_id, actor_name, address, request_id, action, object_kind, object_id, before, after, hash FROM audit_log WHERE seq = 1", Some(Flaw::Altered { seq: 0 })),
    ("one put in behind the last", "INSERT INTO audit_log SELECT tenant_id, 7, at, actor_kind, actor_id, actor_name, address, request_id, action, object_kind, object_id, before, after, hash FROM audit_log WHERE seq = 6", Some(Flaw::Altered { seq: 7 })),
    ("no head", "DELETE FROM audit_heads", Some(Flaw::NoHead { seq: ENTRIES })),
    ("a head that was moved back", "UPDATE audit_heads SET seq = 4, hash = (SELECT hash FROM audit_log l WHERE seq = 4)", Some(Flaw::BehindHead { seq: ENTRIES, head: 4 })),
    ("a head with another hash", "UPDATE audit_heads SET hash = decode(repeat('00', 32), 'hex')", Some(Flaw::HeadDiffers { seq: ENTRIES })),
    ("a head with another time", "UPDATE audit_heads SET at = at - interval '1 second'", Some(Flaw::HeadDiffers { seq: ENTRIES })),
];

const ALTERED: Option<Flaw> = Some(Flaw::Altered { seq: 3 });

/// A system with one chain of [`ENTRIES`].
async fn scene() -> (System, TenantId, Mark) {
    let system = System::start().await;
    let tenant = system.tenant;
    write(&system, tenant, usize::try_from(ENTRIES).unwrap()).await;
    let verified = system.db.run(move |conn| verify(conn, Chain::Tenant(tenant), &[])).await.unwrap();
    (system, tenant, verified.end)
}

#[tokio::test]
async fn every_forgery_is_found_at_its_place() {
    let (system, tenant, _) = scene().await;
    let chain = Chain::Tenant(tenant);
    for (what, statements, flaw) in FORGERIES {
        let mut found = None;
        let looked = system.db.once(move |conn| {
            // An error rolls the forgery back.
            let undone: Result<(), Error> = conn.transaction(|conn| {
                forge(conn, statements);
                found = Some(verify(conn, chain, &[])?);
                Err(Error::NotFound { what: "reason" })
            });
            assert!(undone.is_err());
            Ok(found)
        });
        let verified = looked.await.unwrap().unwrap();
        assert_eq!(verified.flaw, flaw, "{what}: {verified:?}");
    }
}

/// Each kind of forgery, committed, and found by the command that an operator runs.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_tells_what_is_broken_and_ends_with_1() {
    for (what, statements, expected) in [
        (
            "a changed cell",
            "UPDATE audit_log SET actor_name = 'bob' WHERE seq = 3",
            "entry 3 is not what was written",
        ),
        ("a deleted row", "DELETE FROM audit_log WHERE seq = 3", "entry 3 is missing"),
        (
            "a deleted end",
            "DELETE FROM audit_log WHERE seq > 4",
            "the end is cut off: entries 5 to 6 are missing",
        ),
        (
            "exchanged rows",
            "UPDATE audit_log SET seq = -seq WHERE seq IN (3, 4); UPDATE audit_log SET seq = 7 + seq WHERE seq < 0",
            "entry 3 is not what was written",
        ),
        ("a lost head", "DELETE FROM audit_heads", "there are entries up to 6 and no head"),
    ] {
        let (system, tenant, end) = scene().await;
        let other = system.tenant("Other").await;
        write(&system, other, 1).await;
        let (good, said) = command(&system, &[]);
        assert!(good && said.contains(&format!("good  6 entries  {end}")), "{what}: {said}");
        let only = statements.replace("WHERE", &format!("WHERE tenant_id = '{}' AND", tenant.uuid()));
        let only =
            if only == statements { format!("{only} WHERE tenant_id = '{}'", tenant.uuid()) } else { only };
        system
            .db
            .run(move |conn| {
                forge(conn, &only);
                Ok(())
            })
            .await
            .unwrap();
        for arguments in [&[][..], &["--tenant", &tenant.to_string()]] {
            let (good, said) = command(&system, arguments);
            assert!(!good && said.contains(&format!("{tenant}  BROKEN  {expected}")), "{what}: {said}");
            assert!(said.contains("hookyard: the audit log is broken: 1 of its chains"), "{what}: {said}");
        }
        let (good, said) = command(&system, &["--tenant", &other.to_string()]);
        assert!(good && said.contains("good  1 entries"), "{what}: {said}");
    }
}

/// What the chain cannot show by itself shows by what somebody noted.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_was_written_anew_differs_from_what_was_noted() {
    let (system, tenant, noted) = scene().await;
    let chain = Chain::Tenant(tenant);
    let expect = noted.to_string();
    assert!(command(&system, &["--expect", &expect]).0);
    // The log goes on, and what was noted stays true.
    write(&system, tenant, 2).await;
    assert!(command(&system, &["--expect", &expect]).0);

    system
        .db
        .run(move |conn| {
            rewrite(conn, chain, 3);
            Ok(())
        })
        .await
        .unwrap();
    assert!(command(&system, &[]).0, "the chain fits itself");
    let (good, said) = command(&system, &["--expect", &expect]);
    assert!(!good && said.contains("entry 6 is not the one that was noted"), "{said}");

    let (cut, tenant, noted) = scene().await;
    let end = "DELETE FROM audit_log WHERE seq > 4; \
        UPDATE audit_heads SET seq = 4, hash = (SELECT hash FROM audit_log WHERE seq = 4), at = (SELECT at FROM audit_log WHERE seq = 4)";
    cut.db
        .run(move |conn| {
            forge(conn, end);
            Ok(())
        })
        .await
        .unwrap();
    assert!(command(&cut, &[]).0, "the chain fits itself");
    let (good, said) = command(&cut, &["--expect", &noted.to_string()]);
    assert!(!good && said.contains("entry 6 is not the one that was noted"), "{said}");
    // So does one of which nothing is left.
    cut.db
        .run(|conn| {
            forge(conn, "DELETE FROM audit_log; DELETE FROM audit_heads");
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(command(&cut, &[]), (true, String::new()));
    let (good, said) = command(&cut, &["--expect", &noted.to_string(), "--json"]);
    let line: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert!(!good && line["good"] == false && line["chain"] == tenant.to_string(), "{said}");

    let wrong = hookyard_tests::processes::run(&["audit", "verify", "--expect", "x"], &super::at(&cut));
    assert_eq!(wrong.status.code(), Some(2), "{}", String::from_utf8_lossy(&wrong.stderr));
    assert!(told(&hookyard_tests::processes::run(&["audit", "verify"], &super::at(&cut))).0);
}

/// What somebody does who knows the rule: changes an entry, and every hash behind it.
fn rewrite(conn: &mut PgConnection, chain: Chain, from: i64) {
    let mut previous = Digest::genesis(chain);
    let mut last: Option<Recorded> = None;
    forge(conn, "");
    for mut entry in export(conn, chain, 0, i64::MAX, 100).unwrap() {
        if entry.seq == from {
            entry.actor_name = "bob".to_owned();
        }
        previous = Digest::of(&previous, &entry);
        let (seq, name) = (entry.seq, &entry.actor_name);
        let statement =
            format!("UPDATE audit_log SET actor_name = '{name}', hash = '\\x{previous}' WHERE seq = {seq}");
        sql_query(statement).execute(conn).unwrap();
        last = Some(entry);
    }
    assert!(last.is_some());
    sql_query(format!("UPDATE audit_heads SET hash = '\\x{previous}'")).execute(conn).unwrap();
}
