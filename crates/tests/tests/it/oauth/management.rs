//! Apps and authorizations, by API and command line: who may, what ends with what, and what is written down.

use hookyard_domain::{credential::Scope, person::Role};
use hookyard_tests::http::{Client, Reply};
use serde_json::json;

use super::stage::{App, Person, Stage, ZAPIER, refused, text};

fn body() -> String {
    json!({"name": "Zapier", "redirect_uris": [ZAPIER], "scopes": ["hooks:read", "hooks:write"]}).to_string()
}

/// A request with a person's session, as a page of ours makes it.
async fn as_person(stage: &Stage, person: &Person, method: &str, path: &str, body: Option<&str>) -> Reply {
    let mut request =
        stage.http().request(method, path).header("cookie", format!("hookyard-session={}", person.session));
    if method != "GET" {
        request = request.header("x-csrf-token", csrf_token(&person.session));
    }
    if let Some(body) = body {
        request = request.json(body);
    }
    request.send().await
}

/// What pages of ours know: HMAC of the session's token.
fn csrf_token(session: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, session.as_bytes());
    URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, b"hookyard csrf token"))
}

#[tokio::test]
async fn an_admin_makes_an_app_gives_it_another_secret_and_ends_it() {
    let stage = Stage::with(2).await;
    let admin = stage.system.client().await;
    let made = admin.post("/v1/oauth/clients", body()).await;
    let created = made.expect(201);
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let id = text(&created, "client_id").to_owned();
    let secret = text(&created, "client_secret").to_owned();
    assert!(secret.starts_with("cs_") && secret.len() == 46, "{created}");
    let mut app = App { id: id.parse().unwrap(), secret: Some(secret), redirect: ZAPIER.to_owned() };
    let listed = admin.get("/v1/oauth/clients").await.expect(200);
    let mut shown = created.clone();
    shown.as_object_mut().unwrap().remove("client_secret");
    assert_eq!(listed["data"], json!([shown]), "without its secret");

    let person = stage.person(Role::Developer).await;
    let tokens = stage.tokens(&person, &app).await;
    let rotated = admin.post(&format!("/v1/oauth/clients/{id}/secret"), "").await.expect(200);
    let refresh = text(&tokens, "refresh_token");
    assert_eq!(
        refused(&stage.refresh(&app, refresh).await),
        (400, "invalid_client".to_owned()),
        "the old secret"
    );
    app.secret = Some(text(&rotated, "client_secret").to_owned());
    let tokens = stage.refresh(&app, refresh).await.expect(200);
    assert_eq!(stage.opens(text(&tokens, "access_token")).await, [200, 200]);

    let gone = admin.delete(&format!("/v1/oauth/clients/{id}")).await;
    assert_eq!(gone.expect(200), json!({"status": "revoked", "client_id": id}));
    assert_eq!(stage.opens(text(&tokens, "access_token")).await, [401, 401], "the next request, everywhere");
    let again = stage.refresh(&app, text(&tokens, "refresh_token")).await;
    assert_eq!(refused(&again), (400, "invalid_client".to_owned()));
    assert_eq!(stage.ask(Some(&person), &app.query(&[])).await.status, 400, "nobody is asked any more");
    assert_eq!(admin.delete(&format!("/v1/oauth/clients/{id}")).await.status, 200, "again");
    assert_eq!(admin.post(&format!("/v1/oauth/clients/{id}/secret"), "").await.error().0, 404);
    assert_eq!(
        stage.audited().await,
        ["client.created", "grant.given", "client.secret_rotated", "client.revoked"]
    );
}

