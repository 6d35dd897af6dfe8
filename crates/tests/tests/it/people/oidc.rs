//! Logging in with an identity provider that is not ours: the certified `oidc-provider` of npm, in a process of its own.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Stdio},
};

use chrono::TimeDelta;
use diesel::{RunQueryDsl as _, sql_query};
use hookyard_chassis::settings::Secret;
use hookyard_domain::{
    db::Conn,
    person::{Role, user},
};
use hookyard_tests::{
    browser::Browser,
    http::{Client, Reply},
    system::{Options, System},
    tools,
};
use serde_json::{Value, json};

const ADA: &str = "ada@example.com";
const ADMIN: &str = "admin@example.com";

/// The provider.
struct Provider {
    process: Child,
    addr: SocketAddr,
}

impl Provider {
    fn start() -> Self {
        let mut command = tools::node("oidc-provider");
        command.arg(tools::fixture("oidc-provider.cjs"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let mut port = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let addr = SocketAddr::from(([127, 0, 0, 1], port.trim().parse().unwrap()));
        Self { process, addr }
    }

    /// Settings of gateways whose people may log in with it.
    fn options(&self) -> Options {
        let mut options = Options::default();
        options.gateway.oidc.issuer = Some(format!("http://{}", self.addr));
        options.gateway.oidc.client_id = Some("hookyard".to_owned());
        options.gateway.oidc.client_secret = Some(Secret::new("hush hush"));
        options.gateway.oidc.display_name = "Example ID".to_owned();
        options
    }

    /// A system whose people may log in with it, under these settings.
    async fn system_with(&self, options: Options) -> System {
        let system = System::with(options).await;
        let back = format!("http://{}/login/oidc/callback", system.gateways[0].addr);
        self.tell(json!({ "redirect_uri": back })).await;
        system
    }

    async fn system(&self) -> System {
        self.system_with(self.options()).await
    }

    async fn tell(&self, what: Value) {
        assert_eq!(Client::new(self.addr).post_json("/control", &what).await.status, 204);
    }

    /// Who sits at the keyboard.
    async fn person(&self, subject: &str, email: &str, verified: bool) {
        let account = json!({"sub": subject, "email": email, "email_verified": verified, "name": "Ada L."});
        self.tell(json!({ "account": account })).await;
    }

    async fn fault(&self, fault: Option<&str>) {
        self.tell(json!({ "fault": fault })).await;
    }

    /// From its entrance back to the gateway, in a browser that was never here: the path of the callback.
    async fn pass(&self, entrance: &str) -> String {
        let mut browser = Browser::new(self.addr);
        let mut to = entrance.to_owned();
        for _ in 0..8 {
            let reply = browser.get(path(&to)).await;
            to = reply.header("location").unwrap_or_else(|| panic!("{to}: {}", reply.text())).to_owned();
            if to.contains("/login/oidc/callback") {
                return path(&to).to_owned();
            }
        }
        panic!("in circles");
    }

    /// Logs in from this page of the gateway; the answer to the callback.
    async fn log_in(&self, browser: &mut Browser, from: &str) -> Reply {
        let entrance = entrance(browser, from).await;
        let callback = self.pass(&entrance).await;
        browser.get(&callback).await
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _status = self.process.wait();
    }
}

/// What stands behind the host.
fn path(url: &str) -> &str {
    match url.split_once("://") {
        Some((_, rest)) => &rest[rest.find('/').unwrap()..],
        None => url,
    }
}

/// Where the gateway sends a browser to.
async fn entrance(browser: &mut Browser, from: &str) -> String {
    let reply = browser.get(from).await;
    assert_eq!(reply.status, 303, "{}", reply.text());
    reply.header("location").unwrap().to_owned()
}

/// Asserts that nobody was let in, with this status and text, and a way back.
#[track_caller]
fn refused(browser: &Browser, reply: &Reply, status: u16, text: &str) {
    assert_eq!(reply.status, status, "{}", browser.page);
    assert!(browser.page.contains(text) && browser.page.contains("href=\"/login\""), "{}", browser.page);
    assert!(!browser.cookies.contains_key("hookyard-session"), "{:?}", browser.cookies);
}

#[tokio::test]
async fn a_person_is_known_by_the_verified_address_and_from_then_on_by_the_subject() {
    let provider = Provider::start();
    let system = provider.system().await;
    let id = system.person(ADA, Role::Developer).await;
    let mut browser = system.browser();
    browser.get("/login?return_to=%2Faccount%2Ftotp").await;
    assert!(browser.page.contains("Log in with Example ID"), "{}", browser.page);
    assert!(browser.page.contains("href=\"/login/oidc?return_to=%2Faccount%2Ftotp\""), "{}", browser.page);
    browser.get("/login?lang=fr").await;
    assert!(browser.page.contains("Se connecter avec Example ID"), "{}", browser.page);

    provider.person("subject-1", "Ada@Example.com", false).await;
    let mut other = system.browser();
    let reply = provider.log_in(&mut other, "/login/oidc").await;
    refused(&other, &reply, 403, "has not verified your e-mail address");

    provider.person("subject-1", "Ada@Example.com", true).await;
    let reply = provider.log_in(&mut browser, "/login/oidc?return_to=%2Faccount%2Ftotp").await;
    assert_eq!((reply.status, reply.header("location")), (303, Some("/account/totp")), "{}", reply.text());
    let session = browser.session().await.unwrap();
    assert_eq!(session["user"]["email"], ADA);
    assert!(!browser.cookies.contains_key("hookyard-oidc"), "{:?}", browser.cookies);
    let audited = system.audited(Some(system.tenant)).await;
    assert_eq!(audited, ["user.identity_linked", "session.logged_in"]);

    // The address at the provider may change, and need not be verified any more.
    provider.person("subject-1", "new@example.com", false).await;
    let mut again = system.browser();
    assert_eq!(provider.log_in(&mut again, "/login/oidc").await.status, 303);
    assert_eq!(again.session().await.unwrap()["user"]["id"], id.to_string());
    let audited = system.audited(Some(system.tenant)).await;
    assert_eq!(audited[2..], ["session.logged_in"]);

    // Somebody else who was given the address is not the person.
    provider.person("subject-2", ADA, true).await;
    let mut heir = system.browser();
    let reply = provider.log_in(&mut heir, "/login/oidc").await;
    refused(&heir, &reply, 403, "There is no account for you");

    // Nor does a disabled person get in.
    system.person(ADMIN, Role::Admin).await;
    let now = system.clock.now();
    system.db.run(move |conn| user::disable(conn, id, now)).await.unwrap();
    provider.person("subject-1", ADA, true).await;
    let mut disabled = system.browser();
    let reply = provider.log_in(&mut disabled, "/login/oidc").await;
    refused(&disabled, &reply, 403, "There is no account for you");
}

#[tokio::test]
async fn a_stranger_gets_in_by_an_invitation_to_the_same_address_only() {
    let provider = Provider::start();
    let system = provider.system().await;
    system.person(ADMIN, Role::Admin).await;
    let mut admin = system.logged_in(ADMIN).await;
    provider.person("subject-1", ADA, true).await;
    let mut stranger = system.browser();
    let reply = provider.log_in(&mut stranger, "/login/oidc").await;
    refused(&stranger, &reply, 403, "There is no account for you");

    let body = json!({"email": ADA, "role": "developer"});
    let made = admin.api("POST", "/v1/invitations", Some(&body)).await.expect(201);
    let link = path(made["invite_url"].as_str().unwrap()).to_owned();
    let from = format!("/login/oidc?return_to={link}");
    let mut ada = system.browser();
    ada.get(&link).await;
    assert!(ada.page.contains(&format!("href=\"{from}\"")), "{}", ada.page);

    provider.person("subject-2", "eve@example.com", true).await;
    let mut eve = system.browser();
    let reply = provider.log_in(&mut eve, &from).await;
    refused(&eve, &reply, 403, "for another e-mail address");
    provider.person("subject-1", ADA, false).await;
    let reply = provider.log_in(&mut ada, &from).await;
    refused(&ada, &reply, 403, "has not verified");

    provider
        .tell(json!({"account": {"sub": "subject-1", "email": ADA, "email_verified": true, "name": ""}}))
        .await;
    let reply = provider.log_in(&mut ada, &from).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some("/account")), "{}", reply.text());
    let session = ada.session().await.unwrap();
    assert_eq!((&session["user"]["email"], &session["role"]), (&json!(ADA), &json!("developer")));
    assert_eq!(session["user"]["name"], "ada", "no name: what stands before the @");
    let audited = system.audited(Some(system.tenant)).await;
    let expected = ["user.created", "invitation.accepted", "user.identity_linked", "session.logged_in"];
    assert_eq!(audited[audited.len() - 4..], expected);
    assert_eq!(system.browser().get(&link).await.status, 404, "used");

