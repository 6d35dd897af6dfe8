//! Forms and requests that other sites make a browser send.

use hookyard_domain::person::Role;
use hookyard_tests::system::{PASSWORD, System};

const EMAIL: &str = "ada@example.com";

#[tokio::test]
async fn a_form_counts_from_the_browser_and_the_session_it_was_shown_in() {
    let system = System::start().await;
    system.person(EMAIL, Role::Viewer).await;
    system.person("eve@example.com", Role::Viewer).await;
    let fields = [("email", EMAIL), ("password", PASSWORD)];
    let mut browser = system.browser();
    browser.get("/login").await;
    let own = browser.hidden("csrf");
    let mut foreign = system.browser();
    foreign.get("/login").await;
    let theirs = foreign.hidden("csrf");
    assert_ne!(own, theirs);
    for csrf in [None, Some(""), Some("x"), Some(theirs.as_str()), Some(&own[1..])] {
        let all: Vec<_> = fields.into_iter().chain(csrf.map(|csrf| ("csrf", csrf))).collect();
        let reply = browser.post_raw("/login", &all).await;
        assert_eq!(reply.status, 403, "{csrf:?}");
        assert!(browser.page.contains("This form has expired"), "{}", browser.page);
    }
    let mut without_cookie = browser.clone();
    without_cookie.cookies.clear();
    let all = [fields[0], fields[1], ("csrf", own.as_str())];
    assert_eq!(without_cookie.post_raw("/login", &all).await.status, 403);
    assert_eq!(browser.post_raw("/login", &all).await.status, 303);

    // A form that was shown before the log-in, or in somebody else's session, does not count in this one.
    assert_eq!(browser.post_raw("/account/logout-everywhere", &[("csrf", own.as_str())]).await.status, 403);
    let eve = system.logged_in("eve@example.com").await;
    let hers = eve.hidden("csrf");
    assert_eq!(browser.post_raw("/account/logout-everywhere", &[("csrf", hers.as_str())]).await.status, 403);
    let mut planted = browser.clone();
    planted.cookies.insert("hookyard-visit".to_owned(), eve.cookies["hookyard-visit"].clone());
    assert_eq!(planted.post_raw("/account/logout-everywhere", &[("csrf", hers.as_str())]).await.status, 403);
    assert!(browser.session().await.is_ok());
    browser.get("/account").await;
    assert_eq!(browser.post("/account/logout-everywhere", &[]).await.status, 303);
    assert_eq!(browser.session().await, Err(401));
}

#[tokio::test]
async fn what_the_browser_says_of_another_site_counts() {
    let system = System::start().await;
    system.person(EMAIL, Role::Viewer).await;
    let mut browser = system.browser();
    browser.get("/login").await;
    let csrf = browser.hidden("csrf");
    let fields = [("email", EMAIL), ("password", PASSWORD), ("csrf", csrf.as_str())];
    for (name, value, status) in [
        ("origin", "https://evil.example", 403),
        ("origin", "null", 403),
        ("sec-fetch-site", "cross-site", 403),
        ("sec-fetch-site", "same-site", 403),
        ("origin", "http://test", 303),
        ("sec-fetch-site", "same-origin", 303),
    ] {
        let reply = browser.clone().with_header(name, value).post_raw("/login", &fields).await;
        assert_eq!(reply.status, status, "{name}: {value}");
    }
}

#[tokio::test]
async fn a_request_with_a_session_shows_its_token() {
    let system = System::start().await;
    system.person(EMAIL, Role::Viewer).await;
    system.person("eve@example.com", Role::Viewer).await;
    let mut browser = system.logged_in(EMAIL).await;
    let token = |session: serde_json::Value| session["csrf_token"].as_str().unwrap().to_owned();
    let own = token(browser.session().await.unwrap());
    let theirs = token(system.logged_in("eve@example.com").await.session().await.unwrap());
    let delete = async |headers: &[(&str, &str)]| {
        let mut with = browser.clone();
        for (name, value) in headers {
            with = with.with_header(name, value);
        }
        with.request("DELETE", "/v1/session", None).await
    };
    for (headers, code) in [
        (&[][..], "CSRF_TOKEN_INVALID"),
        (&[("x-csrf-token", "")], "CSRF_TOKEN_INVALID"),
        (&[("x-csrf-token", theirs.as_str())], "CSRF_TOKEN_INVALID"),
        (&[("x-csrf-token", own.as_str()), ("origin", "https://evil.example")], "CROSS_SITE_REQUEST"),
    ] {
        assert_eq!(delete(headers).await.error(), (403, code.to_owned()), "{headers:?}");
    }
    assert_eq!(delete(&[("x-csrf-token", &own)]).await.status, 204);
}

#[tokio::test]
async fn a_form_is_small_plain_and_whole() {
    let system = System::start().await;
    let mut browser = system.browser();
    browser.get("/login").await;
    let csrf = browser.hidden("csrf");
    let form = "application/x-www-form-urlencoded";
    let head = format!("csrf={csrf}&email=a%40b.example&password=x&filler=");
    let sized = |length: usize| format!("{head}{}", "a".repeat(length - head.len()));
    for (kind, body, status) in [
        (form, sized(16 << 10), 422),
        (form, sized((16 << 10) + 1), 413),
        (form, format!("{head}&email=b"), 400),
        ("application/json", "{}".to_owned(), 415),
        ("text/plain", head.clone(), 415),
    ] {
        let reply = browser.request("POST", "/login", Some((kind, body))).await;
        assert_eq!(reply.status, status, "{kind}");
        assert!(reply.header("content-type").unwrap().starts_with("text/html"), "{reply:?}");
    }
}
