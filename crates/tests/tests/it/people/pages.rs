//! What is true of every page.

use hookyard_domain::person::Role;
use hookyard_tests::{browser::Browser, system::System};

const EMAIL: &str = "ada@example.com";

#[tokio::test]
async fn pages_speak_the_language_that_is_asked_for() {
    let system = System::start().await;
    system.person(EMAIL, Role::Viewer).await;
    let lang = |browser: &Browser| browser.page.split("<html lang=\"").nth(1).unwrap()[..2].to_owned();
    let mut browser = system.browser().with_header("accept-language", "fr-CA, en;q=0.5");
    browser.get("/login").await;
    assert!(lang(&browser) == "fr" && browser.page.contains("Connexion"), "{}", browser.page);
    browser.get("/login?lang=en").await;
    assert!(lang(&browser) == "en" && browser.page.contains("Log in"), "{}", browser.page);
    browser.get("/login").await;
    assert_eq!(lang(&browser), "en", "the wish is kept");
    browser.get("/login?lang=de").await;
    assert_eq!(lang(&browser), "en");
    assert_eq!(browser.get("/invitations/inv_nothing?lang=fr").await.status, 404);
    assert!(browser.page.contains("Ce lien ne fonctionne pas"), "{}", browser.page);

    let mut browser = system.logged_in(EMAIL).await.with_header("accept-language", "fr");
    browser.get("/account").await;
    assert_eq!(lang(&browser), "en", "the person's own language counts more than the browser's");
    browser.submit("/account/language", &[("locale", "fr")]).await;
    assert!(lang(&browser) == "fr" && browser.page.contains("Vous êtes connecté"), "{}", browser.page);
}

#[tokio::test]
async fn pages_are_kept_apart_from_other_sites() {
    let system = System::start().await;
    system.person(EMAIL, Role::Viewer).await;
    let mut browser = system.logged_in(EMAIL).await;
    for path in ["/login", "/account", "/account/totp", "/setup/x", "/invitations/x"] {
        let reply = browser.get(path).await;
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{path}");
        }
        if reply.status != 303 {
            let policy = reply.header("content-security-policy").unwrap();
            for part in
                ["default-src 'none'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"]
            {
                assert!(policy.contains(part), "{path}: {policy}");
            }
            assert!(
                !browser.page.contains("<script>") && !browser.page.contains(" style="),
                "{}",
                browser.page
            );
        }
    }
    for (path, kind) in
        [("/login/assets/portal.css", "text/css"), ("/login/assets/portal.js", "text/javascript")]
    {
        let reply = browser.get(path).await;
        assert!(reply.status == 200 && reply.header("content-type").unwrap().starts_with(kind), "{reply:?}");
    }
}
