//! Going over to another master key while everything goes on.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use diesel::{Connection as _, PgConnection, RunQueryDsl, sql_query};
use hookyard_domain::{
    db::Db,
    id::SubscriptionId,
    subscription::store,
    vault::{
        Vault, columns,
        store::{self as keyring, Rotation},
    },
};

use super::{hook, opened, register, stored, subscribe, vault_of, without_keys};
use crate::pipeline::stage::until;

async fn rotate(db: &Db, vault: &Vault) -> Rotation {
    keyring::rotate(db, vault, &mut |_, _| {}).await.unwrap()
}

fn sealed(rotation: &Rotation) -> u64 {
    rotation.columns.iter().map(|column| column.sealed).sum()
}

fn left(rotation: &Rotation) -> u64 {
    rotation.columns.iter().map(|column| column.unreadable + column.locked).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_sealed_anew_and_the_old_key_is_forgotten() {
    // One more than is done at once.
    const HOOKS: usize = 501;
    let (_database, db, tenant) = without_keys().await;
    let (old, both, new) = (vault_of(1, &[]), vault_of(2, &[1]), vault_of(2, &[]));
    register(&db, &old).await.unwrap();
    for number in 0..HOOKS {
        subscribe(&db, &old, hook(tenant, &number.to_string(), Some("secret"))).await.unwrap();
    }
    let before = opened(&db, &old).await;
    register(&db, &both).await.unwrap();
    let mut told = Vec::new();
    let rotation =
        keyring::rotate(&db, &both, &mut |column, sealed| told.push((column, sealed))).await.unwrap();
    assert_eq!((sealed(&rotation), left(&rotation)), (2 * HOOKS as u64, 0), "{rotation:?}");
    assert_eq!(rotation.dropped, [old.current()]);
    let expected = [columns::SIGNING_SECRET, columns::HOOK_WEBHOOK_SECRET]
        .into_iter()
        .flat_map(|column| [(column, 500), (column, 501)]);
    assert_eq!(told, expected.collect::<Vec<_>>(), "progress");
    assert_eq!(opened(&db, &new).await, before, "the same secrets, under the new key alone");
    assert!(!register(&db, &new).await.unwrap(), "the old key is not needed any more");

    // Once more does nothing, and whoever still seals with the old key is stopped.
    let again = rotate(&db, &both).await;
    assert_eq!((sealed(&again), again.dropped.len()), (0, 0), "{again:?}");
    assert!(subscribe(&db, &old, hook(tenant, "late", None)).await.is_err());
}

/// During a rolling restart some seal with the old key and some with the new one, two operators rotate, and subscribers
/// change their secrets all the time. No change that was answered is lost. Who is still not restarted when the old key goes
/// is refused, and goes on after its restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_loses_no_change_that_is_made_meanwhile() {
    const HOOKS: usize = 60;
    let (_database, db, tenant) = without_keys().await;
    let (old, new) = (vault_of(1, &[2]), vault_of(2, &[1]));
    register(&db, &old).await.unwrap();
    register(&db, &new).await.unwrap();
    for number in 0..HOOKS {
        subscribe(&db, &old, hook(tenant, &number.to_string(), Some("first"))).await.unwrap();
    }
    let (stop, old_key) = (Arc::new(AtomicBool::new(false)), old.current());
    let rounds: [Arc<AtomicUsize>; 3] = Default::default();
    let writers: Vec<_> = (0..3)
        .map(|writer: usize| {
            let (db, new, mut vault) = (db.clone(), new.clone(), [&old, &new][writer % 2].clone());
            let (stop, rounds) = (Arc::clone(&stop), Arc::clone(&rounds[writer]));
            tokio::spawn(async move {
                let mut last: HashMap<SubscriptionId, String> = HashMap::new();
                for round in 1.. {
                    // Each writer has hooks of its own, so that it knows what was written last.
                    for number in (writer..HOOKS).step_by(3) {
                        let secret = format!("writer {writer} round {round}");
                        let wish = hook(tenant, &number.to_string(), Some(&secret));
                        let id = match subscribe(&db, &vault, wish.clone()).await {
                            Ok(id) => id,
                            Err(refused) => {
                                assert_eq!(vault.current(), old_key, "{}", refused.chain());
                                assert!(refused.chain().contains("_sealed_by"), "{}", refused.chain());
                                vault = new.clone();
                                subscribe(&db, &vault, wish).await.unwrap()
                            }
                        };
                        last.insert(id, secret);
                    }
                    rounds.store(round, Ordering::Relaxed);
                    if stop.load(Ordering::Relaxed) {
                        return last;
                    }
                }
                unreachable!("a writer is told to stop")
            })
        })
        .collect();
    let mut anew = 0;
    while rounds.iter().any(|rounds| rounds.load(Ordering::Relaxed) < 5) {
        let (one, other) = tokio::join!(rotate(&db, &new), rotate(&db, &new));
        anew += sealed(&one) + sealed(&other);
    }
    assert!(anew > HOOKS as u64, "values were written while they were sealed anew: {anew}");
    stop.store(true, Ordering::Relaxed);
    let mut last = HashMap::new();
    for writer in writers {
        last.extend(writer.await.unwrap());
    }
    assert_eq!(left(&rotate(&db, &new).await), 0);
    let keys = db.once(keyring::keys).await.unwrap();
    assert_eq!(keys.iter().map(|key| key.id).collect::<Vec<_>>(), [new.current()]);
    let now: HashMap<SubscriptionId, String> = opened(&db, &vault_of(2, &[]))
        .await
        .into_iter()
        .map(|(id, _, webhook)| (id, webhook.unwrap()))
        .collect();
    assert_eq!(now, last);
}

