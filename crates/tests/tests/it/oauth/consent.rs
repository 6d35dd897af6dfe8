//! The consent page: what it says, who can answer it, and when it is not needed.

use hookyard_domain::{credential::Scope, person::Role};

use super::stage::{Stage, ZAPIER, answered, csrf};

#[tokio::test]
async fn the_page_names_app_tenant_person_and_scopes_in_the_persons_language() {
    let stage = Stage::open().await;
    let app = stage.app().await;
    let english = stage.person(Role::Developer).await;
    let french = stage.person_of(stage.system.tenant, Role::Developer, "fr").await;
    for (person, language, words) in [
        (
            &english,
            "en",
            ["Zapper wants access to Test", "See webhooks", "Subscribe, change", ">Allow<", ">Deny<"],
        ),
        (
            &french,
            "fr",
            ["Zapper demande", "Voir les webhooks", "Créer, modifier", ">Autoriser<", ">Refuser<"],
        ),
    ] {
        let page = stage.ask(Some(person), &app.query(&[])).await;
        let text = page.text();
        assert!(text.contains(&format!("<html lang=\"{language}\"")), "{text}");
        for word in words.iter().chain(&[
            "Test",
            person.email.as_str(),
            "hooks:read",
            "hooks:write",
            "https://zapier.com",
        ]) {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
    let other = stage.ask(Some(&english), &app.query(&[("lang", "fr")])).await;
    assert!(other.text().contains("<html lang=\"fr\""), "{}", other.text());
    assert!(other.text().contains("lang=en\""), "back to English, with the question: {}", other.text());
    // Errors as well.
    let request = stage.http().request("GET", "/oauth/authorize?client_id=x");
    let lost = request.header("accept-language", "fr-CH, en;q=0.5").send().await;
    assert!(lost.status == 400 && lost.text().contains("<html lang=\"fr\""), "{lost:?}");
}

#[tokio::test]
async fn a_viewer_is_told_what_is_left_and_gives_no_more() {
    let stage = Stage::open().await;
    let app = stage.app().await;
    let viewer = stage.person(Role::Viewer).await;
    let page = stage.ask(Some(&viewer), &app.query(&[("scope", "hooks:read hooks:write")])).await.text();
    assert!(page.contains("hooks:read") && page.contains("more than your role can give"), "{page}");
    assert!(!page.contains("<code>hooks:write"), "{page}");
    let tokens = stage.tokens(&viewer, &app).await;
    assert_eq!(tokens["scope"], "hooks:read");
    let client = stage.http().with_key(tokens["access_token"].as_str().unwrap());
    assert_eq!(client.get("/v1/hooks").await.status, 200);
    let body = r#"{"url":"http://127.0.0.1/x","event_type":"order.created"}"#;
    assert_eq!(client.post("/zapier/hook", body).await.error().0, 403);
}

#[tokio::test]
async fn no_other_page_can_frame_it_or_press_its_buttons() {
    let stage = Stage::open().await;
    let app = stage.app().await;
    let (person, other) = (stage.person(Role::Admin).await, stage.person(Role::Admin).await);
    let query = app.query(&[]);
    let page = stage.ask(Some(&person), &query).await;
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(policy.contains("form-action 'self' https://zapier.com;"), "{policy}");
    assert_eq!(page.header("x-frame-options"), Some("DENY"));
    assert_eq!(page.header("cache-control"), Some("no-store"));

    let good = csrf(&page);
    let foreign = csrf(&stage.ask(Some(&other), &query).await);
    for bad in ["", "x", &foreign, &good[..good.len() - 1]] {
        let reply = stage.send_form(&person, &query, bad, "allow").await;
        assert_eq!((reply.status, reply.header("location")), (403, None), "{bad}: {reply:?}");
    }
    for (name, value) in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")] {
        let reply = stage
            .http()
            .request("POST", &format!("/oauth/authorize?{query}"))
            .header("cookie", format!("hookyard-session={}", person.session))
            .header(name, value)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("csrf={good}&decision=allow"))
            .send()
            .await;
        assert_eq!((reply.status, reply.header("location")), (403, None), "{name}");
    }
    let reply = stage.send_form(&person, &query, &good, "allow").await;
    assert!(answered(&reply, "code").is_some(), "{reply:?}");
    assert_eq!(stage.audited().await, ["grant.given"], "only this one counted");
}

#[tokio::test]
async fn what_was_allowed_is_not_asked_again_unless_it_is_more() {
    let stage = Stage::open().await;
    let app = stage.app().await;
    let (person, other) = (stage.person(Role::Admin).await, stage.person(Role::Admin).await);
    let status = async |person, more: &[(&str, &str)]| stage.ask(Some(person), &app.query(more)).await.status;
    let reply = stage.press(&person, &app.query(&[("scope", "hooks:read")]), "allow").await;
    assert!(answered(&reply, "code").is_some());
    assert_eq!(status(&person, &[("scope", "hooks:read")]).await, 303, "remembered");
    assert_eq!(status(&person, &[("scope", "hooks:read"), ("prompt", "none")]).await, 303);
    assert_eq!(status(&person, &[("scope", "hooks:read"), ("prompt", "consent")]).await, 200);
    assert_eq!(status(&person, &[("scope", "hooks:read hooks:write")]).await, 200, "more");
    assert_eq!(status(&person, &[]).await, 200, "all");
    assert_eq!(status(&other, &[("scope", "hooks:read")]).await, 200, "somebody else");
    // A refusal is no permission, and is not remembered.
    let reply = stage.press(&other, &app.query(&[("state", "s")]), "deny").await;
    assert_eq!(answered(&reply, "error").as_deref(), Some("access_denied"));
    assert_eq!(status(&other, &[]).await, 200);
    let reply = stage.press(&other, &app.query(&[]), "whatever").await;
    assert_eq!(answered(&reply, "error").as_deref(), Some("access_denied"), "only `allow` allows");
}

#[tokio::test]
async fn an_app_of_a_tenant_is_for_its_people_only() {
    let stage = Stage::open().await;
    let tenant = stage.system.tenant("Other").await;
    let app = stage.app_with(Some(tenant), false, &[ZAPIER], &[Scope::HooksRead]).await;
    let (member, stranger) =
        (stage.person_of(tenant, Role::Viewer, "en").await, stage.person(Role::Admin).await);
    assert_eq!(stage.ask(Some(&member), &app.query(&[])).await.status, 200);
    let reply = stage.ask(Some(&stranger), &app.query(&[])).await;
    assert_eq!(answered(&reply, "error").as_deref(), Some("access_denied"));
}
