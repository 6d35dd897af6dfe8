//! Logging in and out, and what a session is.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use hookyard_domain::person::Role;
use hookyard_tests::{
    browser::Browser,
    http::Reply,
    system::{Options, PASSWORD, System},
};
use serde_json::json;

const EMAIL: &str = "ada@example.com";

#[tokio::test]
async fn a_person_logs_in_and_out() {
    let system = System::start().await;
    system.person(EMAIL, Role::Developer).await;
    let mut browser = system.browser();
    let reply = browser.visit("/account").await;
    assert!(reply.status == 200 && browser.page.contains("action=\"/login\""), "{}", browser.page);
    let reply = browser.submit("/login", &[("email", " Ada@Example.com"), ("password", PASSWORD)]).await;
    assert_eq!(reply.status, 200);
    assert!(browser.page.contains(&system.tenant.uuid().to_string()), "the Client ID is shown");
    let session = browser.session().await.unwrap();
    assert_eq!(session["user"]["email"], EMAIL);
    assert_eq!(session["tenant"]["client_id"], system.tenant.uuid().to_string());
    assert_eq!(session["role"], "developer");
    assert_eq!(session["tenants"].as_array().unwrap().len(), 1);
    assert!(session["scopes"].as_array().unwrap().contains(&json!("hooks:write")), "{session}");
    // Whoever is in goes on.
    assert_eq!(browser.get("/login?return_to=/docs").await.header("location"), Some("/docs"));

    browser.visit("/account").await;
    let token = browser.cookies["hookyard-session"].clone();
    let reply = browser.post("/logout", &[]).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some("/login")));
    assert!(!browser.cookies.contains_key("hookyard-session"), "the cookie is taken away");
    browser.cookies.insert("hookyard-session".to_owned(), token);
    assert_eq!(browser.session().await, Err(401), "and would not help");
    let audited = system.audited(Some(system.tenant)).await;
    assert_eq!(audited, ["session.logged_in", "session.logged_out"]);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_account_are_told_alike() {
    let system = System::start().await;
    let id = system.person("disabled@example.com", Role::Viewer).await;
    let now = system.clock.now();
    system.db.run(move |conn| hookyard_domain::person::user::disable(conn, id, now)).await.unwrap();
    system.person(EMAIL, Role::Viewer).await;
    let told = |reply: &Reply, page: &str, email: &str| {
        let headers: BTreeSet<String> = reply.headers.iter().map(|(name, _)| name.clone()).collect();
        // What was typed, and the token, differ.
        let text = page.replace(email, "").replace(&Browser::clone(&shown(page)).hidden("csrf"), "");
        (reply.status, headers, text)
    };
    let mut answers = Vec::new();
    for (email, password) in [
        (EMAIL, "wrong horse battery"),
        ("nobody@example.com", "wrong horse battery"),
        ("nobody@example.com", PASSWORD),
        ("disabled@example.com", PASSWORD),
        ("not an address", PASSWORD),
    ] {
        let hashes = hashed(&system).await;
        let mut browser = system.browser();
        let reply = browser.log_in(email, password).await;
        assert_eq!(reply.status, 422, "{email}");
        assert_eq!(hashed(&system).await - hashes, 1.0, "{email}: the same work");
        answers.push(told(&reply, &browser.page, email));
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:#?}");
}

/// A browser that shows a page.
fn shown(page: &str) -> Browser {
    let mut browser = Browser::new(([127, 0, 0, 1], 1).into());
    page.clone_into(&mut browser.page);
    browser
}

async fn hashed(system: &System) -> f64 {
    let text = system.gateways[0].registry.render().unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("hookyard_password_hashes "));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn logging_in_makes_a_new_session_and_ends_the_one_before() {
    let system = System::start().await;
    system.person(EMAIL, Role::Viewer).await;
    let mut browser = system.browser();
    // Somebody has planted a session of their choice.
    browser.cookies.insert("hookyard-session".to_owned(), "hs_planted".to_owned());
    browser.log_in(EMAIL, PASSWORD).await;
    let first = browser.cookies["hookyard-session"].clone();
    assert!(first != "hs_planted" && first.len() > 40);
    let mut again = browser.clone();
    let reply = again.get("/login").await;
    assert_eq!(reply.status, 303, "there is no need");
    again.get("/account").await;
    again.post("/login", &[("email", EMAIL), ("password", PASSWORD)]).await;
    assert_ne!(again.cookies["hookyard-session"], first);
    assert!(again.session().await.is_ok());
    assert_eq!(browser.session().await, Err(401), "the one before has ended");
}

#[tokio::test]
async fn a_session_ends_by_itself() {
    let system = System::start().await;
    system.person(EMAIL, Role::Viewer).await;
    let mut idle = system.logged_in(EMAIL).await;
    system.clock.advance(TimeDelta::hours(12) - TimeDelta::seconds(30));
    assert_eq!(idle.get("/account").await.status, 200, "a page is a use, too");
    // The use is written behind the answer.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    system.clock.advance(TimeDelta::hours(12) - TimeDelta::seconds(30));
    assert!(idle.session().await.is_ok(), "it was used in between");
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    system.clock.advance(TimeDelta::hours(12) + TimeDelta::seconds(1));
    assert_eq!(idle.session().await, Err(401));

    let mut busy = system.logged_in(EMAIL).await;
    let id = busy.session().await.unwrap()["user"]["id"].as_str().unwrap().to_owned();
    // As if it was used all the time.
    let now = system.clock.now();
    touch(&system, &id, now + TimeDelta::days(30) - TimeDelta::seconds(30)).await;
    system.clock.advance(TimeDelta::days(30) - TimeDelta::seconds(20));
    assert!(busy.session().await.is_ok());
    system.clock.advance(TimeDelta::seconds(60));
    assert_eq!(busy.session().await, Err(401), "whatever its person does");
}

async fn touch(system: &System, user: &str, at: chrono::DateTime<chrono::Utc>) {
    use hookyard_domain::{id::UserId, person::session};
    let user: UserId = user.parse().unwrap();
    let now = system.clock.now();
    let touched = system.db.run(move |conn| {
        for session in session::list(conn, user, now)? {
            session::touch(conn, session.id, at)?;
        }
        Ok(())
    });
    touched.await.unwrap();
}

#[tokio::test]
async fn what_is_no_session_is_refused() {
    let system = System::start().await;
    system.person(EMAIL, Role::Viewer).await;
    let browser = system.logged_in(EMAIL).await;
    let real = browser.cookies["hookyard-session"].clone();
    for forged in [
        String::new(),
        "hs_".to_owned(),
        format!("{real}x"),
        real[..real.len() - 1].to_owned(),
        real.to_uppercase(),
    ] {
        let mut with = browser.clone();
        with.cookies.insert("hookyard-session".to_owned(), forged.clone());
        assert_eq!(with.session().await, Err(401), "{forged}");
        assert_eq!(with.get("/account").await.status, 303, "{forged}");
    }
}

#[tokio::test]
async fn logging_out_everywhere_counts_at_once_on_every_gateway() {
    let system = System::with(Options { gateways: 2, ..Options::default() }).await;
    system.person(EMAIL, Role::Viewer).await;
    system.person("other@example.com", Role::Viewer).await;
    let mut here = system.logged_in(EMAIL).await;
    let mut there = system.logged_in(EMAIL).await.at(system.gateways[1].addr);
    let mut other = system.logged_in("other@example.com").await;
    assert!(there.session().await.is_ok());
    let listed = here.get("/v1/sessions").await.expect(200);
    let current: Vec<bool> =
        listed["data"].as_array().unwrap().iter().map(|one| one["current"] == true).collect();
    assert_eq!(current, [false, true], "{listed}");

    let ended = listed["data"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(here.api("DELETE", &format!("/v1/sessions/{ended}"), None).await.status, 204);
    assert_eq!(there.session().await, Err(401), "one of them");
    assert_eq!(here.api("DELETE", &format!("/v1/sessions/{ended}"), None).await.status, 404);

    let mut there = system.logged_in(EMAIL).await.at(system.gateways[1].addr);
    assert_eq!(there.api("DELETE", "/v1/sessions", None).await.status, 204);
    for browser in [&mut here, &mut there] {
        assert_eq!(browser.session().await, Err(401));
    }
    assert!(other.session().await.is_ok(), "somebody else");
    let mut by_page = system.logged_in(EMAIL).await;
    let mut beside = system.logged_in(EMAIL).await.at(system.gateways[1].addr);
    by_page.submit("/account/logout-everywhere", &[]).await;
    assert_eq!(beside.session().await, Err(401));
}

#[tokio::test]
async fn a_new_password_ends_all_other_sessions() {
    const NEW: &str = "a sentence of mine";
    let system = System::start().await;
    system.person(EMAIL, Role::Viewer).await;
    let mut here = system.logged_in(EMAIL).await;
    let mut there = system.logged_in(EMAIL).await;
    let change = |current: &str, new: &str| json!({"current_password": current, "new_password": new});
    for (current, new, expected) in [
        ("wrong horse battery", NEW, (403, "WRONG_PASSWORD")),
        (PASSWORD, "short of 12", (422, "INVALID_FIELD")),
        (PASSWORD, "password2026!", (422, "INVALID_FIELD")),
        (PASSWORD, "Ada@example.com", (422, "INVALID_FIELD")),
    ] {
        let reply = here.api("POST", "/v1/session/password", Some(&change(current, new))).await;
        assert_eq!(reply.error(), (expected.0, expected.1.to_owned()), "{new}");
    }
    assert!(there.session().await.is_ok());
    assert_eq!(here.api("POST", "/v1/session/password", Some(&change(PASSWORD, NEW))).await.status, 204);
    assert!(here.session().await.is_ok(), "this one stays");
    assert_eq!(there.session().await, Err(401));
    assert_eq!(system.browser().log_in(EMAIL, PASSWORD).await.status, 422);
    let mut again = system.browser();
    assert_eq!(again.log_in(EMAIL, NEW).await.status, 200);
    let fields = [("current", NEW), ("new", PASSWORD)];
    assert_eq!(again.submit("/account/password", &fields).await.status, 200);
    assert!(again.page.contains("The password is changed"), "{}", again.page);
    assert!(system.audited(Some(system.tenant)).await.contains(&"password.changed".to_owned()));
}

#[tokio::test]
async fn nobody_is_led_elsewhere() {
    let system = System::start().await;
    system.person(EMAIL, Role::Viewer).await;
    for (to, expected) in [
        ("/docs", "/docs"),
        ("/oauth/authorize?client_id=a&state=b%20c", "/oauth/authorize?client_id=a&state=b%20c"),
        ("https://evil.example/", "/account"),
        ("//evil.example", "/account"),
        ("/\\evil.example", "/account"),
        ("/\t/evil.example", "/account"),
        ("javascript:alert(1)", "/account"),
    ] {
        let mut browser = system.browser();
        browser.get("/login").await;
        let fields = [("email", EMAIL), ("password", PASSWORD), ("return_to", to)];
        let reply = browser.post("/login", &fields).await;
        assert_eq!((reply.status, reply.header("location")), (303, Some(expected)), "{to}");
    }
    let mut browser = system.browser();
    browser.get("/login?return_to=%2F%2Fevil.example").await;
    assert_eq!(browser.hidden("return_to"), "/account");
    browser.get("/login?return_to=%2Foauth%2Fauthorize%3Fa%3D1%26b%3D2").await;
    assert_eq!(browser.hidden("return_to"), "/oauth/authorize?a=1&b=2");
    assert!(
        browser.page.contains("?return_to=%2Foauth%2Fauthorize%3Fa%3D1%26b%3D2&amp;lang=fr"),
        "{}",
        browser.page
    );
}