#[tokio::test]
async fn an_app_that_is_asked_for_again_with_its_key_is_the_same_and_its_secret_is_not_told_again() {
    let stage = Stage::open().await;
    let admin = stage.system.client().await;
    let make = async |body: String| {
        admin.request("POST", "/v1/oauth/clients").header("idempotency-key", "app").json(body).send().await
    };
    let first = make(body()).await;
    let created = first.expect(201);
    let (id, secret) = (text(&created, "client_id"), text(&created, "client_secret"));
    assert_eq!((first.header("idempotent-replayed"), secret.len()), (None, 46));
    let mut known = created.clone();
    known["client_secret"] = json!(null);
    for _ in 0..2 {
        let again = make(body()).await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(again.header("cache-control"), Some("no-store"));
        assert_eq!(again.expect(201), known);
    }
    let other = body().replace("Zapier", "Another");
    assert_eq!(make(other).await.error(), (422, "IDEMPOTENCY_MISMATCH".to_owned()));
    assert_eq!(admin.get("/v1/oauth/clients").await.expect(200)["data"].as_array().unwrap().len(), 1);
    assert_eq!(stage.audited().await, ["client.created"]);
    for (what, rows) in [(secret, 0), (id, 1)] {
        let kept = format!(
            "SELECT count(*) AS n FROM idempotency_keys WHERE position('{what}'::bytea IN response) > 0"
        );
        assert_eq!(crate::retention::number(&stage.system.db, &kept).await, rows, "{what}");
    }
    // It is its secret for all that.
    let app = App { id: id.parse().unwrap(), secret: Some(secret.to_owned()), redirect: ZAPIER.to_owned() };
    let person = stage.person(Role::Developer).await;
    stage.tokens(&person, &app).await;
}

#[tokio::test]
async fn only_admins_make_apps_and_nobody_sees_anothers() {
    let stage = Stage::open().await;
    let key = stage.system.key(&[Scope::HooksWrite, Scope::EventsWrite]).await;
    let programs: Client = stage.http().with_key(&key);
    assert_eq!(programs.post("/v1/oauth/clients", body()).await.error().0, 403);
    for (role, status) in [(Role::Viewer, 403), (Role::Developer, 403), (Role::Admin, 201)] {
        let person = stage.person(role).await;
        let reply = as_person(&stage, &person, "POST", "/v1/oauth/clients", Some(&body())).await;
        assert_eq!(reply.status, status, "{role}: {}", reply.text());
    }
    let other = stage.system.tenant("Other").await;
    let foreign = stage.app_with(Some(other), false, &[ZAPIER], &[Scope::HooksRead]).await;
    let operators = stage.app().await;
    let admin = stage.system.client().await;
    assert_eq!(admin.get("/v1/oauth/clients").await.expect(200)["data"].as_array().unwrap().len(), 1);
    for app in [&foreign, &operators] {
        assert_eq!(admin.delete(&format!("/v1/oauth/clients/{}", app.id)).await.error().0, 404);
        assert_eq!(admin.post(&format!("/v1/oauth/clients/{}/secret", app.id), "").await.error().0, 404);
    }
}

#[tokio::test]
async fn what_an_app_must_not_be_is_refused_by_its_field() {
    let stage = Stage::open().await;
    let admin = stage.system.client().await;
    for (change, field) in [
        (json!({"name": ""}), "name"),
        (json!({"name": "x".repeat(51)}), "name"),
        (json!({"redirect_uris": []}), "redirect_uris"),
        (json!({"redirect_uris": ["http://app.example/"]}), "redirect_uris"),
        (json!({"redirect_uris": ["com.example.app:/cb"]}), "redirect_uris"),
        (
            json!({"redirect_uris": (0..11).map(|n| format!("https://a.example/{n}")).collect::<Vec<_>>()}),
            "redirect_uris",
        ),
        (json!({"scopes": []}), "scopes"),
        (json!({"scopes": ["moon:read"]}), "scopes"),
        (json!({"public": "yes"}), "public"),
    ] {
        let mut body: serde_json::Value = serde_json::from_str(&body()).unwrap();
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let reply = admin.post_json("/v1/oauth/clients", &body).await;
        assert_eq!(reply.error(), (422, "INVALID_FIELD".to_owned()), "{change}");
        assert_eq!(reply.json()["details"]["field"], field, "{change}");
    }
    let public = json!({"name": "a", "redirect_uris": ["com.example.app:/cb"], "scopes": ["hooks:read"], "public": true});
    let created = admin.post_json("/v1/oauth/clients", &public).await.expect(201);
    assert!(created["client_secret"].is_null() && created["public"] == true, "{created}");
    let secret = format!("/v1/oauth/clients/{}/secret", text(&created, "client_id"));
    assert_eq!(admin.post(&secret, "").await.error(), (409, "CONFLICT".to_owned()));
}

#[tokio::test]
async fn a_tenant_has_at_most_fifty_live_apps() {
    let stage = Stage::open().await;
    let admin = stage.system.client().await;
    let mut first = None;
    for _ in 0..50 {
        let created = admin.post("/v1/oauth/clients", body()).await.expect(201);
        first.get_or_insert(text(&created, "client_id").to_owned());
    }
    assert_eq!(admin.post("/v1/oauth/clients", body()).await.error(), (409, "CONFLICT".to_owned()));
    admin.delete(&format!("/v1/oauth/clients/{}", first.unwrap())).await.expect(200);
    admin.post("/v1/oauth/clients", body()).await.expect(201);
}

