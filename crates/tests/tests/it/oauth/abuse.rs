//! What costs something and needs no credential is counted by address; and what nobody needs any more goes.

use chrono::TimeDelta;
use diesel::{QueryableByName, RunQueryDsl, sql_query, sql_types::BigInt};
use hookyard_domain::{oauth::grant, person::Role};
use hookyard_tests::system::{Options, System};

use super::stage::{Stage, post, refused, text};

async fn limited() -> Stage {
    let mut options = Options::default();
    options.gateway.gateway.unauthenticated_limit = 5;
    options.gateway.gateway.person_limit = 4;
    Stage { system: System::with(options).await }
}

#[tokio::test]
async fn guessing_is_counted_and_a_client_that_shows_its_secret_is_not_locked_out() {
    let stage = limited().await;
    let app = stage.app().await;
    let id = app.id.to_string();
    let guess = [("client_id", id.as_str()), ("client_secret", "cs_guess"), ("grant_type", "refresh_token")];
    for _ in 0..5 {
        assert_eq!(refused(&stage.post("/oauth/token", &guess).await), (400, "invalid_client".to_owned()));
    }
    for path in ["/oauth/token", "/oauth/revoke", "/oauth/introspect"] {
        let reply = post(&stage.http(), path, &guess).await;
        assert_eq!(reply.error(), (429, "RATE_LIMITED".to_owned()), "{path}");
        assert!(reply.header("retry-after").is_some());
    }
    let public = [("client_id", id.as_str()), ("grant_type", "refresh_token")];
    assert_eq!(stage.post("/oauth/token", &public).await.status, 429);
    assert_eq!(stage.ask(None, &app.query(&[])).await.status, 429, "a page");
    assert_eq!(
        refused(&stage.refresh(&app, "rt_x").await),
        (400, "invalid_grant".to_owned()),
        "Zapier goes on"
    );
    stage.system.clock.advance(TimeDelta::seconds(61));
    assert_eq!(stage.ask(None, &app.query(&[])).await.status, 303);
}

#[tokio::test]
async fn a_persons_questions_are_counted_by_the_person() {
    let stage = limited().await;
    let (app, person, other) =
        (stage.app().await, stage.person(Role::Admin).await, stage.person(Role::Admin).await);
    for _ in 0..4 {
        assert_eq!(stage.ask(Some(&person), &app.query(&[])).await.status, 200);
    }
    let reply = stage.ask(Some(&person), &app.query(&[])).await;
    assert_eq!(reply.status, 429);
    assert!(reply.header("retry-after").is_some() && reply.text().contains("<html"), "{reply:?}");
    assert_eq!(stage.ask(Some(&other), &app.query(&[])).await.status, 200);
}

#[tokio::test]
async fn what_ended_long_ago_is_forgotten_and_what_is_in_use_is_not() {
    #[derive(QueryableByName, Debug, PartialEq)]
    struct Left {
        #[diesel(sql_type = BigInt)]
        codes: i64,
        #[diesel(sql_type = BigInt)]
        tokens: i64,
        #[diesel(sql_type = BigInt)]
        grants: i64,
    }
    let stage = Stage::open().await;
    let (person, app) = (stage.person(Role::Admin).await, stage.app().await);
    let left = async || {
        let count = |conn: &mut diesel::PgConnection| {
            Ok(sql_query(
                "SELECT (SELECT count(*) FROM oauth_codes) AS codes, (SELECT count(*) FROM oauth_refresh_tokens) AS tokens, \
                    (SELECT count(*) FROM oauth_grants) AS grants",
            )
            .get_result::<Left>(conn)?)
        };
        stage.system.db.once(count).await.unwrap()
    };
    let forget = async || {
        let now = stage.system.clock.now();
        stage.system.db.run(move |conn| grant::forget_old(conn, now)).await.unwrap();
    };
    let mut used = stage.tokens(&person, &app).await;
    stage.tokens(&person, &app).await;
    stage.code(&person, &app, &[]).await;
    used = stage.refresh(&app, text(&used, "refresh_token")).await.expect(200);
    assert_eq!(left().await, Left { codes: 3, tokens: 3, grants: 3 });
    stage.system.clock.advance(TimeDelta::hours(25));
    forget().await;
    assert_eq!(left().await, Left { codes: 0, tokens: 3, grants: 3 }, "codes after a day");
    stage.system.clock.advance(TimeDelta::days(30));
    forget().await;
    assert_eq!(
        left().await,
        Left { codes: 0, tokens: 2, grants: 2 },
        "the used token, and the grant that came to nothing"
    );
    used = stage.refresh(&app, text(&used, "refresh_token")).await.expect(200);
    stage.system.clock.advance(TimeDelta::days(170));
    forget().await;
    assert_eq!(left().await, Left { codes: 0, tokens: 1, grants: 1 }, "nobody used the other for 180 days");
    stage.refresh(&app, text(&used, "refresh_token")).await.expect(200);
}
