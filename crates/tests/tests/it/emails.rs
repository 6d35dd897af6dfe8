//! The outbox of mail: what is written, taken once, tried again, and done with.

use chrono::TimeDelta;
use diesel::{
    QueryableByName, RunQueryDsl as _, sql_query,
    sql_types::{Binary, Nullable, SmallInt, Text},
};
use hookyard_domain::{
    db::Conn,
    email::{
        Email,
        store::{self, HeldEmail},
    },
    id::ClaimId,
    person::{Locale, Role, user},
    vault::{MasterKey, Vault},
};
use hookyard_tests::{
    browser::Browser,
    processes::{binary, environment},
    secrets::vault,
    system::{Options, PASSWORD, System},
};
use serde_json::json;

#[derive(Debug, QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    recipient: String,
    #[diesel(sql_type = Text)]
    subject: String,
    #[diesel(sql_type = Nullable<Binary>)]
    body: Option<Vec<u8>>,
    #[diesel(sql_type = SmallInt)]
    state: i16,
    #[diesel(sql_type = SmallInt)]
    tries: i16,
    #[diesel(sql_type = Nullable<Text>)]
    last_error: Option<String>,
}

async fn rows(system: &System) -> Vec<Row> {
    let all = "SELECT recipient, subject, body, state, tries, last_error FROM emails ORDER BY id";
    system.db.once(move |conn| Ok(sql_query(all).load(conn)?)).await.unwrap()
}

/// What is due, taken for 30 s.
async fn taken(system: &System) -> Vec<HeldEmail> {
    let now = system.clock.now();
    let take = move |conn: &mut Conn| {
        store::claim_due(conn, &vault(), ClaimId::new(now), now, now + TimeDelta::seconds(30), 10)
    };
    system.db.run(take).await.unwrap()
}

async fn enqueued(system: &System, subject: &str) -> Email {
    let email = Email::new("ada@example.com", subject, "Good morning.\n");
    let (tenant, now, written) = (system.tenant, system.clock.now(), email.clone());
    system.db.run(move |conn| store::enqueue(conn, &vault(), Some(tenant), &written, now)).await.unwrap();
    email
}

#[tokio::test]
async fn a_mail_is_taken_by_one_sealed_while_it_waits_and_emptied_when_it_is_sent() {
    let system = System::start().await;
    let email = enqueued(&system, "Hello").await;
    let body = rows(&system).await[0].body.clone().unwrap();
    assert!(!body.windows(4).any(|part| part == b"Good"), "the text is not to be read in the database");
    let held = taken(&system).await;
    assert_eq!(held.iter().map(|held| (&held.email, held.tries)).collect::<Vec<_>>(), [(&email, 0)]);
    assert!(taken(&system).await.is_empty(), "somebody has it");
    // Whoever took it has died: it is taken again, and the dead one's word counts no more.
    system.clock.advance(TimeDelta::seconds(31));
    let again = taken(&system).await;
    let (first, second, now) = (held[0].clone(), again[0].clone(), system.clock.now());
    system.db.run(move |conn| store::failed(conn, &first, "too late", true, now)).await.unwrap();
    assert_eq!(rows(&system).await[0].state, 0);
    system.db.run(move |conn| store::sent(conn, &second, now)).await.unwrap();
    let row = &rows(&system).await[0];
    assert_eq!((row.state, row.tries, &row.body, &row.last_error), (1, 1, &None, &None));
    system.clock.advance(TimeDelta::days(2));
    assert!(taken(&system).await.is_empty());
}

#[tokio::test]
async fn what_fails_is_tried_eight_times_and_what_is_refused_once() {
    let system = System::start().await;
    enqueued(&system, "Unlucky").await;
    for tries in 1..=8 {
        let held = taken(&system).await.pop().unwrap_or_else(|| panic!("try {tries}"));
        let now = system.clock.now();
        let next = system
            .db
            .run(move |conn| store::failed(conn, &held, &"é".repeat(300), false, now))
            .await
            .unwrap();
        assert_eq!(next.is_some(), tries < 8, "{tries}");
        if let Some(next) = next {
            system.clock.advance(next - now - TimeDelta::seconds(1));
            assert!(taken(&system).await.is_empty(), "not yet due after try {tries}");
            system.clock.advance(TimeDelta::seconds(2));
        }
    }
    let row = &rows(&system).await[0];
    assert_eq!((row.state, row.tries, &row.body), (2, 8, &None));
    assert_eq!(row.last_error.as_deref(), Some("é".repeat(250).as_str()));
    enqueued(&system, "Refused").await;
    let (held, now) = (taken(&system).await.pop().unwrap(), system.clock.now());
    let next =
        system.db.run(move |conn| store::failed(conn, &held, "550 no such user", true, now)).await.unwrap();
    assert_eq!((next, rows(&system).await[1].state), (None, 2));
}