#[tokio::test]
async fn people_see_and_end_what_they_allowed_and_admins_all_of_it() {
    let stage = Stage::with(2).await;
    let app = stage.app().await;
    let (one, two) = (stage.person(Role::Developer).await, stage.person(Role::Viewer).await);
    let admin = stage.person(Role::Admin).await;
    let (of_one, of_two) = (stage.tokens(&one, &app).await, stage.tokens(&two, &app).await);
    let elsewhere = stage.system.tenant("Other").await;
    let stranger = stage.person_of(elsewhere, Role::Admin, "en").await;
    stage.tokens(&stranger, &app).await;
    let seen = async |person: &Person| {
        let listed = as_person(&stage, person, "GET", "/v1/oauth/grants", None).await.expect(200);
        let grants = listed["data"].as_array().unwrap().clone();
        grants
            .iter()
            .map(|grant| (text(grant, "email").to_owned(), text(grant, "id").to_owned()))
            .collect::<Vec<_>>()
    };
    let (mine, others, all) = (seen(&one).await, seen(&two).await, seen(&admin).await);
    assert_eq!((mine.len(), &mine[0].0), (1, &one.email));
    assert_eq!((others.len(), &others[0].0), (1, &two.email));
    assert_eq!(all, [others.clone(), mine.clone()].concat(), "newest first, and none of another tenant's");
    let path = |grant: &(String, String)| format!("/v1/oauth/grants/{}", grant.1);
    assert_eq!(as_person(&stage, &one, "DELETE", &path(&others[0]), None).await.error().0, 404);
    assert_eq!(as_person(&stage, &stranger, "DELETE", &path(&mine[0]), None).await.error().0, 404);
    for (person, grant, tokens) in [(&one, &mine[0], &of_one), (&admin, &others[0], &of_two)] {
        assert_eq!(stage.opens(text(tokens, "access_token")).await, [200, 200]);
        as_person(&stage, person, "DELETE", &path(grant), None).await.expect(200);
        assert_eq!(stage.opens(text(tokens, "access_token")).await, [401, 401]);
        let again = stage.refresh(&app, text(tokens, "refresh_token")).await;
        assert_eq!(refused(&again), (400, "invalid_grant".to_owned()));
    }
    assert_eq!(seen(&admin).await, []);
    assert_eq!(stage.audited().await, ["grant.given", "grant.given", "grant.revoked", "grant.revoked"]);
    assert_eq!(stage.ask(Some(&one), &app.query(&[])).await.status, 200, "asked again");
}

#[tokio::test]
async fn tokens_that_are_given_back_are_no_longer_taken() {
    let stage = Stage::with(2).await;
    let (person, app, other) = (stage.person(Role::Admin).await, stage.app().await, stage.app().await);
    let revoke = async |app: &App, token: &str| {
        let id = app.id.to_string();
        let members =
            [("client_id", id.as_str()), ("client_secret", app.secret.as_deref().unwrap()), ("token", token)];
        stage.post("/oauth/revoke", &members).await
    };
    let first = stage.tokens(&person, &app).await;
    let access = text(&first, "access_token");
    assert_eq!(refused(&revoke(&other, access).await), (400, "invalid_grant".to_owned()));
    assert_eq!(stage.opens(access).await, [200, 200]);
    assert_eq!(revoke(&app, access).await.status, 200);
    assert_eq!(stage.opens(access).await, [401, 401], "itself");
    let second = stage.refresh(&app, text(&first, "refresh_token")).await.expect(200);
    assert_eq!(revoke(&app, text(&second, "refresh_token")).await.status, 200);
    assert_eq!(stage.opens(text(&second, "access_token")).await, [401, 401], "the whole authorization");
    for token in [text(&first, "refresh_token"), text(&second, "refresh_token")] {
        assert_eq!(refused(&stage.refresh(&app, token).await), (400, "invalid_grant".to_owned()));
    }
    for unknown in ["rt_unknown", access, "é"] {
        assert_eq!(revoke(&app, unknown).await.status, 200, "as good as given back");
    }
    assert_eq!(refused(&revoke(&app, "").await), (400, "invalid_request".to_owned()));
    assert_eq!(stage.audited().await, ["grant.given", "grant.revoked"]);
}
