//! What admins do with the people of their tenant.

use diesel::{RunQueryDsl as _, sql_types};
use hookyard_domain::{
    Error,
    credential::{Kind, Scope, Scopes, Token, store::NewCredential},
    id::{GrantId, TenantId, UserId},
    person::{Role, membership, user},
};
use hookyard_tests::{
    http::Client,
    system::{Options, System},
};
use serde_json::json;

const ADMIN: &str = "admin@example.com";
const ADA: &str = "ada@example.com";

/// An access token of an OAuth client that this person let in.
async fn access_token(system: &System, tenant: TenantId, user: UserId) -> String {
    let now = system.clock.now();
    let token = Token::with_prefix("at_", rand::random());
    let grant = GrantId::new(now);
    let scopes: Scopes = [Scope::EventsRead, Scope::EventsWrite].into_iter().collect();
    let new = NewCredential {
        grant: Some(grant),
        ..NewCredential::new(Kind::OAuthAccess, &token, tenant, "Zapier", scopes, now)
    };
    let made = system.db.run(move |conn| {
        let client = uuid::Uuid::new_v4();
        diesel::sql_query(
            "INSERT INTO oauth_clients (id, name, redirect_uris, scopes, created_at) VALUES ($1, 'Zapier', '{}', '{}', now())",
        )
        .bind::<sql_types::Uuid, _>(client)
        .execute(conn)?;
        diesel::sql_query(
            "INSERT INTO oauth_grants (id, client_id, tenant_id, user_id, scopes, created_at) \
             VALUES ($1, $2, $3, $4, '{events:read,events:write}', now())",
        )
        .bind::<sql_types::Uuid, _>(grant)
        .bind::<sql_types::Uuid, _>(client)
        .bind::<sql_types::Uuid, _>(tenant)
        .bind::<sql_types::Uuid, _>(user)
        .execute(conn)?;
        hookyard_domain::credential::store::insert(conn, &new)
    });
    made.await.unwrap();
    token.expose().to_owned()
}

#[tokio::test]
async fn another_role_counts_with_the_next_request_on_every_gateway() {
    let system = System::with(Options { gateways: 2, ..Options::default() }).await;
    system.person(ADMIN, Role::Admin).await;
    let id = system.person(ADA, Role::Developer).await;
    let mut admin = system.logged_in(ADMIN).await;
    let mut ada = system.logged_in(ADA).await.at(system.gateways[1].addr);
    let token = access_token(&system, system.tenant, id).await;
    let program = Client::new(system.gateways[1].addr).with_key(&token);
    let event = json!({"event_type": "a.b", "payload": {}});
    assert_eq!(program.get("/v1/events").await.status, 200);
    assert_eq!(program.post_json("/events", &event).await.status, 202);
    assert_eq!(ada.api("POST", "/v1/event-types", Some(&json!({"name": "a.b"}))).await.status, 201);
    assert_eq!(ada.get("/v1/users").await.error(), (403, "INSUFFICIENT_PERMISSIONS".to_owned()));

    let path = format!("/v1/users/{id}");
    let lowered = admin.api("PATCH", &path, Some(&json!({"role": "viewer"}))).await.expect(200);
    assert_eq!(lowered["role"], "viewer");
    let refused = ada.api("POST", "/v1/event-types", Some(&json!({"name": "a.c"}))).await;
    assert_eq!(refused.error(), (403, "INSUFFICIENT_PERMISSIONS".to_owned()));
    // What a developer allowed is no viewer's to allow: the app keeps what a viewer may.
    let refused = program.post_json("/events", &event).await;
    assert_eq!(refused.error(), (403, "INSUFFICIENT_PERMISSIONS".to_owned()));
    assert_eq!(program.get("/v1/events").await.status, 200);

    admin.api("PATCH", &path, Some(&json!({"role": "admin"}))).await.expect(200);
    assert_eq!(ada.get("/v1/users").await.expect(200)["data"].as_array().unwrap().len(), 2);
    for (body, status) in [(json!({"role": "owner"}), 422), (json!({}), 422)] {
        assert_eq!(admin.api("PATCH", &path, Some(&body)).await.status, status, "{body}");
    }
    let audited = system.audited(Some(system.tenant)).await;
    assert_eq!(audited.iter().filter(|action| *action == "user.role_changed").count(), 2);
}

