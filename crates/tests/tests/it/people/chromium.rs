//! The pages in a real browser, which sends `Origin` and `Sec-Fetch-Site`, obeys the policy of the pages and keeps cookies as
//! browsers do.

use hookyard_domain::{
    id::InvitationId,
    person::{
        Role,
        invitation::{self, NewInvitation, Purpose},
    },
};
use hookyard_tests::{
    secrets::vault,
    system::System,
    tools::{fixture, node, run},
};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_person_gets_in_and_out_with_chromium_in_both_languages() {
    let system = System::start().await;
    let now = system.clock.now();
    let id = InvitationId::new(now);
    let token = invitation::token(&vault(), id);
    let new = NewInvitation {
        id,
        purpose: Purpose::SetUp,
        email: None,
        role: Role::Admin,
        invited_by: None,
        hash: token.hash(),
    };
    system.db.run(move |conn| invitation::insert(conn, &new, now)).await.unwrap();
    let told = json!({
        "origin": format!("http://{}", system.gateways[0].addr),
        "setUp": format!("/setup/{}", token.expose()),
    });
    let mut command = node("playwright-core");
    command.arg(fixture("browser/people.js"));
    let seen = tokio::task::spawn_blocking(move || run(command, &told.to_string())).await.unwrap();
    let seen: Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(seen["problems"], json!([]), "{seen}");
    for (what, expected) in [
        ("focused", "tenant"),
        ("account", "You are logged in"),
        ("tenant", "Acme <i>& Co</i>"),
        ("loggedOut", "Log in"),
        ("logInFr", "Connexion"),
        ("wrongFr", "L’adresse e-mail ou le mot de passe est incorrect."),
        ("accountFr", "Vous êtes connecté"),
    ] {
        assert_eq!(seen[what], expected, "{what}: {seen}");
    }
    assert!(seen["clientId"].as_str().unwrap().parse::<uuid::Uuid>().is_ok(), "{seen}");
    assert_eq!(seen["scriptSeesCookie"], false);
    assert_eq!((&seen["cookie"]["httpOnly"], &seen["cookie"]["sameSite"]), (&json!(true), &json!("Lax")));
}
