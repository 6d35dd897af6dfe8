//! Codes at the token endpoint: exchanged once, by the client that asked, within their time.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Binary, Timestamptz},
};
use hookyard_domain::{
    audit::Actor,
    credential::{Scope, TokenHash},
    oauth::{
        client,
        exchange::{self, CodeRequest},
    },
    person::Role,
};
use serde_json::json;

use super::stage::{App, CHALLENGE, Stage, VERIFIER, ZAPIER, encode, form, post, refused, text};

const PKCE: [(&str, &str); 2] = [("code_challenge", CHALLENGE), ("code_challenge_method", "S256")];

fn invalid_grant() -> (u16, String) {
    (400, "invalid_grant".to_owned())
}

/// The members of an exchange.
fn with<'a>(code: &'a str, app: &'a App) -> Vec<(&'static str, &'a str)> {
    vec![("grant_type", "authorization_code"), ("code", code), ("redirect_uri", &app.redirect)]
}

#[tokio::test]
async fn a_code_becomes_tokens_in_the_form_that_rfc_6749_has() {
    let stage = Stage::open().await;
    let (person, app) = (stage.person(Role::Admin).await, stage.app().await);
    let code = stage.code(&person, &app, &[]).await;
    let reply = stage.token(&app, &with(&code, &app)).await;
    let tokens = reply.expect(200);
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.header("pragma"), Some("no-cache"));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let access = text(&tokens, "access_token");
    assert!(access.starts_with("at_") && access.len() == 46, "{tokens}");
    let refresh = text(&tokens, "refresh_token");
    assert!(refresh.starts_with("rt_") && refresh.len() == 46, "{tokens}");
    let rest = json!({"access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": 3600,
        "scope": "hooks:read hooks:write"});
    assert_eq!(tokens, rest);
    assert_eq!(stage.opens(access).await, [200]);
    assert_eq!(stage.opens(refresh).await, [401], "a refresh token opens nothing");
    assert_eq!(stage.audited().await, ["grant.given"]);
}

#[tokio::test]
async fn a_client_shows_itself_in_the_form_or_in_basic_and_never_in_both() {
    let stage = Stage::open().await;
    let (person, app) = (stage.person(Role::Admin).await, stage.app().await);
    let (id, secret) = (app.id.to_string(), app.secret.clone().unwrap());
    let send = async |authorization: Option<String>, members: &[(&str, &str)]| {
        let mut request = stage.http().request("POST", "/oauth/token");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        request.header("content-type", "application/x-www-form-urlencoded").body(form(members)).send().await
    };
    let basic = |id: &str, secret: &str| {
        Some(format!("Basic {}", STANDARD.encode(format!("{}:{}", encode(id), encode(secret)))))
    };
    let code = stage.code(&person, &app, &[]).await;
    let members = with(&code, &app);
    let mut both = members.clone();
    both.extend([("client_id", id.as_str()), ("client_secret", secret.as_str())]);
    assert_eq!(refused(&send(basic(&id, &secret), &both).await), (400, "invalid_request".to_owned()));
    let wrong = send(basic(&id, "cs_wrong"), &members).await;
    assert_eq!(refused(&wrong), (401, "invalid_client".to_owned()));
    assert!(wrong.header("www-authenticate").unwrap().starts_with("Basic realm="), "{wrong:?}");
    for authorization in [basic(&id, ""), basic("oac_x", &secret), Some("Basic x".to_owned())] {
        assert_eq!(refused(&send(authorization, &members).await), (401, "invalid_client".to_owned()));
    }
    for (id, secret) in [(id.as_str(), "cs_wrong"), (id.as_str(), ""), ("oac_x", secret.as_str())] {
        let mut wrong = members.clone();
        wrong.extend([("client_id", id), ("client_secret", secret)]);
        let reply = send(None, &wrong).await;
        assert_eq!(refused(&reply), (400, "invalid_client".to_owned()), "{id} {secret}");
        assert_eq!(reply.header("www-authenticate"), None);
    }
    assert_eq!(refused(&send(None, &members).await), (400, "invalid_request".to_owned()));
    // After all that the code is still good, with Basic. An app may send its access token along as with every request.
    let tokens = send(basic(&id, &secret), &members).await.expect(200);
    let refresh = [
        ("grant_type", "refresh_token"),
        ("refresh_token", text(&tokens, "refresh_token")),
        ("client_id", id.as_str()),
        ("client_secret", secret.as_str()),
    ];
    send(Some("Bearer at_expired".to_owned()), &refresh).await.expect(200);
}