#[tokio::test]
async fn whoever_is_removed_is_out_there_and_nowhere_else() {
    let system = System::with(Options { gateways: 2, ..Options::default() }).await;
    let other = system.tenant("Other").await;
    system.person(ADMIN, Role::Admin).await;
    let id = system.person(ADA, Role::Viewer).await;
    let now = system.clock.now();
    system.db.run(move |conn| membership::insert(conn, other, id, Role::Viewer, now)).await.unwrap();
    let mut admin = system.logged_in(ADMIN).await;
    let mut here = system.logged_in(ADA).await.at(system.gateways[1].addr);
    let mut there = system.logged_in(ADA).await;
    there.api("PATCH", "/v1/session", Some(&json!({"tenant_id": other.to_string()}))).await.expect(200);
    let (own, others) =
        (access_token(&system, system.tenant, id).await, access_token(&system, other, id).await);
    let program = |token: &str| Client::new(system.gateways[1].addr).with_key(token);
    assert_eq!(program(&own).get("/v1/events").await.status, 200);

    let path = format!("/v1/users/{id}");
    assert_eq!(admin.api("DELETE", &path, None).await.status, 204);
    assert_eq!(here.session().await, Err(401));
    assert_eq!(program(&own).get("/v1/events").await.status, 401);
    assert!(there.session().await.is_ok(), "another tenant");
    assert_eq!(program(&others).get("/v1/events").await.status, 200);
    assert_eq!(admin.api("DELETE", &path, None).await.error(), (404, "NOT_FOUND".to_owned()));
    assert!(system.audited(Some(system.tenant)).await.contains(&"user.removed".to_owned()));
}

#[tokio::test]
async fn the_last_admin_stays() {
    let system = System::start().await;
    let id = system.person(ADMIN, Role::Admin).await;
    let ada = system.person(ADA, Role::Developer).await;
    let mut admin = system.logged_in(ADMIN).await;
    let path = format!("/v1/users/{id}");
    let conflict = (409, "CONFLICT".to_owned());
    assert_eq!(admin.api("PATCH", &path, Some(&json!({"role": "developer"}))).await.error(), conflict);
    assert_eq!(admin.api("DELETE", &path, None).await.error(), conflict);
    let now = system.clock.now();
    let disabled = system.db.run(move |conn| user::disable(conn, id, now)).await;
    assert!(matches!(disabled, Err(Error::Conflict { .. })), "{disabled:?}");

    // One who is disabled is no admin to count on.
    admin.api("PATCH", &format!("/v1/users/{ada}"), Some(&json!({"role": "admin"}))).await.expect(200);
    system.db.run(move |conn| user::disable(conn, ada, now)).await.unwrap();
    assert_eq!(admin.api("DELETE", &path, None).await.error(), conflict);
    system.db.run(move |conn| user::enable(conn, ada)).await.unwrap();
    admin.api("PATCH", &path, Some(&json!({"role": "viewer"}))).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_admins_who_lower_each_other_at_once_leave_one() {
    let system = System::with(Options { gateways: 2, ..Options::default() }).await;
    let ids = [system.person(ADMIN, Role::Admin).await, system.person(ADA, Role::Admin).await];
    let mut one = system.logged_in(ADMIN).await;
    let mut two = system.logged_in(ADA).await.at(system.gateways[1].addr);
    let body = json!({"role": "viewer"});
    let paths = ids.map(|id| format!("/v1/users/{id}"));
    let (first, second) =
        tokio::join!(one.api("PATCH", &paths[1], Some(&body)), two.api("PATCH", &paths[0], Some(&body)));
    let statuses = [first.status, second.status];
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
}

#[tokio::test]
async fn another_tenants_people_are_not_there() {
    let system = System::start().await;
    let other = system.tenant("Other").await;
    system.person(ADMIN, Role::Admin).await;
    let stranger = system.person_of(other, ADA, Role::Viewer).await;
    let mut admin = system.logged_in(ADMIN).await;
    let path = format!("/v1/users/{stranger}");
    let patch = admin.api("PATCH", &path, Some(&json!({"role": "admin"}))).await;
    assert_eq!(patch.error(), (404, "NOT_FOUND".to_owned()));
    assert_eq!(admin.api("DELETE", &path, None).await.error(), (404, "NOT_FOUND".to_owned()));
    assert_eq!(admin.api("DELETE", "/v1/users/x", None).await.error(), (400, "INVALID_ID".to_owned()));
    // A key is no person.
    let key = system.client().await;
    for route in ["/v1/users", "/v1/invitations", "/v1/session", "/v1/sessions"] {
        assert_eq!(key.get(route).await.error(), (403, "INSUFFICIENT_PERMISSIONS".to_owned()), "{route}");
    }
}
