//! Secrets at rest, on a real database: what is in it, who can open it, and how it goes from one master key to another.

mod keys;
mod rotation;
mod waiting;

use diesel::{
    QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Binary, Nullable, Text, Uuid},
};
use hookyard_domain::{
    db::{Conn, Db},
    id::{CredentialId, SubscriptionId, TenantId},
    subscription::store::{self, NewHook},
    vault::{MasterKey, Vault, columns, store as keyring},
    wire::{SigningSecret, WebhookSecret},
};
use hookyard_tests::{database::Database, http::Client, secrets::vault, system::System};
use serde_json::{Value, json};

/// The tests' own key is `vault_of(7, &[])`.
fn vault_of(current: u8, previous: &[u8]) -> Vault {
    let key = |byte: &u8| MasterKey::from_bytes([*byte; 32]);
    Vault::new(key(&current), previous.iter().map(key).collect())
}

/// Makes the current key of a vault known to a database.
async fn register(db: &Db, vault: &Vault) -> hookyard_domain::Result<bool> {
    let (vault, now) = (vault.clone(), hookyard_domain::clock::Clock::system().now());
    db.run(move |conn| keyring::verify_or_register(conn, &vault, now)).await
}

/// A database without keys, and a tenant in it.
async fn without_keys() -> (Database, Db, TenantId) {
    let database = Database::create().await;
    let db = database.pool();
    let now = hookyard_domain::clock::Clock::system().now();
    let tenant = TenantId::new(now);
    db.run(move |conn| {
        sql_query("DELETE FROM master_keys").execute(conn)?;
        hookyard_domain::tenant::store::insert(conn, tenant, "Test", None, now)
    })
    .await
    .unwrap();
    (database, db, tenant)
}

/// A hook as the gateway would store it.
fn hook(tenant: TenantId, path: &str, secret: Option<&str>) -> NewHook {
    let now = hookyard_domain::clock::Clock::system().now();
    NewHook {
        id: SubscriptionId::new(now),
        tenant,
        credential: Some(CredentialId::new(now)),
        url: format!("https://hooks.zapier.com/hooks/catch/1/{path}/"),
        event_type: None,
        pattern: None,
        filter: None,
        signing_secret: SigningSecret::generate(&mut rand::rng()),
        webhook_secret: secret.map(|text| WebhookSecret::parse(text).unwrap()),
        expires_at: None,
        now,
    }
}

/// Subscribes with this vault and returns the hook's id.
async fn subscribe(db: &Db, vault: &Vault, hook: NewHook) -> hookyard_domain::Result<SubscriptionId> {
    let vault = vault.clone();
    db.run(move |conn| Ok(store::subscribe(conn, &vault, &hook)?.hook.id)).await
}

#[derive(Debug, QueryableByName)]
struct Stored {
    #[diesel(sql_type = Uuid)]
    id: SubscriptionId,
    #[diesel(sql_type = Binary)]
    signing_secret: Vec<u8>,
    #[diesel(sql_type = Nullable<Binary>)]
    webhook_secret: Option<Vec<u8>>,
}

fn stored(conn: &mut Conn) -> Vec<Stored> {
    sql_query("SELECT id, signing_secret, webhook_secret FROM subscriptions ORDER BY id").load(conn).unwrap()
}

/// The secrets of every hook, opened with these keys only.
async fn opened(db: &Db, vault: &Vault) -> Vec<(SubscriptionId, String, Option<String>)> {
    let rows = db.once(|conn| Ok(stored(conn))).await.unwrap();
    let open = |column: columns::Column, id: SubscriptionId, sealed: &[u8]| {
        String::from_utf8(vault.open(&column.at(id.uuid()), sealed).unwrap()).unwrap()
    };
    rows.iter()
        .map(|row| {
            let webhook = row.webhook_secret.as_deref();
            let webhook = webhook.map(|sealed| open(columns::HOOK_WEBHOOK_SECRET, row.id, sealed));
            (row.id, open(columns::SIGNING_SECRET, row.id, &row.signing_secret), webhook)
        })
        .collect()
}

/// Everything in a database, as text; `bytea` is in hexadecimal.
async fn everything(db: &Db) -> String {
    #[derive(QueryableByName)]
    struct Line {
        #[diesel(sql_type = Text)]
        line: String,
    }
    db.once(|conn| {
        let tables: Vec<Line> =
            sql_query("SELECT tablename::text AS line FROM pg_tables WHERE schemaname = 'public'")
                .load(conn)?;
        assert!(tables.len() > 20, "{}", tables.len());
        let mut text = String::new();
        for Line { line: table } in tables {
            let rows: Vec<Line> = sql_query(format!("SELECT t::text AS line FROM {table} t")).load(conn)?;
            text.extend(rows.into_iter().map(|row| row.line + "\n"));
        }
        Ok(text)
    })
    .await
    .unwrap()
}