#[tokio::test]
async fn one_that_cannot_be_opened_waits_for_its_key() {
    let system = System::start().await;
    enqueued(&system, "Sealed").await;
    let other = Vault::new(MasterKey::from_bytes([9; 32]), Vec::new());
    let now = system.clock.now();
    let take = move |conn: &mut Conn| {
        store::claim_due(conn, &other, ClaimId::new(now), now, now + TimeDelta::seconds(30), 10)
    };
    assert!(system.db.run(take).await.unwrap().is_empty());
    assert!(taken(&system).await.is_empty());
    system.clock.advance(TimeDelta::seconds(31));
    assert_eq!(taken(&system).await.len(), 1);
}

#[tokio::test]
async fn who_is_invited_is_written_to_in_the_inviters_language_and_only_where_mail_is_sent() {
    let silent = System::start().await;
    let invite = json!({"email": "ada@example.com", "role": "viewer"});
    let mut browser = logged_in(&silent, "hopper@example.com", Locale::En).await;
    browser.api("POST", "/v1/invitations", Some(&invite)).await.expect(201);
    assert!(rows(&silent).await.is_empty());

    let mut options = Options::default();
    options.gateway.mail =
        serde_json::from_value(json!({"host": "mail.example.com", "from": "hookyard@example.com"})).unwrap();
    let system = System::with(options).await;
    let browser = logged_in(&system, "hopper@example.com", Locale::En).await;
    let mut browser = browser.with_header("idempotency-key", "once");
    let invite = json!({"email": "ada@example.com", "role": "developer"});
    let mut links = Vec::new();
    for _ in 0..2 {
        // Repeated, it is the same invitation and one mail.
        let reply = browser.api("POST", "/v1/invitations", Some(&invite)).await.expect(201);
        links.push(reply["invite_url"].as_str().unwrap().to_owned());
    }
    assert_eq!(links[0], links[1]);
    let held = taken(&system).await;
    assert_eq!(held.len(), 1);
    assert_eq!(
        (held[0].email.to.as_str(), held[0].email.subject.as_str()),
        ("ada@example.com", "Invitation to Test")
    );
    assert!(held[0].email.text.contains(&links[0]), "{held:?}");

    let mut browser = logged_in(&system, "grace@example.com", Locale::Fr).await;
    let invite = json!({"email": "zoe@example.com", "role": "viewer"});
    browser.api("POST", "/v1/invitations", Some(&invite)).await.expect(201);
    let mails = rows(&system).await;
    assert_eq!((mails.len(), mails[1].recipient.as_str()), (2, "zoe@example.com"));
    assert_eq!(mails[1].subject, "Invitation à rejoindre Test");
}

/// An administrator who speaks this language.
async fn person(system: &System, email: &str, locale: Locale) {
    let id = system.person(email, Role::Admin).await;
    system.db.run(move |conn| user::set_locale(conn, id, locale)).await.unwrap();
}

/// The browser of one.
async fn logged_in(system: &System, email: &str, locale: Locale) -> Browser {
    person(system, email, locale).await;
    let mut browser = Browser::new(system.gateways[0].addr);
    browser.log_in(email, PASSWORD).await;
    browser
}

#[tokio::test]
async fn a_link_for_a_new_password_is_mailed_in_the_persons_language() {
    let system = System::start().await;
    person(&system, "grace@example.com", Locale::Fr).await;
    let run = |mail: &[(&str, &str)]| {
        let mut all = vec![("DATABASE_URL", system.database.url())];
        all.extend(mail.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let all: Vec<(&str, &str)> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let output = std::process::Command::new(binary())
            .args(["users", "reset-password", "--email", "grace@example.com"])
            .env_clear()
            .envs(environment("http://127.0.0.1/", &all))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    run(&[]);
    assert!(rows(&system).await.is_empty());
    let said =
        run(&[("HOOKYARD__MAIL__HOST", "mail.example.com"), ("HOOKYARD__MAIL__FROM", "a@example.com")]);
    let held = taken(&system).await;
    let link = said.lines().next().unwrap();
    assert!(link.starts_with("http") && held[0].email.text.contains(link), "{said} {held:?}");
    assert_eq!((held[0].email.subject.as_str(), held[0].tenant), ("Définir un nouveau mot de passe", None));
}
