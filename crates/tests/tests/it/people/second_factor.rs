//! The second factor.

use chrono::TimeDelta;
use hookyard_domain::person::{Role, totp};
use hookyard_tests::{
    browser::Browser,
    system::{PASSWORD, System},
};
use serde_json::json;

const EMAIL: &str = "ada@example.com";

/// The key that a person types into an authenticator.
fn key(base32: &str) -> totp::Key {
    let mut bits = String::new();
    for digit in base32.bytes() {
        let value = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".iter().position(|known| *known == digit).unwrap();
        bits.push_str(&format!("{value:05b}"));
    }
    let bytes: Vec<u8> =
        (0..20).map(|at| u8::from_str_radix(&bits[at * 8..at * 8 + 8], 2).unwrap()).collect();
    totp::Key::from_bytes(bytes.try_into().unwrap())
}

/// Turns it on over the API; the key and the recovery codes.
async fn turned_on(system: &System, browser: &mut Browser) -> (totp::Key, Vec<String>) {
    let begun = browser.api("POST", "/v1/session/totp", None).await.expect(200);
    let secret = begun["secret"].as_str().unwrap();
    assert!(begun["otpauth_url"].as_str().unwrap().contains(secret), "{begun}");
    let key = key(secret);
    let wrong = browser.api("POST", "/v1/session/totp/confirm", Some(&json!({"code": "000000x"}))).await;
    assert_eq!(wrong.error(), (422, "WRONG_CODE".to_owned()));
    let code = key.code(totp::step(system.clock.now()));
    let confirmed = browser.api("POST", "/v1/session/totp/confirm", Some(&json!({"code": code}))).await;
    let codes = confirmed.expect(200)["recovery_codes"].as_array().unwrap().clone();
    (key, codes.iter().map(|code| code.as_str().unwrap().to_owned()).collect())
}

/// Both steps; whether the person is in.
async fn enters(system: &System, code: &str) -> bool {
    let mut browser = system.browser();
    let reply = browser.log_in(EMAIL, PASSWORD).await;
    assert!(reply.status == 200 && browser.page.contains("action=\"/login/totp\""), "{}", browser.page);
    assert_eq!(browser.session().await, Err(401), "the password alone is not enough");
    let reply = browser.post("/login/totp", &[("code", code)]).await;
    assert_eq!(reply.status == 303, browser.session().await.is_ok());
    reply.status == 303
}

#[tokio::test]
async fn each_code_lets_in_once() {
    let system = System::start().await;
    system.person(EMAIL, Role::Viewer).await;
    let mut first = system.logged_in(EMAIL).await;
    let (key, recovery) = turned_on(&system, &mut first).await;
    assert_eq!(recovery.len(), 10);
    assert_eq!(first.session().await.unwrap()["user"]["second_factor"], true);
    let again = first.api("POST", "/v1/session/totp", None).await;
    assert_eq!(again.error(), (409, "CONFLICT".to_owned()));

    let code = |steps: i64| key.code(totp::step(system.clock.now()) + steps);
    assert!(!enters(&system, &code(0)).await, "it was used to confirm");
    system.clock.advance(TimeDelta::seconds(90));
    for (steps, counts) in
        [(-2, false), (2, false), (-1, true), (-1, false), (0, true), (0, false), (1, true)]
    {
        assert_eq!(enters(&system, &code(steps)).await, counts, "{steps}");
    }
    assert!(!enters(&system, &code(0)).await, "what lies before one that was taken counts no more");
    let spoken = recovery[0].to_uppercase().replace('-', " ");
    assert!(enters(&system, &spoken).await);
    assert!(!enters(&system, &recovery[0]).await, "it is used up");
    assert!(enters(&system, &recovery[1]).await);
}

#[tokio::test]
async fn it_is_turned_off_with_the_password() {
    let system = System::start().await;
    system.person(EMAIL, Role::Viewer).await;
    let mut browser = system.logged_in(EMAIL).await;
    turned_on(&system, &mut browser).await;
    let wrong = browser.api("DELETE", "/v1/session/totp", Some(&json!({"password": "wrong"}))).await;
    assert_eq!(wrong.error(), (403, "WRONG_PASSWORD".to_owned()));
    assert_eq!(browser.api("DELETE", "/v1/session/totp", None).await.status, 403);
    let off = browser.api("DELETE", "/v1/session/totp", Some(&json!({"password": PASSWORD}))).await;
    assert_eq!(off.status, 204);
    system.logged_in(EMAIL).await;
    let audited = system.audited(Some(system.tenant)).await;
    assert!(
        ["totp.enabled", "totp.disabled"].iter().all(|action| audited.iter().any(|there| there == action))
    );
}

#[tokio::test]
async fn the_second_step_follows_the_first_in_the_same_browser_and_soon() {
    let system = System::start().await;
    system.person(EMAIL, Role::Viewer).await;
    let mut browser = system.logged_in(EMAIL).await;
    let (key, _) = turned_on(&system, &mut browser).await;
    system.clock.advance(TimeDelta::seconds(90));
    let code = || key.code(totp::step(system.clock.now()));

    let mut one = system.browser();
    one.log_in(EMAIL, PASSWORD).await;
    let mut stolen = system.browser();
    stolen.get("/login").await;
    stolen.cookies.insert("hookyard-login".to_owned(), one.cookies["hookyard-login"].clone());
    assert_eq!(stolen.post("/login/totp", &[("code", &code())]).await.status, 422);
    assert_eq!(stolen.session().await, Err(401), "another browser");
    let mut without = system.browser();
    without.get("/login").await;
    assert_eq!(without.post("/login/totp", &[("code", &code())]).await.status, 422);
    assert_eq!(without.get("/login/totp").await.status, 303);

    assert_eq!(one.get("/login/totp").await.status, 200, "a page that is loaded again");
    system.clock.advance(TimeDelta::minutes(5));
    assert_eq!(one.post("/login/totp", &[("code", &code())]).await.status, 422);
    assert_eq!(one.session().await, Err(401), "too late");
    assert!(one.page.contains("That took too long"), "{}", one.page);
}

#[tokio::test]
async fn it_is_set_up_with_pages() {
    let system = System::start().await;
    system.person(EMAIL, Role::Viewer).await;
    let mut browser = system.logged_in(EMAIL).await;
    browser.submit("/account/totp", &[]).await;
    let (_, rest) = browser.page.split_once("<code id=\"key\">").unwrap();
    let key = key(rest.split('<').next().unwrap());
    assert_eq!(browser.post("/account/totp/confirm", &[("code", "12345")]).await.status, 422);
    let code = key.code(totp::step(system.clock.now()));
    let spaced = format!("{} {}", &code[..3], &code[3..]);
    assert_eq!(browser.post("/account/totp/confirm", &[("code", &spaced)]).await.status, 200);
    assert_eq!(browser.page.matches("<li><code>").count(), 10, "{}", browser.page);
    browser.get("/account").await;
    assert_eq!(browser.post("/account/totp/remove", &[("current", "wrong")]).await.status, 422);
    assert_eq!(browser.post("/account/totp/remove", &[("current", PASSWORD)]).await.status, 303);
    assert_eq!(browser.session().await.unwrap()["user"]["second_factor"], false);
}