/// What is looked for when a secret must not be found: the text, and how `bytea` shows it.
fn spellings(secret: &str) -> [String; 2] {
    [secret.to_owned(), secret.bytes().map(|byte| format!("{byte:02x}")).collect()]
}

async fn shown_secret(client: &Client, hook: &str) -> String {
    let shown = client.get(&format!("/v1/hooks/{hook}/secret")).await.expect(200);
    shown["signing_secret"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn nothing_that_was_told_in_confidence_is_readable_in_the_database() {
    let system = System::start().await;
    let client = system.client().await;
    let tenants = "the-tenants-own-secret";
    let (tenant, now) = (system.tenant, system.clock.now());
    system
        .db
        .run(move |conn| {
            let secret = WebhookSecret::parse(tenants).unwrap();
            hookyard_domain::tenant::store::set_webhook_secret(conn, tenant, Some((&vault(), &secret)), now)
        })
        .await
        .unwrap();
    let subscribe = async |secret: &str, key: &str| -> Value {
        let body = json!({ "url": "https://hooks.zapier.com/hooks/catch/1/a/", "secret": secret });
        let request = client.request("POST", "/zapier/hook").header("idempotency-key", key);
        request.json(body.to_string()).send().await.expect(200)
    };
    let id = subscribe("the-first-of-the-hook", "a").await["id"].as_str().unwrap().to_owned();
    // The same hook again gets another secret.
    assert_eq!(subscribe("the-second-of-the-hook", "b").await["id"], *id);
    let signing = shown_secret(&client, &id).await;

    let text = everything(&system.db).await;
    assert!(text.contains("https://hooks.zapier.com/hooks/catch/1/a/"), "the search finds what is there");
    for secret in [tenants, "the-first-of-the-hook", "the-second-of-the-hook", &signing] {
        for spelling in spellings(secret) {
            assert!(!text.contains(&spelling), "{secret} is in the database: {text}");
        }
    }
    // All of it is there, for who has the key.
    let opened = opened(&system.db, &vault()).await;
    assert_eq!(opened, [(id.parse().unwrap(), signing, Some("the-second-of-the-hook".to_owned()))]);
}

#[tokio::test]
async fn a_secret_that_was_moved_to_another_hook_is_refused() {
    let system = System::start().await;
    let client = system.client().await;
    let mut hooks = Vec::new();
    for path in ["one", "two"] {
        let body = json!({ "url": format!("https://hooks.zapier.com/hooks/catch/1/{path}/") });
        let made = client.post_json("/zapier/hook", &body).await.expect(200);
        hooks.push(made["id"].as_str().unwrap().to_owned());
    }
    let [one, two] = [&hooks[0], &hooks[1]].map(|id| id.parse::<SubscriptionId>().unwrap());
    system
        .db
        .once(move |conn| {
            let moved = "UPDATE subscriptions SET signing_secret = \
                (SELECT signing_secret FROM subscriptions WHERE id = $2) WHERE id = $1";
            Ok(sql_query(moved).bind::<Uuid, _>(one).bind::<Uuid, _>(two).execute(conn)?)
        })
        .await
        .unwrap();
    let refused = client.get(&format!("/v1/hooks/{}/secret", hooks[0])).await;
    assert_eq!(refused.error(), (500, "INTERNAL".to_owned()));
    assert!(!refused.text().contains("key") && !refused.text().contains("sealed"), "{}", refused.text());
    shown_secret(&client, &hooks[1]).await;
}

/// What the table of sealed columns says is what the schema has.
#[tokio::test]
async fn every_sealed_column_is_in_the_table_and_held_against_the_keys() {
    #[derive(QueryableByName)]
    struct Name {
        #[diesel(sql_type = Text)]
        name: String,
    }
    let database = Database::create().await;
    let names: Vec<Name> = database
        .pool()
        .once(|conn| {
            let foreign = "SELECT c.conrelid::regclass::text || '.' || a.attname AS name FROM pg_constraint c \
                JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1] AND a.attgenerated = 's' \
                WHERE c.contype = 'f' AND c.confrelid = 'master_keys'::regclass";
            Ok(sql_query(foreign).load(conn)?)
        })
        .await
        .unwrap();
    let mut names: Vec<String> = names.into_iter().map(|row| row.name).collect();
    names.sort();
    let mut expected = columns::ROTATED.map(|column| format!("{column}_sealed_by"));
    expected.sort();
    assert_eq!(names, expected);
}