#[tokio::test]
async fn a_code_that_comes_again_ends_everything_that_came_from_it() {
    let stage = Stage::with(2).await;
    let (person, app) = (stage.person(Role::Admin).await, stage.app().await);
    let code = stage.code(&person, &app, &[]).await;
    let tokens = stage.token(&app, &with(&code, &app)).await.expect(200);
    assert_eq!(stage.opens(text(&tokens, "access_token")).await, [200, 200]);
    let bystander = stage.tokens(&person, &app).await;
    assert_eq!(refused(&stage.token(&app, &with(&code, &app)).await), invalid_grant());
    // The next request, on both gateways.
    assert_eq!(stage.opens(text(&tokens, "access_token")).await, [401, 401]);
    assert_eq!(refused(&stage.refresh(&app, text(&tokens, "refresh_token")).await), invalid_grant());
    assert_eq!(
        stage.opens(text(&bystander, "access_token")).await,
        [200, 200],
        "another authorization stays"
    );
    assert_eq!(refused(&stage.token(&app, &with(&code, &app)).await), invalid_grant());
    assert_eq!(stage.audited().await, ["grant.given", "grant.given", "grant.revoked"], "once");
}

#[tokio::test]
async fn a_code_lives_for_a_minute() {
    let stage = Stage::open().await;
    let (person, app) = (stage.person(Role::Admin).await, stage.app().await);
    let early = stage.code(&person, &app, &[]).await;
    stage.system.clock.advance(TimeDelta::seconds(58));
    stage.token(&app, &with(&early, &app)).await.expect(200);
    let late = stage.code(&person, &app, &[]).await;
    stage.system.clock.advance(TimeDelta::seconds(60));
    assert_eq!(refused(&stage.token(&app, &with(&late, &app)).await), invalid_grant());
}

#[tokio::test]
async fn a_code_ends_with_its_sixtieth_second_exactly() {
    #[derive(QueryableByName)]
    struct Made {
        #[diesel(sql_type = Timestamptz)]
        created_at: DateTime<Utc>,
    }
    let stage = Stage::open().await;
    let (person, app) = (stage.person(Role::Admin).await, stage.app().await);
    for (left, taken) in [(1, true), (0, false)] {
        let hash = TokenHash::of(&stage.code(&person, &app, &[]).await);
        let request = CodeRequest { code: hash, redirect_uri: Some(app.redirect.clone()), verifier: None };
        let id = app.id;
        let exchanged = stage.system.db.run(move |conn| {
            let made: Made = sql_query("SELECT created_at FROM oauth_codes WHERE code_hash = $1")
                .bind::<Binary, _>(hash.bytes())
                .get_result(conn)?;
            let client = client::find(conn, id)?.unwrap();
            let now = made.created_at + TimeDelta::seconds(60) - TimeDelta::microseconds(left);
            exchange::code(conn, &client, &request, &Actor::system("test"), now)
        });
        assert_eq!(exchanged.await.unwrap().is_ok(), taken, "{left} microseconds before");
    }
}

#[tokio::test]
async fn a_code_is_good_only_for_the_request_it_was_asked_with() {
    let stage = Stage::open().await;
    let person = stage.person(Role::Admin).await;
    let app = stage.app_with(None, false, &[ZAPIER, "https://zapier.com/other"], &[Scope::HooksRead]).await;
    let other = stage.app().await;
    let code = stage.code(&person, &app, &PKCE).await;
    let verified = |verifier: &'static str| {
        let mut members = with(&code, &app);
        members.push(("code_verifier", verifier));
        members
    };
    // Another client, which has a secret of its own.
    assert_eq!(refused(&stage.token(&other, &verified(VERIFIER)).await), invalid_grant());
    // Another address, though it is the client's; none, though one was named.
    for redirect in ["https://zapier.com/other", "", "https://evil.example/"] {
        let members = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", redirect),
            ("code_verifier", VERIFIER),
        ];
        assert_eq!(refused(&stage.token(&app, &members).await), invalid_grant(), "{redirect}");
    }
    // Another verifier, none, the challenge itself.
    for verifier in ["dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXK", "", CHALLENGE, "short"] {
        assert_eq!(refused(&stage.token(&app, &verified(verifier)).await), invalid_grant(), "{verifier}");
    }
    stage.token(&app, &verified(VERIFIER)).await.expect(200);
    // A verifier for a code without a challenge: somebody took the challenge away.
    let code = stage.code(&person, &app, &[]).await;
    let mut members = with(&code, &app);
    members.push(("code_verifier", VERIFIER));
    assert_eq!(refused(&stage.token(&app, &members).await), invalid_grant());
    stage.token(&app, &with(&code, &app)).await.expect(200);
}

