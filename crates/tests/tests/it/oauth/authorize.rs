//! Authorization requests: who is sent where, and who is sent nowhere.

use hookyard_domain::{credential::Scope, person::Role};

use super::stage::{CHALLENGE, Stage, ZAPIER, answered, decode};

const PKCE: [(&str, &str); 2] = [("code_challenge", CHALLENGE), ("code_challenge_method", "S256")];

#[tokio::test]
async fn a_browser_is_never_sent_to_an_address_that_is_not_registered() {
    let stage = Stage::open().await;
    let person = stage.person(Role::Admin).await;
    let app = stage.app().await;
    let evil = [
        "https://evil.example/dashboard/auth/oauth/return/App1CLIAPI/",
        "https://zapier.com.evil.example/dashboard/auth/oauth/return/App1CLIAPI/",
        "https://evilzapier.com/dashboard/auth/oauth/return/App1CLIAPI/",
        "https://hooks.zapier.com/dashboard/auth/oauth/return/App1CLIAPI/",
        "https://zapier.com@evil.example/dashboard/auth/oauth/return/App1CLIAPI/",
        "https://me@zapier.com/dashboard/auth/oauth/return/App1CLIAPI/",
        "https://zapier.com/dashboard/auth/oauth/return/App1CLIAPI/../../../../../evil",
        "https://zapier.com/dashboard/auth/oauth/return/App1CLIAPI",
        "https://zapier.com/dashboard/auth/oauth/return/App1CLIAPI//",
        "https://zapier.com/dashboard/auth/oauth/return/App1CLIAPI/?x=1",
        "https://zapier.com/dashboard/auth/oauth/return/App1CLIAPI/#x",
        "https://zapier.com/dashboard/auth/oauth/return/app1cliapi/",
        "https://ZAPIER.com/dashboard/auth/oauth/return/App1CLIAPI/",
        "https://zapier.com:443/dashboard/auth/oauth/return/App1CLIAPI/",
        "https://zapier.com/dashboard/auth/oauth/return/%41pp1CLIAPI/",
        "https%3A%2F%2Fzapier.com%2Fdashboard%2Fauth%2Foauth%2Freturn%2FApp1CLIAPI%2F",
        "http://zapier.com/dashboard/auth/oauth/return/App1CLIAPI/",
        "//zapier.com/dashboard/auth/oauth/return/App1CLIAPI/",
        "https://zapier.com\\@evil.example/",
        "javascript:alert(1)",
        "/oauth/authorize",
        " https://zapier.com/dashboard/auth/oauth/return/App1CLIAPI/",
    ];
    for uri in evil {
        for who in [Some(&person), None] {
            let reply = stage.ask(who, &app.query(&[("redirect_uri", uri), ("state", "s")])).await;
            assert_eq!((reply.status, reply.header("location")), (400, None), "{uri}");
            assert!(reply.header("content-type").unwrap().starts_with("text/html"), "{reply:?}");
            assert!(!reply.text().contains("evil"), "nothing of it is shown: {}", reply.text());
        }
    }
    // Twice is not once, whichever of the two is good.
    let query = format!("{}&redirect_uri=https%3A%2F%2Fevil.example%2F", app.query(&[]));
    assert_eq!(stage.ask(Some(&person), &query).await.status, 400);
    let good = stage.ask(Some(&person), &app.query(&[])).await;
    assert_eq!(good.status, 200, "the registered one is asked about");
}

#[tokio::test]
async fn an_unknown_client_is_a_page_and_no_redirect() {
    let stage = Stage::open().await;
    let person = stage.person(Role::Admin).await;
    let app = stage.app().await;
    let other = "oac_01hzy3v9k2s8d4f6g8h0j2k4m6";
    for query in [
        app.query(&[("client_id", other)]),
        app.query(&[("client_id", "zapier")]),
        app.query(&[("client_id", "-")]),
        format!("{}&client_id={other}", app.query(&[])),
        String::new(),
    ] {
        let reply = stage.ask(Some(&person), &query).await;
        assert_eq!((reply.status, reply.header("location")), (400, None), "{query}");
    }
}