    // Somebody who has an account joins another tenant at once.
    let other = system.tenant("Other").await;
    system.person_of(other, "boss@example.com", Role::Admin).await;
    let mut boss = system.logged_in("boss@example.com").await;
    let body = json!({"email": ADA, "role": "viewer"});
    let made = boss.api("POST", "/v1/invitations", Some(&body)).await.expect(201);
    let link = path(made["invite_url"].as_str().unwrap());
    let mut ada = system.browser();
    assert_eq!(provider.log_in(&mut ada, &format!("/login/oidc?return_to={link}")).await.status, 303);
    assert_eq!(ada.session().await.unwrap()["tenant"]["name"], "Other");
}

#[tokio::test]
async fn a_callback_counts_once_in_the_browser_that_began_within_ten_minutes() {
    let provider = Provider::start();
    let system = provider.system().await;
    system.person(ADA, Role::Developer).await;
    provider.person("subject-1", ADA, true).await;
    let late = "That took too long";

    // Another browser, with its own log-in under way or without one.
    let mut browser = system.browser();
    let callback = provider.pass(&entrance(&mut browser, "/login/oidc").await).await;
    let mut other = system.browser();
    let reply = other.get(&callback).await;
    refused(&other, &reply, 400, late);
    entrance(&mut other, "/login/oidc").await;
    let reply = other.get(&callback).await;
    refused(&other, &reply, 400, late);
    let mut none = system.browser();
    let reply = none.get("/login/oidc/callback").await;
    refused(&none, &reply, 400, late);

    // In its own it counts all the same, once: not even with the cookie put back.
    let mut twin = browser.clone();
    assert_eq!(browser.get(&callback).await.status, 303);
    let reply = twin.get(&callback).await;
    refused(&twin, &reply, 400, late);

    for (takes, lets_in) in
        [(TimeDelta::minutes(10) - TimeDelta::seconds(5), true), (TimeDelta::minutes(10), false)]
    {
        let mut browser = system.browser();
        let callback = provider.pass(&entrance(&mut browser, "/login/oidc").await).await;
        system.clock.advance(takes);
        let reply = browser.get(&callback).await;
        if lets_in {
            assert_eq!(reply.status, 303, "{}", browser.page);
        } else {
            refused(&browser, &reply, 400, late);
        }
    }

    // Whatever is wanted afterwards is a path of ours.
    for wanted in ["https%3A%2F%2Fevil.example", "%2F%2Fevil.example", "%2F%5Cevil.example"] {
        let mut browser = system.browser();
        let reply = provider.log_in(&mut browser, &format!("/login/oidc?return_to={wanted}")).await;
        assert_eq!((reply.status, reply.header("location")), (303, Some("/account")), "{wanted}");
    }
}