#[tokio::test]
async fn an_address_that_was_not_named_need_not_be_repeated() {
    let stage = Stage::open().await;
    let (person, app) = (stage.person(Role::Admin).await, stage.app().await);
    let code = stage.code(&person, &app, &[("redirect_uri", "-")]).await;
    let members = [("grant_type", "authorization_code"), ("code", code.as_str())];
    stage.token(&app, &members).await.expect(200);
}

#[tokio::test]
async fn a_public_client_needs_no_secret_and_no_secret_makes_it_another() {
    let stage = Stage::open().await;
    let person = stage.person(Role::Admin).await;
    let app = stage.app_with(None, true, &["com.example.app:/cb"], &[Scope::HooksRead]).await;
    let code = stage.code(&person, &app, &PKCE).await;
    let mut members = with(&code, &app);
    members.push(("code_verifier", VERIFIER));
    let mut pretended = members.clone();
    pretended.push(("client_secret", "cs_x"));
    assert_eq!(refused(&stage.token(&app, &pretended).await), (400, "invalid_client".to_owned()));
    let tokens = stage.token(&app, &members).await.expect(200);
    assert_eq!(stage.opens(text(&tokens, "access_token")).await, [200]);
    stage.refresh(&app, text(&tokens, "refresh_token")).await.expect(200);
}

#[tokio::test]
async fn every_mistake_of_a_token_request_has_its_name() {
    let stage = Stage::open().await;
    let app = stage.app().await;
    let error = async |members: &[(&str, &str)]| refused(&stage.token(&app, members).await).1;
    for (members, expected) in [
        (&[][..], "invalid_request"),
        (&[("grant_type", "")], "invalid_request"),
        (&[("grant_type", "password"), ("username", "a"), ("password", "b")], "unsupported_grant_type"),
        (&[("grant_type", "client_credentials")], "unsupported_grant_type"),
        (&[("grant_type", "authorization_code")], "invalid_request"),
        (&[("grant_type", "authorization_code"), ("code", "ac_x")], "invalid_grant"),
        (&[("grant_type", "authorization_code"), ("code", "a"), ("code", "b")], "invalid_request"),
        (&[("grant_type", "refresh_token")], "invalid_request"),
        (&[("grant_type", "refresh_token"), ("refresh_token", "rt_x")], "invalid_grant"),
        (&[("grant_type", "refresh_token"), ("refresh_token", "rt_x"), ("scope", "moon")], "invalid_scope"),
    ] {
        assert_eq!(error(members).await, expected, "{members:?}");
    }
    let json = stage.http().post("/oauth/token", r#"{"grant_type":"authorization_code"}"#).await;
    assert_eq!(refused(&json), (400, "invalid_request".to_owned()), "a form, not JSON");
    let in_query =
        post(&stage.http(), "/oauth/token?client_id=x&client_secret=y&grant_type=refresh_token", &[]).await;
    assert_eq!(refused(&in_query), (400, "invalid_request".to_owned()), "nothing is read from the query");
    assert_eq!(stage.http().get("/oauth/token").await.error().0, 405);
    let form = |length: usize| "a".repeat(length);
    let send = async |length| {
        let request = stage.http().request("POST", "/oauth/token");
        request.header("content-type", "application/x-www-form-urlencoded").body(form(length)).send().await
    };
    assert_eq!(send(16 << 10).await.status, 400);
    assert_eq!(send((16 << 10) + 1).await.error(), (413, "PAYLOAD_TOO_LARGE".to_owned()));
}

#[tokio::test]
async fn an_access_token_ends_after_an_hour_with_401() {
    let stage = Stage::with(2).await;
    let (person, app) = (stage.person(Role::Admin).await, stage.app().await);
    let tokens = stage.tokens(&person, &app).await;
    let access = text(&tokens, "access_token");
    stage.system.clock.advance(TimeDelta::seconds(3_595));
    assert_eq!(stage.opens(access).await, [200, 200]);
    stage.system.clock.advance(TimeDelta::seconds(5));
    assert_eq!(stage.opens(access).await, [401, 401]);
    let reply = stage.http().with_key(access).get("/v1/hooks").await;
    assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"hookyard\", error=\"invalid_token\""));
}
