//! Getting in by a link: set-up, invitations, new passwords.

use chrono::TimeDelta;
use hookyard_domain::{
    id::InvitationId,
    person::{
        Role,
        invitation::{self, NewInvitation, Purpose},
    },
};
use hookyard_tests::{
    browser::Browser,
    secrets::vault,
    system::{PASSWORD, System},
};
use serde_json::{Value, json};

const ADMIN: &str = "admin@example.com";
const ADA: &str = "ada@example.com";

/// A link for a purpose, as the operator's commands make it: its path.
async fn link(system: &System, purpose: Purpose) -> String {
    let now = system.clock.now();
    let id = InvitationId::new(now);
    let token = invitation::token(&vault(), id);
    let new =
        NewInvitation { id, purpose, email: None, role: Role::Admin, invited_by: None, hash: token.hash() };
    system.db.run(move |conn| invitation::insert(conn, &new, now)).await.unwrap();
    let place = if purpose == Purpose::SetUp { "setup" } else { "invitations" };
    format!("/{place}/{}", token.expose())
}

/// Invites somebody over the API; the whole answer, and the path of the link.
async fn invite(browser: &mut Browser, email: &str, role: &str) -> (Value, String) {
    let body = json!({"email": email, "role": role});
    let made = browser.api("POST", "/v1/invitations", Some(&body)).await.expect(201);
    let url = made["invite_url"].as_str().unwrap();
    let at = url.find("/invitations/").unwrap();
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    (made.clone(), url[at..].to_owned())
}

#[tokio::test]
async fn the_set_up_link_makes_the_first_tenant_and_its_admin_once() {
    let system = System::start().await;
    let older = link(&system, Purpose::SetUp).await;
    let path = link(&system, Purpose::SetUp).await;
    assert_eq!(system.browser().get(&older).await.status, 404, "a newer one replaces it");
    let mut browser = system.browser();
    assert_eq!(browser.get(&path).await.status, 200);
    let fields = |password: &'static str| {
        [("tenant", "<b>Acme</b>"), ("name", "Ada <script>"), ("email", ADA), ("password", password)]
    };
    assert_eq!(browser.post(&path, &fields("too short")).await.status, 422);
    assert!(browser.page.contains("value=\"&lt;b&gt;Acme"), "what was typed stays: {}", browser.page);
    let mut late = browser.clone();
    assert_eq!(browser.submit(&path, &fields(PASSWORD)).await.status, 200);
    let session = browser.session().await.unwrap();
    assert_eq!((&session["role"], &session["tenant"]["name"]), (&json!("admin"), &json!("<b>Acme</b>")));
    browser.get("/account").await;
    assert!(browser.page.contains("&lt;b&gt;Acme") && !browser.page.contains("<b>Acme"), "{}", browser.page);
    assert!(!browser.page.contains("<script>"), "{}", browser.page);
    assert_eq!(late.post(&path, &fields(PASSWORD)).await.status, 404);
    assert_eq!(system.browser().get(&path).await.status, 404);
    let now = system.clock.now();
    let id = InvitationId::new(now);
    let new = NewInvitation {
        id,
        purpose: Purpose::SetUp,
        email: None,
        role: Role::Admin,
        invited_by: None,
        hash: invitation::token(&vault(), id).hash(),
    };
    assert!(
        system.db.run(move |conn| invitation::insert(conn, &new, now)).await.is_err(),
        "there is somebody"
    );
    let tenant = session["tenant"]["id"].as_str().unwrap().parse().unwrap();
    let audited = system.audited(Some(tenant)).await;
    assert_eq!(audited, ["tenant.created", "user.created", "session.logged_in"]);
}