#[tokio::test]
async fn other_mistakes_are_told_to_the_client_with_its_state() {
    let stage = Stage::open().await;
    let person = stage.person(Role::Admin).await;
    let app = stage.app().await;
    let public = stage.app_with(None, true, &["https://spa.example/cb"], &[Scope::HooksRead]).await;
    let admin = stage.app_with(None, false, &[ZAPIER], &[Scope::Admin]).await;
    let foreign = stage.system.tenant("Other").await;
    let foreign = stage.app_with(Some(foreign), false, &[ZAPIER], &[Scope::HooksRead]).await;
    let viewer = stage.person(Role::Viewer).await;
    let state = ("state", "a b&c=d%/é\"'");
    for (who, app, more, error) in [
        (&person, &app, vec![("response_type", "-")], "invalid_request"),
        (&person, &app, vec![("response_type", "token")], "unsupported_response_type"),
        (&person, &app, vec![("response_type", "code token")], "unsupported_response_type"),
        (&person, &app, vec![("response_mode", "fragment")], "invalid_request"),
        (&person, &app, vec![("scope", "hooks:read moon:read")], "invalid_scope"),
        (&person, &app, vec![("scope", "events:read")], "access_denied"),
        (&person, &app, vec![("scope", "admin")], "access_denied"),
        (&person, &app, vec![("code_challenge", CHALLENGE)], "invalid_request"),
        (&person, &app, vec![("code_challenge_method", "S256")], "invalid_request"),
        (
            &person,
            &app,
            vec![("code_challenge", CHALLENGE), ("code_challenge_method", "plain")],
            "invalid_request",
        ),
        (
            &person,
            &app,
            vec![("code_challenge", "short"), ("code_challenge_method", "S256")],
            "invalid_request",
        ),
        (&person, &app, vec![("prompt", "none")], "consent_required"),
        (&person, &public, vec![], "invalid_request"),
        (&person, &foreign, vec![], "access_denied"),
        (&viewer, &admin, vec![], "access_denied"),
        (&viewer, &app, vec![("scope", "hooks:write")], "access_denied"),
    ] {
        let mut members = more.clone();
        members.push(state);
        let reply = stage.ask(Some(who), &app.query(&members)).await;
        assert_eq!(answered(&reply, "error").as_deref(), Some(error), "{more:?}: {reply:?}");
        assert_eq!(answered(&reply, "state").as_deref(), Some(state.1), "{reply:?}");
        assert!(answered(&reply, "error_description").is_some_and(|text| !text.is_empty()), "{reply:?}");
        assert!(reply.header("location").unwrap().starts_with(&app.redirect), "{reply:?}");
        assert_eq!(answered(&reply, "code"), None);
    }
    let twice = format!("{}&scope=hooks%3Aread&scope=hooks%3Aread", app.query(&[]));
    assert_eq!(
        answered(&stage.ask(Some(&person), &twice).await, "error").as_deref(),
        Some("invalid_request")
    );
    let nobody = stage.ask(None, &app.query(&[("prompt", "none"), state])).await;
    assert_eq!(answered(&nobody, "error").as_deref(), Some("login_required"));
    // With PKCE the public client is asked about.
    assert_eq!(stage.ask(Some(&person), &public.query(&PKCE)).await.status, 200);
}

#[tokio::test]
async fn the_state_comes_back_byte_by_byte_up_to_its_limit() {
    let stage = Stage::open().await;
    let person = stage.person(Role::Admin).await;
    let app = stage.app().await;
    for state in ["%7e%7E+%20", "a.b:c;d'%00%0d%0aX-Evil:%201", "%ff%fe", "=", &"s".repeat(2048)] {
        let query = format!("{}&state={state}", app.query(&[]));
        let reply = stage.press(&person, &query, "deny").await;
        let location = reply.header("location").unwrap();
        assert!(location.ends_with(&format!("&state={state}")), "{state}: {location}");
        assert_eq!(reply.header("x-evil"), None);
        assert_eq!(answered(&reply, "error").as_deref(), Some("access_denied"));
    }
    let query = format!("{}&state={}", app.query(&[]), "s".repeat(2049));
    let reply = stage.ask(Some(&person), &query).await;
    assert_eq!(answered(&reply, "error").as_deref(), Some("invalid_request"));
    assert_eq!(answered(&reply, "state"), None, "what is too long is not given back");
}

#[tokio::test]
async fn whoever_is_not_logged_in_logs_in_first_and_comes_back_to_the_same_question() {
    let stage = Stage::open().await;
    let app = stage.app().await;
    let query = app.query(&[("state", "a&b"), ("scope", "hooks:read")]);
    let reply = stage.ask(None, &query).await;
    assert_eq!(reply.status, 303);
    let location = reply.header("location").unwrap();
    let back = decode(location.strip_prefix("/login?return_to=").unwrap());
    assert_eq!(back, format!("/oauth/authorize?{query}"));
    // A session that has ended is none.
    let person = stage.person(Role::Admin).await;
    stage.change(&person, "DELETE FROM sessions WHERE user_id = $1").await;
    let reply = stage.ask(Some(&person), &query).await;
    assert!(reply.header("location").unwrap().starts_with("/login?"), "{reply:?}");
}

#[tokio::test]
async fn an_answer_names_its_issuer_and_the_metadata_names_everything() {
    let stage = Stage::open().await;
    let person = stage.person(Role::Admin).await;
    let app = stage.app().await;
    let metadata = stage.http().get("/.well-known/oauth-authorization-server").await.expect(200);
    let issuer = format!("http://{}", stage.system.gateways[0].addr);
    assert_eq!(metadata["issuer"], issuer);
    for (member, path) in [
        ("authorization_endpoint", "/oauth/authorize"),
        ("token_endpoint", "/oauth/token"),
        ("revocation_endpoint", "/oauth/revoke"),
        ("introspection_endpoint", "/oauth/introspect"),
    ] {
        assert_eq!(metadata[member], format!("{issuer}{path}"), "{member}");
    }
    assert_eq!(metadata["code_challenge_methods_supported"], serde_json::json!(["S256"]));
    assert_eq!(metadata["scopes_supported"].as_array().unwrap().len(), Scope::ALL.len());
    let reply = stage.press(&person, &app.query(&[("state", "x")]), "allow").await;
    assert_eq!(answered(&reply, "iss"), Some(issuer));
    assert!(answered(&reply, "code").unwrap().starts_with("ac_"), "{reply:?}");
}

#[tokio::test]
async fn a_program_on_a_desktop_may_take_any_port_and_asks_each_time() {
    let stage = Stage::open().await;
    let person = stage.person(Role::Admin).await;
    let app = stage.app_with(None, true, &["http://127.0.0.1/cb"], &[Scope::HooksRead]).await;
    for port in ["51004", "51005"] {
        let uri = format!("http://127.0.0.1:{port}/cb");
        let mut more = PKCE.to_vec();
        more.push(("redirect_uri", &uri));
        let reply = stage.press(&person, &app.query(&more), "allow").await;
        assert!(reply.header("location").unwrap().starts_with(&format!("{uri}?code=ac_")), "{reply:?}");
    }
}