#[tokio::test]
async fn what_the_provider_says_is_verified() {
    let provider = Provider::start();
    let system = provider.system().await;
    system.person(ADA, Role::Developer).await;
    provider.person("subject-1", ADA, true).await;
    let failed = "cannot be used at the moment";

    // Keys that did not sign the token; they are known for five minutes.
    provider.fault(Some("forged")).await;
    let mut browser = system.browser();
    let reply = provider.log_in(&mut browser, "/login/oidc").await;
    refused(&browser, &reply, 502, failed);
    provider.fault(None).await;
    system.clock.advance(TimeDelta::minutes(5));

    let mut browser = system.browser();
    let callback = provider.pass(&entrance(&mut browser, "/login/oidc").await).await;
    let tamper = |conn: &mut Conn| Ok(sql_query("UPDATE oidc_logins SET nonce = 'another'").execute(conn)?);
    assert_eq!(system.db.once(tamper).await.unwrap(), 1, "the one before was taken");
    let reply = browser.get(&callback).await;
    refused(&browser, &reply, 502, failed);

    let mut browser = system.browser();
    let callback = provider.pass(&entrance(&mut browser, "/login/oidc").await).await;
    let elsewhere = callback.replace("iss=http", "iss=https");
    assert_ne!(elsewhere, callback, "the provider names itself (RFC 9207)");
    let reply = browser.get(&elsewhere).await;
    refused(&browser, &reply, 502, failed);

    for fault in ["broken", "malformed"] {
        let mut browser = system.browser();
        provider.fault(Some(fault)).await;
        let reply = provider.log_in(&mut browser, "/login/oidc").await;
        refused(&browser, &reply, 502, failed);
    }
    provider.fault(Some("denied")).await;
    let mut browser = system.browser();
    browser.get("/login?lang=fr").await;
    let reply = provider.log_in(&mut browser, "/login/oidc").await;
    refused(&browser, &reply, 403, "ne vous a pas laissé entrer");
    provider.fault(None).await;
    // The provider's ID tokens end after an hour.
    system.clock.advance(TimeDelta::hours(2));
    let mut browser = system.browser();
    let reply = provider.log_in(&mut browser, "/login/oidc").await;
    refused(&browser, &reply, 502, failed);
    assert!(system.audited(Some(system.tenant)).await.is_empty());
}

