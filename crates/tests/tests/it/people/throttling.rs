//! Whoever guesses has to wait.

use chrono::TimeDelta;
use hookyard_domain::person::Role;
use hookyard_tests::{
    browser::Browser,
    system::{Options, PASSWORD, System},
};

const EMAIL: &str = "ada@example.com";

/// A system whose clients say where they come from.
async fn behind_a_proxy(gateways: usize) -> System {
    let mut options = Options { gateways, ..Options::default() };
    options.gateway.http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    System::with(options).await
}

fn from(system: &System, address: &str) -> Browser {
    system.browser().with_header("x-forwarded-for", address)
}

async fn hashes(system: &System) -> String {
    let text = system.gateways[0].registry.render().unwrap();
    text.lines().find(|line| line.starts_with("hookyard_password_hashes ")).unwrap().to_owned()
}

#[tokio::test]
async fn ten_wrong_passwords_close_an_account_for_a_quarter_of_an_hour() {
    let system = behind_a_proxy(1).await;
    system.person(EMAIL, Role::Viewer).await;
    for account in [EMAIL, "nobody@example.com"] {
        for number in 0..10 {
            let mut browser = from(&system, &format!("198.51.100.{number}"));
            assert_eq!(browser.log_in(account, "wrong horse battery").await.status, 422, "{number}");
        }
        let before = hashes(&system).await;
        let mut browser = from(&system, "203.0.113.1");
        let reply = browser.log_in(account, PASSWORD).await;
        assert_eq!(reply.status, 429, "{account}: the right one, too");
        let wait: i64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((890..=900).contains(&wait), "{wait}");
        assert!(browser.page.contains("Too many tries"), "{}", browser.page);
        assert_eq!(hashes(&system).await, before, "nothing is hashed for it");
    }
    let audited = system.audited(None).await;
    assert_eq!(audited, ["login.throttled", "login.throttled"], "once for each pause");
    system.clock.advance(TimeDelta::minutes(15) - TimeDelta::seconds(10));
    assert_eq!(from(&system, "203.0.113.1").log_in(EMAIL, PASSWORD).await.status, 429);
    system.clock.advance(TimeDelta::seconds(11));
    assert_eq!(from(&system, "203.0.113.1").log_in(EMAIL, PASSWORD).await.status, 200);
}

#[tokio::test]
async fn ten_wrong_passwords_close_an_address() {
    let system = behind_a_proxy(1).await;
    system.person(EMAIL, Role::Viewer).await;
    for number in 0..10 {
        // One subscriber of version 6.
        let mut browser = from(&system, &format!("2001:db8:1:2::{number}"));
        let account = format!("nobody{number}@example.com");
        assert_eq!(browser.log_in(&account, PASSWORD).await.status, 422, "{number}");
    }
    assert_eq!(from(&system, "2001:db8:1:2:ffff::1").log_in(EMAIL, PASSWORD).await.status, 429);
    assert_eq!(from(&system, "2001:db8:1:3::1").log_in(EMAIL, PASSWORD).await.status, 200, "a neighbour");
}

#[tokio::test]
async fn what_is_right_is_not_counted() {
    let system = System::start().await;
    system.person(EMAIL, Role::Viewer).await;
    for _ in 0..12 {
        system.logged_in(EMAIL).await;
    }
    for _ in 0..9 {
        assert_eq!(system.browser().log_in(EMAIL, "wrong horse battery").await.status, 422);
    }
    system.logged_in(EMAIL).await;
    assert_eq!(
        system.browser().log_in("nobody@example.com", PASSWORD).await.status,
        422,
        "the tenth of the address"
    );
    assert_eq!(system.browser().log_in(EMAIL, PASSWORD).await.status, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_ten_are_looked_at_on_two_gateways() {
    let system = behind_a_proxy(2).await;
    system.person(EMAIL, Role::Viewer).await;
    let mut tries = tokio::task::JoinSet::new();
    for number in 0..30 {
        let mut browser = from(&system, &format!("198.51.100.{number}")).at(system.gateways[number % 2].addr);
        tries.spawn(async move { browser.log_in(EMAIL, "wrong horse battery").await.status });
    }
    let statuses = tries.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 422).count(), 10, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 20, "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_wrong_passwords_are_ten() {
    const EACH: usize = 2_500;
    let system = System::start().await;
    system.person(EMAIL, Role::Viewer).await;
    let mut guessers = tokio::task::JoinSet::new();
    for guesser in 0..4 {
        let mut browser = system.browser();
        guessers.spawn(async move {
            browser.get("/login").await;
            let mut looked_at = 0;
            for number in 0..EACH {
                let guess = format!("guess {guesser} {number} of a password");
                let reply = browser.post("/login", &[("email", EMAIL), ("password", &guess)]).await;
                assert!(matches!(reply.status, 422 | 429), "{reply:?}");
                looked_at += usize::from(reply.status == 422);
            }
            looked_at
        });
    }
    let looked_at: usize = guessers.join_all().await.into_iter().sum();
    assert_eq!(looked_at, 10);
    assert_eq!(hashes(&system).await, "hookyard_password_hashes 10");
    assert_eq!(system.audited(None).await, ["login.throttled"]);
}

#[tokio::test]
async fn codes_are_counted_with_passwords() {
    use hookyard_domain::person::totp::{self, Key};
    let system = System::start().await;
    let id = system.person(EMAIL, Role::Viewer).await;
    let (key, now) = (Key::from_bytes([7; 20]), system.clock.now());
    let code = key.code(totp::step(now));
    let set = system.db.run(move |conn| {
        let vault = hookyard_tests::secrets::vault();
        totp::begin(conn, &vault, id, &key)?;
        totp::confirm(conn, &vault, id, &code, &[], now)
    });
    assert!(set.await.unwrap());
    // Between guesses of codes the password is right; that forgets nothing.
    for number in 0..10 {
        let mut browser = system.browser();
        assert_eq!(browser.log_in(EMAIL, PASSWORD).await.status, 200, "{number}");
        assert_eq!(browser.post("/login/totp", &[("code", "000000x")]).await.status, 422, "{number}");
    }
    assert_eq!(system.browser().log_in(EMAIL, PASSWORD).await.status, 429);
    assert_eq!(system.audited(None).await, ["login.throttled"]);
}