/// A rotation that read the row before and wrote it after would undo the change without anybody noticing.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_somebody_is_changing_is_waited_for() {
    let (database, db, tenant) = without_keys().await;
    let (old, new) = (vault_of(1, &[]), vault_of(2, &[1]));
    register(&db, &old).await.unwrap();
    register(&db, &new).await.unwrap();
    for path in ["a", "b"] {
        subscribe(&db, &old, hook(tenant, path, Some("before"))).await.unwrap();
    }
    let mut holder = PgConnection::establish(&database.url()).unwrap();
    sql_query("BEGIN").execute(&mut holder).unwrap();
    let changed = store::subscribe(&mut holder, &old, &hook(tenant, "a", Some("after"))).unwrap();
    assert!(changed.before.is_some());
    let rotating = {
        let (db, new) = (db.clone(), new.clone());
        tokio::spawn(async move { rotate(&db, &new).await })
    };
    until("the other row is sealed anew", async || {
        let counts = db.once(keyring::counts).await.unwrap();
        let done = counts.iter().any(|count| count.key == Some(new.current()) && count.values == 1);
        if done { Ok(()) } else { Err(counts) }
    })
    .await;
    assert!(!rotating.is_finished(), "the held row is not left out");
    sql_query("COMMIT").execute(&mut holder).unwrap();
    let rotation = rotating.await.unwrap();
    assert_eq!((sealed(&rotation), left(&rotation)), (4, 0), "{rotation:?}");
    assert_eq!(rotation.dropped, [old.current()]);
    let secrets = opened(&db, &vault_of(2, &[])).await;
    let secrets: Vec<_> = secrets.into_iter().filter_map(|(_, _, webhook)| webhook).collect();
    assert_eq!(secrets, ["after", "before"]);
}

#[tokio::test]
async fn what_cannot_be_opened_stays_and_keeps_its_key() {
    let (_database, db, tenant) = without_keys().await;
    let (old, new) = (vault_of(1, &[]), vault_of(2, &[1]));
    register(&db, &old).await.unwrap();
    register(&db, &new).await.unwrap();
    for path in ["a", "b", "c"] {
        subscribe(&db, &old, hook(tenant, path, None)).await.unwrap();
    }
    let damaged = db
        .once(|conn| {
            let id = stored(conn)[1].id;
            sql_query(format!(
                "UPDATE subscriptions SET signing_secret = set_byte(signing_secret, 30, get_byte(signing_secret, 30) # 1) \
                 WHERE id = '{}'",
                id.uuid()
            ))
            .execute(conn)?;
            Ok(stored(conn)[1].signing_secret.clone())
        })
        .await
        .unwrap();
    let rotation = rotate(&db, &new).await;
    let column = rotation.columns[0];
    assert_eq!((column.sealed, column.unreadable, column.locked), (2, 1, 0), "{rotation:?}");
    assert!(rotation.dropped.is_empty(), "{rotation:?}");
    let after = db.once(|conn| Ok(stored(conn)[1].signing_secret.clone())).await.unwrap();
    assert_eq!(after, damaged, "as it was, for whoever can repair it");
}
