//! Is this the right key: what a database accepts, and what it refuses.

use diesel::{RunQueryDsl, sql_query, sql_types::Binary};
use hookyard_domain::{
    Error,
    vault::{KeyId, VaultError, columns::ROTATED, store as keyring},
};

use super::{hook, opened, register, stored, subscribe, vault_of, without_keys};

fn refusal(result: hookyard_domain::Result<bool>) -> VaultError {
    match result {
        Err(Error::Sealed(reason)) => reason,
        other => panic!("not refused for its keys: {other:?}"),
    }
}

#[tokio::test]
async fn the_first_key_is_taken_and_another_is_refused() {
    let (_database, db, _tenant) = without_keys().await;
    let (one, other) = (vault_of(1, &[]), vault_of(2, &[]));
    assert!(register(&db, &one).await.unwrap(), "new");
    assert!(!register(&db, &one).await.unwrap(), "known");
    assert_eq!(refusal(register(&db, &other).await), VaultError::UnknownKey(one.current()));
    // With the old one beside it the new one is welcome; from then on both are needed.
    assert!(register(&db, &vault_of(2, &[1])).await.unwrap());
    assert_eq!(refusal(register(&db, &one).await), VaultError::UnknownKey(other.current()));
    assert!(!register(&db, &vault_of(1, &[2])).await.unwrap());
    let known = db.once(keyring::keys).await.unwrap();
    assert_eq!(known.iter().map(|key| key.id).collect::<Vec<_>>(), [one.current(), other.current()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_keys_that_come_first_at_once_one_is_refused() {
    let (_database, db, _tenant) = without_keys().await;
    let starts: Vec<_> = (1..=8)
        .map(|key| {
            let db = db.clone();
            tokio::spawn(async move { register(&db, &vault_of(key, &[])).await.is_ok() })
        })
        .collect();
    let mut accepted = 0;
    for start in starts {
        accepted += usize::from(start.await.unwrap());
    }
    assert_eq!((accepted, db.once(keyring::keys).await.unwrap().len()), (1, 1));
}

#[tokio::test]
async fn a_canary_that_was_changed_is_refused() {
    let (_database, db, _tenant) = without_keys().await;
    let vault = vault_of(1, &[]);
    register(&db, &vault).await.unwrap();
    db.once(|conn| {
        let change = "UPDATE master_keys SET canary = set_byte(canary, 30, get_byte(canary, 30) # 1)";
        Ok(sql_query(change).execute(conn)?)
    })
    .await
    .unwrap();
    assert_eq!(refusal(register(&db, &vault).await), VaultError::Damaged);
}

#[tokio::test]
async fn nothing_is_sealed_with_a_key_that_the_database_does_not_know() {
    let (_database, db, tenant) = without_keys().await;
    register(&db, &vault_of(1, &[])).await.unwrap();
    let refused = subscribe(&db, &vault_of(2, &[1]), hook(tenant, "a", None)).await.unwrap_err();
    assert!(refused.chain().contains("signing_secret_sealed_by"), "{}", refused.chain());
    assert_eq!(db.once(|conn| Ok(stored(conn).len())).await.unwrap(), 0);
}

/// As the first schema had them, one more than is sealed at once.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_as_it_is_gets_sealed_once() {
    const HOOKS: usize = 501;
    let (_database, db, tenant) = without_keys().await;
    let vault = vault_of(1, &[]);
    register(&db, &vault).await.unwrap();
    for number in 0..HOOKS {
        let secret = (number % 2 == 0).then(|| format!("secret {number}"));
        subscribe(&db, &vault, hook(tenant, &number.to_string(), secret.as_deref())).await.unwrap();
    }
    let before = opened(&db, &vault).await;
    let plain = before.clone();
    db.run(move |conn| {
        for (id, signing, webhook) in plain {
            let webhook = webhook.map(String::into_bytes);
            sql_query("UPDATE subscriptions SET signing_secret = $2, webhook_secret = $3 WHERE id = $1")
                .bind::<diesel::sql_types::Uuid, _>(id)
                .bind::<Binary, _>(signing.into_bytes())
                .bind::<diesel::sql_types::Nullable<Binary>, _>(webhook)
                .execute(conn)?;
        }
        sql_query("UPDATE tenants SET webhook_secret = convert_to('of the tenant', 'UTF8')").execute(conn)?;
        Ok(())
    })
    .await
    .unwrap();
    let unsealed = db.once(keyring::counts).await.unwrap();
    assert!(unsealed.iter().all(|count| count.key.is_none()), "{unsealed:?}");

    // Several processes start at once.
    let sealing: Vec<_> = (0..3)
        .map(|_| {
            let (db, vault) = (db.clone(), vault.clone());
            tokio::spawn(async move { keyring::seal_legacy(&db, &vault).await.unwrap() })
        })
        .collect();
    let mut sealed = 0;
    for one in sealing {
        sealed += one.await.unwrap();
    }
    assert_eq!(sealed, HOOKS as u64 + 251 + 1, "each value once");
    assert_eq!(opened(&db, &vault).await, before);
    assert_eq!(keyring::seal_legacy(&db, &vault).await.unwrap(), 0);
    let counts: Vec<(Option<KeyId>, u64)> =
        db.once(keyring::counts).await.unwrap().iter().map(|count| (count.key, count.values)).collect();
    let key = Some(vault.current());
    assert_eq!(counts, [(key, HOOKS as u64), (key, 251), (key, 1)], "{ROTATED:?}");
}