#[tokio::test]
async fn only_allowed_domains_get_in_and_claims_may_stand_in_the_id_token() {
    let provider = Provider::start();
    let mut options = provider.options();
    options.gateway.oidc.allowed_email_domains = vec!["Example.com".to_owned()];
    let system = provider.system_with(options).await;
    let back = format!("http://{}/login/oidc/callback", system.gateways[0].addr);
    provider.tell(json!({ "redirect_uri": back, "in_id_token": true })).await;
    system.person(ADA, Role::Developer).await;
    system.person("ada@example.org", Role::Developer).await;
    provider.person("subject-1", "ada@example.org", true).await;
    let mut browser = system.browser();
    let reply = provider.log_in(&mut browser, "/login/oidc").await;
    refused(&browser, &reply, 403, "of your domain are not let in");
    provider.person("subject-2", ADA, true).await;
    assert_eq!(provider.log_in(&mut browser, "/login/oidc").await.status, 303);
    assert_eq!(browser.session().await.unwrap()["user"]["email"], ADA);
}

#[tokio::test]
async fn a_provider_that_is_not_there_or_not_allowed_is_told_as_such() {
    let system = System::start().await;
    let mut browser = system.browser();
    for path in ["/login/oidc", "/login/oidc/callback"] {
        assert_eq!(browser.get(path).await.status, 404, "there is no provider");
    }
    browser.get("/login").await;
    assert!(!browser.page.contains("/login/oidc"), "{}", browser.page);

    let provider = Provider::start();
    let mut options = provider.options();
    options.egress = hookyard_egress::Settings::default();
    let guarded = provider.system_with(options).await;
    let mut browser = guarded.browser();
    let reply = browser.get("/login/oidc").await;
    refused(&browser, &reply, 502, "cannot be used at the moment");

    let options = provider.options();
    drop(provider);
    let system = System::with(options).await;
    let mut browser = system.browser();
    let reply = browser.get("/login/oidc").await;
    refused(&browser, &reply, 502, "cannot be used at the moment");
}
