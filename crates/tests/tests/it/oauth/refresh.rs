//! Refresh tokens: rotated, shared for a minute, ended when they come back later.

use chrono::TimeDelta;
use hookyard_domain::{
    credential::Scope,
    person::{Role, membership},
};
use hookyard_tests::http::Client;
use serde_json::Value;
use tokio::task::JoinSet;

use super::stage::{Stage, ZAPIER, refused, text, token};

fn invalid_grant() -> (u16, String) {
    (400, "invalid_grant".to_owned())
}

#[tokio::test]
async fn each_refresh_gives_a_new_pair() {
    let stage = Stage::open().await;
    let (person, app) = (stage.person(Role::Admin).await, stage.app().await);
    let mut tokens = vec![stage.tokens(&person, &app).await];
    for _ in 0..3 {
        stage.system.clock.advance(TimeDelta::hours(2));
        let last = text(tokens.last().unwrap(), "refresh_token");
        let next = stage.refresh(&app, last).await.expect(200);
        assert_eq!(stage.opens(text(&next, "access_token")).await, [200]);
        assert_eq!(next["scope"], "hooks:read hooks:write");
        tokens.push(next);
    }
    for (at, one) in tokens.iter().enumerate() {
        for other in &tokens[..at] {
            assert!(
                one["refresh_token"] != other["refresh_token"]
                    && one["access_token"] != other["access_token"]
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_zaps_refresh_at_the_same_moment_and_all_go_on() {
    let stage = Stage::with(2).await;
    let (person, app) = (stage.person(Role::Admin).await, stage.app().await);
    let tokens = stage.tokens(&person, &app).await;
    stage.system.clock.advance(TimeDelta::seconds(3_601));
    assert_eq!(stage.opens(text(&tokens, "access_token")).await, [401, 401], "lazy: on a 401");
    let shared = text(&tokens, "refresh_token").to_owned();
    let addresses: Vec<_> = stage.system.gateways.iter().map(|gateway| gateway.addr).collect();
    let all: JoinSet<Value> = (0..20)
        .map(|at| {
            let (client, app, shared) = (Client::new(addresses[at % 2]), app.clone(), shared.clone());
            async move {
                let members = [("grant_type", "refresh_token"), ("refresh_token", shared.as_str())];
                token(&client, &app, &members).await.expect(200)
            }
        })
        .collect();
    let pairs = all.join_all().await;
    assert_eq!(pairs.len(), 20);
    for pair in &pairs {
        assert_eq!(stage.opens(text(pair, "access_token")).await, [200, 200], "{pair}");
    }
    // Each can go on by itself, and after the grace nobody uses the shared one.
    stage.system.clock.advance(TimeDelta::hours(1));
    for pair in &pairs {
        stage.refresh(&app, text(pair, "refresh_token")).await.expect(200);
    }
    assert_eq!(stage.audited().await, ["grant.given"], "no family was revoked");
}

#[tokio::test]
async fn a_token_that_comes_back_after_its_grace_ends_the_family() {
    let stage = Stage::with(2).await;
    let (person, app) = (stage.person(Role::Admin).await, stage.app().await);
    let first = stage.tokens(&person, &app).await;
    let other = stage.tokens(&person, &app).await;
    let second = stage.refresh(&app, text(&first, "refresh_token")).await.expect(200);
    stage.system.clock.advance(TimeDelta::seconds(58));
    let third = stage.refresh(&app, text(&first, "refresh_token")).await.expect(200);
    assert_eq!(stage.opens(text(&third, "access_token")).await, [200, 200]);
    stage.system.clock.advance(TimeDelta::seconds(3));
    assert_eq!(refused(&stage.refresh(&app, text(&first, "refresh_token")).await), invalid_grant());
    for pair in [&first, &second, &third] {
        assert_eq!(stage.opens(text(pair, "access_token")).await, [401, 401]);
        assert_eq!(refused(&stage.refresh(&app, text(pair, "refresh_token")).await), invalid_grant());
    }
    assert_eq!(stage.opens(text(&other, "access_token")).await, [200, 200], "another authorization stays");
    assert_eq!(stage.audited().await, ["grant.given", "grant.given", "grant.reuse_detected"]);
}

#[tokio::test]
async fn a_foreign_refresh_token_is_refused_and_stays_good_for_its_client() {
    let stage = Stage::open().await;
    let (person, app) = (stage.person(Role::Admin).await, stage.app().await);
    let thief = stage.app_with(None, true, &["https://evil.example/"], &[Scope::HooksRead]).await;
    let tokens = stage.tokens(&person, &app).await;
    let refresh = text(&tokens, "refresh_token");
    assert_eq!(refused(&stage.refresh(&thief, refresh).await), invalid_grant());
    assert_eq!(refused(&stage.refresh(&app, text(&tokens, "access_token")).await), invalid_grant());
    stage.refresh(&app, refresh).await.expect(200);
}

#[tokio::test]
async fn an_unused_token_ends_after_180_days_and_one_in_use_never_does() {
    let stage = Stage::open().await;
    let (person, app) = (stage.person(Role::Admin).await, stage.app().await);
    let (idle, mut used) = (stage.tokens(&person, &app).await, stage.tokens(&person, &app).await);
    for _ in 0..3 {
        stage.system.clock.advance(TimeDelta::days(179));
        used = stage.refresh(&app, text(&used, "refresh_token")).await.expect(200);
    }
    assert_eq!(refused(&stage.refresh(&app, text(&idle, "refresh_token")).await), invalid_grant());
}

#[tokio::test]
async fn a_refresh_follows_the_persons_role() {
    let stage = Stage::open().await;
    let person = stage.person(Role::Developer).await;
    let app = stage
        .app_with(None, false, &[ZAPIER], &[Scope::HooksRead, Scope::HooksWrite, Scope::EventsRead])
        .await;
    let tokens = stage.tokens(&person, &app).await;
    assert_eq!(tokens["scope"], "hooks:read hooks:write events:read");
    let less = [
        ("grant_type", "refresh_token"),
        ("refresh_token", text(&tokens, "refresh_token")),
        ("scope", "hooks:read"),
    ];
    assert_eq!(stage.token(&app, &less).await.expect(200)["scope"], "hooks:read");
    let more = [
        ("grant_type", "refresh_token"),
        ("refresh_token", text(&tokens, "refresh_token")),
        ("scope", "admin"),
    ];
    assert_eq!(refused(&stage.token(&app, &more).await), (400, "invalid_scope".to_owned()));

    stage.change(&person, "UPDATE memberships SET role = 0 WHERE user_id = $1").await;
    let lowered = stage.refresh(&app, text(&tokens, "refresh_token")).await.expect(200);
    assert_eq!(lowered["scope"], "hooks:read events:read");
    stage.change(&person, "UPDATE memberships SET role = 2 WHERE user_id = $1").await;
    let raised = stage.refresh(&app, text(&lowered, "refresh_token")).await.expect(200);
    assert_eq!(raised["scope"], "hooks:read hooks:write events:read", "never more than was allowed");

    for (sql, back) in [
        (
            "UPDATE users SET disabled_at = now() WHERE id = $1",
            "UPDATE users SET disabled_at = NULL WHERE id = $1",
        ),
        ("DELETE FROM memberships WHERE user_id = $1", ""),
    ] {
        stage.change(&person, sql).await;
        assert_eq!(
            refused(&stage.refresh(&app, text(&raised, "refresh_token")).await),
            invalid_grant(),
            "{sql}"
        );
        if !back.is_empty() {
            stage.change(&person, back).await;
        }
    }
}

#[tokio::test]
async fn who_loses_a_role_or_the_membership_loses_it_in_live_tokens_too() {
    let stage = Stage::with(2).await;
    let (person, app) = (stage.person(Role::Admin).await, stage.app().await);
    let tokens = stage.tokens(&person, &app).await;
    let access = text(&tokens, "access_token").to_owned();
    stage.person(Role::Admin).await;
    let (tenant, user, now) = (stage.system.tenant, person.id, stage.system.clock.now());
    let set =
        stage.system.db.run(move |conn| membership::set_role(conn, tenant, user, Role::Viewer, now)).await;
    assert_eq!(set.unwrap(), (Role::Admin, true));
    hookyard_domain::credential::directory::known_everywhere().await;
    for gateway in &stage.system.gateways {
        let client = Client::new(gateway.addr).with_key(&access);
        assert_eq!(client.get("/v1/hooks").await.status, 200);
        assert_eq!(client.delete("/zapier/hook/hook_01hzy3v9k2s8d4f6g8h0j2k4m6").await.error().0, 403);
    }
    let renewed = stage.refresh(&app, text(&tokens, "refresh_token")).await.expect(200);
    assert_eq!(renewed["scope"], "hooks:read");
    let removed = stage.system.db.run(move |conn| membership::remove(conn, tenant, user, now)).await;
    assert!(removed.unwrap().1);
    hookyard_domain::credential::directory::known_everywhere().await;
    assert_eq!(stage.opens(&access).await, [401, 401]);
    assert_eq!(refused(&stage.refresh(&app, text(&tokens, "refresh_token")).await), invalid_grant());
}