#[tokio::test]
async fn somebody_new_joins_by_an_invitation_once_within_seven_days() {
    let system = System::start().await;
    system.person(ADMIN, Role::Admin).await;
    let mut admin = system.logged_in(ADMIN).await;
    let (made, path) = invite(&mut admin, "Ada@example.com", "developer").await;
    assert_eq!((&made["email"], &made["role"]), (&json!(ADA), &json!("developer")));
    let listed = admin.get("/v1/invitations").await.expect(200);
    assert_eq!(listed["data"][0]["id"], made["id"]);
    assert!(listed["data"][0]["invite_url"].is_null(), "shown once: {listed}");

    system.clock.advance(TimeDelta::days(7) - TimeDelta::seconds(10));
    let mut ada = system.browser();
    assert_eq!(ada.get(&path).await.status, 200);
    let mut twin = ada.clone();
    assert!(ada.page.contains("Join Test") && ada.page.contains(ADA), "{}", ada.page);
    // The address is the invitation's, whatever the form says.
    let fields = [("name", "Ada"), ("email", "eve@example.com"), ("password", "a sentence of mine")];
    assert_eq!(ada.submit(&path, &fields).await.status, 200);
    let session = ada.session().await.unwrap();
    assert_eq!((&session["user"]["email"], &session["role"]), (&json!(ADA), &json!("developer")));
    assert_eq!(twin.post(&path, &fields).await.status, 404, "twice");
    let audited = system.audited(Some(system.tenant)).await;
    let expected = [
        "session.logged_in",
        "invitation.created",
        "user.created",
        "invitation.accepted",
        "session.logged_in",
    ];
    assert_eq!(audited, expected);

    let mut admin = system.logged_in(ADMIN).await;
    let (_, path) = invite(&mut admin, "late@example.com", "viewer").await;
    system.clock.advance(TimeDelta::days(7));
    assert_eq!(system.browser().get(&path).await.status, 404, "too late");
}

#[tokio::test]
async fn somebody_who_has_an_account_joins_with_it() {
    let system = System::start().await;
    let other = system.tenant("Other").await;
    system.person(ADMIN, Role::Admin).await;
    system.person_of(other, ADA, Role::Viewer).await;
    let mut admin = system.logged_in(ADMIN).await;
    let (_, path) = invite(&mut admin, ADA, "developer").await;
    let mut ada = system.browser();
    ada.get(&path).await;
    assert!(!ada.page.contains("name=\"password\""), "nobody sets a password for an account: {}", ada.page);
    ada.get(&format!("/login?return_to={path}")).await;
    let to = ada.hidden("return_to");
    ada.submit("/login", &[("email", ADA), ("password", PASSWORD), ("return_to", &to)]).await;
    assert_eq!(ada.submit(&path, &[]).await.status, 200);
    let session = ada.session().await.unwrap();
    assert_eq!(session["tenant"]["id"], system.tenant.to_string());
    assert_eq!(session["role"], "developer");
    assert_eq!(session["tenants"].as_array().unwrap().len(), 2);

    // Between tenants.
    let back =
        ada.api("PATCH", "/v1/session", Some(&json!({"tenant_id": other.to_string(), "locale": "fr"}))).await;
    assert_eq!(back.expect(200)["role"], "viewer");
    ada.get("/account").await;
    assert!(ada.page.contains("Vous êtes connecté"), "{}", ada.page);
    let stranger = system.tenant("Stranger").await;
    for (tenant, status) in [(stranger, 404), (system.tenant, 303)] {
        ada.get("/account").await;
        assert_eq!(ada.post("/account/tenant", &[("tenant", &tenant.to_string())]).await.status, status);
    }
    assert_eq!(ada.session().await.unwrap()["role"], "developer");
}

#[tokio::test]
async fn an_invitation_is_taken_back_and_replaced() {
    let system = System::start().await;
    system.person(ADMIN, Role::Admin).await;
    let mut admin = system.logged_in(ADMIN).await;
    let (first, older) = invite(&mut admin, ADA, "viewer").await;
    let (made, path) = invite(&mut admin, ADA, "admin").await;
    assert_eq!(system.browser().get(&older).await.status, 404);
    assert_eq!(system.browser().get(&path).await.status, 200);
    let delete = |id: &Value| format!("/v1/invitations/{}", id.as_str().unwrap());
    assert_eq!(admin.api("DELETE", &delete(&first["id"]), None).await.status, 404);
    assert_eq!(admin.api("DELETE", &delete(&made["id"]), None).await.status, 204);
    assert_eq!(system.browser().get(&path).await.status, 404);
    for (body, code) in [
        (json!({"email": ADMIN, "role": "viewer"}), (409, "CONFLICT")),
        (json!({"email": "x", "role": "viewer"}), (422, "INVALID_FIELD")),
        (json!({"email": ADA, "role": "owner"}), (422, "INVALID_FIELD")),
        (json!({"email": ADA}), (422, "INVALID_FIELD")),
    ] {
        let reply = admin.api("POST", "/v1/invitations", Some(&body)).await;
        assert_eq!(reply.error(), (code.0, code.1.to_owned()), "{body}");
    }
}

#[tokio::test]
async fn an_invitation_with_an_idempotency_key_is_made_once_and_its_link_is_not_kept() {
    let system = System::start().await;
    system.person(ADMIN, Role::Admin).await;
    let mut admin = system.logged_in(ADMIN).await.with_header("idempotency-key", "one");
    let (first, path) = invite(&mut admin, ADA, "viewer").await;
    let (again, _) = invite(&mut admin, ADA, "viewer").await;
    assert_eq!(first, again);
    assert_eq!(system.browser().get(&path).await.status, 200);
    let secret = path.strip_prefix("/invitations/").unwrap().to_owned();
    let kept = system.db.once(move |conn| {
        use diesel::RunQueryDsl as _;
        let query = diesel::sql_query(
            "SELECT FROM idempotency_keys WHERE position($1 IN encode(response, 'escape')) > 0",
        );
        Ok(query.bind::<diesel::sql_types::Text, _>(secret).execute(conn)?)
    });
    assert_eq!(kept.await.unwrap(), 0);
}

#[tokio::test]
async fn a_hundred_invitations_wait_and_no_more() {
    let system = System::start().await;
    system.person(ADMIN, Role::Admin).await;
    let mut admin = system.logged_in(ADMIN).await;
    let tenant = system.tenant;
    let now = system.clock.now();
    let filled = system.db.run(move |conn| {
        for number in 0..invitation::MAX_OPEN - 1 {
            let id = InvitationId::new(now);
            let new = NewInvitation {
                id,
                purpose: Purpose::Join(tenant),
                email: Some(format!("p{number}@example.com")),
                role: Role::Viewer,
                invited_by: None,
                hash: invitation::token(&vault(), id).hash(),
            };
            invitation::insert(conn, &new, now)?;
        }
        Ok(())
    });
    filled.await.unwrap();
    invite(&mut admin, "last@example.com", "viewer").await;
    let body = json!({"email": "more@example.com", "role": "viewer"});
    assert_eq!(admin.api("POST", "/v1/invitations", Some(&body)).await.error(), (409, "CONFLICT".to_owned()));
    invite(&mut admin, "p0@example.com", "admin").await;
    let page = admin.get("/v1/invitations?limit=60").await.expect(200);
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = admin.get(&format!("/v1/invitations?limit=60&cursor={cursor}")).await.expect(200);
    assert_eq!(rest["data"].as_array().unwrap().len(), 40);
}

#[tokio::test]
async fn a_link_sets_a_password_anew() {
    let system = System::start().await;
    let id = system.person(ADA, Role::Viewer).await;
    let mut before = system.logged_in(ADA).await;
    let path = link(&system, Purpose::Reset(id)).await;
    let mut browser = system.browser();
    assert_eq!(browser.get(&path).await.status, 200);
    assert_eq!(browser.post(&path, &[("password", "short")]).await.status, 422);
    assert_eq!(browser.submit(&path, &[("password", "a sentence of mine")]).await.status, 200);
    assert!(browser.session().await.is_ok());
    assert_eq!(before.session().await, Err(401), "whoever was in with the old one is out");
    assert_eq!(system.browser().get(&path).await.status, 404);
    assert_eq!(system.browser().log_in(ADA, PASSWORD).await.status, 422);
}

#[tokio::test]
async fn a_new_password_is_set_during_a_pause_and_counts_after_it() {
    let system = System::start().await;
    let id = system.person(ADA, Role::Viewer).await;
    for _ in 0..10 {
        system.browser().log_in(ADA, "wrong horse battery").await;
    }
    let path = link(&system, Purpose::Reset(id)).await;
    let mut browser = system.browser();
    browser.get(&path).await;
    let reply = browser.post(&path, &[("password", "a sentence of mine")]).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some("/login")));
    assert_eq!(browser.log_in(ADA, "a sentence of mine").await.status, 429);
    system.clock.advance(TimeDelta::minutes(15));
    assert_eq!(browser.log_in(ADA, "a sentence of mine").await.status, 200);
}
