//! Where the tests of OAuth take place: a system, people with browsers that are logged in, and apps.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use diesel::{
    RunQueryDsl, sql_query,
    sql_types::{Binary, SmallInt, Text, Timestamptz, Uuid},
};
use hookyard_domain::{
    audit::Actor,
    credential::{Scope, Token},
    id::{ClientId, SessionId, TenantId, UserId},
    oauth::client::{self, NewClient},
    person::Role,
};
use hookyard_tests::{
    http::{Client, Reply},
    system::{Options, System},
};
use serde_json::Value;

/// Of RFC 7636, appendix B.
pub(super) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(super) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// Where Zapier takes codes.
pub(super) const ZAPIER: &str = "https://zapier.com/dashboard/auth/oauth/return/App1CLIAPI/";

pub(super) struct Stage {
    pub(super) system: System,
}

/// Somebody who is logged in with a browser.
#[derive(Clone, Debug)]
pub(super) struct Person {
    pub(super) id: UserId,
    pub(super) email: String,
    pub(super) session: String,
    cookies: String,
}

/// A client as its maker knows it.
#[derive(Clone, Debug)]
pub(super) struct App {
    pub(super) id: ClientId,
    pub(super) secret: Option<String>,
    pub(super) redirect: String,
}

impl Stage {
    pub(super) async fn open() -> Self {
        Self::with(1).await
    }

    /// A stage with so many gateways, without limits.
    pub(super) async fn with(gateways: usize) -> Self {
        let mut options = Options { gateways, ..Options::default() };
        options.gateway.gateway.unauthenticated_limit = 0;
        options.gateway.gateway.person_limit = 0;
        options.gateway.gateway.rate_limit = 0;
        Self { system: System::with(options).await }
    }

    pub(super) fn http(&self) -> Client {
        self.system.anonymous()
    }

    /// Somebody of the first tenant.
    pub(super) async fn person(&self, role: Role) -> Person {
        self.person_of(self.system.tenant, role, "en").await
    }

    pub(super) async fn person_of(&self, tenant: TenantId, role: Role, locale: &'static str) -> Person {
        let now = self.system.clock.now();
        let (id, token) = (UserId::new(now), Token::with_prefix("", rand::random()));
        let email = format!("{}@people.example", id.uuid().simple());
        let (stored, hash) = (email.clone(), token.hash());
        self.system
            .db
            .run(move |conn| {
                sql_query("INSERT INTO users (id, email, name, locale, created_at) VALUES ($1, $2, 'Ada', $3, $4)")
                    .bind::<Uuid, _>(id)
                    .bind::<Text, _>(stored)
                    .bind::<Text, _>(locale)
                    .bind::<Timestamptz, _>(now)
                    .execute(conn)?;
                sql_query("INSERT INTO memberships (tenant_id, user_id, role, created_at) VALUES ($1, $2, $3, $4)")
                    .bind::<Uuid, _>(tenant)
                    .bind::<Uuid, _>(id)
                    .bind::<SmallInt, _>(role.code())
                    .bind::<Timestamptz, _>(now)
                    .execute(conn)?;
                sql_query(
                    "INSERT INTO sessions (id, token_hash, user_id, tenant_id, created_at, last_seen_at, expires_at) \
                     VALUES ($1, $2, $3, $4, $5, $5, $6)",
                )
                .bind::<Uuid, _>(SessionId::new(now))
                .bind::<Binary, _>(hash.bytes())
                .bind::<Uuid, _>(id)
                .bind::<Uuid, _>(tenant)
                .bind::<Timestamptz, _>(now)
                .bind::<Timestamptz, _>(now + TimeDelta::days(30))
                .execute(conn)?;
                Ok(())
            })
            .await
            .unwrap();
        let session = token.expose().to_owned();
        let visit = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let cookies = format!("hookyard-visit={visit}; hookyard-session={session}");
        Person { id, email, session, cookies }
    }

    /// Executes a statement about a person.
    pub(super) async fn change(&self, person: &Person, sql: &'static str) {
        let id = person.id;
        self.system.db.run(move |conn| Ok(sql_query(sql).bind::<Uuid, _>(id).execute(conn)?)).await.unwrap();
    }

    /// An app for everybody, with a secret, at Zapier's address.
    pub(super) async fn app(&self) -> App {
        self.app_with(None, false, &[ZAPIER], &[Scope::HooksRead, Scope::HooksWrite]).await
    }

    pub(super) async fn app_with(
        &self,
        tenant: Option<TenantId>,
        is_public: bool,
        redirect_uris: &[&str],
        scopes: &[Scope],
    ) -> App {
        let new = NewClient {
            tenant,
            name: "Zapper".to_owned(),
            redirect_uris: redirect_uris.iter().map(|&uri| uri.to_owned()).collect(),
            scopes: scopes.iter().copied().collect(),
            is_public,
        };
        let (actor, now) = (Actor::operator("test"), self.system.clock.now());
        let (client, secret) =
            self.system.db.run(move |conn| client::create(conn, &new, &actor, now)).await.unwrap();
        let secret = secret.map(|secret| secret.expose().to_owned());
        App { id: client.id, secret, redirect: redirect_uris[0].to_owned() }
    }

    /// GET of an authorization request.
    pub(super) async fn ask(&self, person: Option<&Person>, query: &str) -> Reply {
        let mut request = self.http().request("GET", &format!("/oauth/authorize?{query}"));
        if let Some(person) = person {
            request = request.header("cookie", &person.cookies);
        }
        request.send().await
    }

    /// The person presses a button of the page that is the answer to this request.
    pub(super) async fn press(&self, person: &Person, query: &str, decision: &str) -> Reply {
        let page = self.ask(Some(person), query).await;
        assert_eq!(page.status, 200, "{page:?}");
        self.send_form(person, query, &csrf(&page), decision).await
    }

    pub(super) async fn send_form(&self, person: &Person, query: &str, csrf: &str, decision: &str) -> Reply {
        self.http()
            .request("POST", &format!("/oauth/authorize?{query}"))
            .header("cookie", &person.cookies)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form(&[("csrf", csrf), ("decision", decision)]))
            .send()
            .await
    }

    /// A code that the person lets the app have: asked for, or remembered.
    pub(super) async fn code(&self, person: &Person, app: &App, more: &[(&str, &str)]) -> String {
        let query = app.query(more);
        let first = self.ask(Some(person), &query).await;
        let answer = if first.status == 200 {
            self.send_form(person, &query, &csrf(&first), "allow").await
        } else {
            first
        };
        answered(&answer, "code").unwrap_or_else(|| panic!("no code: {answer:?}"))
    }

    /// POST of a form to one of the routes.
    pub(super) async fn post(&self, path: &str, members: &[(&str, &str)]) -> Reply {
        post(&self.http(), path, members).await
    }

    /// POST to the token endpoint as an app, with its secret in the form.
    pub(super) async fn token(&self, app: &App, members: &[(&str, &str)]) -> Reply {
        token(&self.http(), app, members).await
    }

    /// The tokens of a new authorization of all that the app may have.
    pub(super) async fn tokens(&self, person: &Person, app: &App) -> Value {
        let code = self.code(person, app, &[]).await;
        let members =
            [("grant_type", "authorization_code"), ("code", &code), ("redirect_uri", &app.redirect)];
        self.token(app, &members).await.expect(200)
    }

    pub(super) async fn refresh(&self, app: &App, token: &str) -> Reply {
        self.token(app, &[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }

    /// Whether an access token opens a door that needs `hooks:read`, at each gateway.
    pub(super) async fn opens(&self, access_token: &str) -> Vec<u16> {
        let mut statuses = Vec::new();
        for gateway in &self.system.gateways {
            let reply = Client::new(gateway.addr).with_key(access_token).get("/v1/hooks").await;
            statuses.push(reply.status);
        }
        statuses
    }

    /// The words of the audit log of the tenant, in order.
    pub(super) async fn audited(&self) -> Vec<String> {
        #[derive(diesel::QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            action: String,
        }
        let tenant = self.system.tenant;
        let rows: Vec<Row> = self
            .system
            .db
            .once(move |conn| {
                Ok(sql_query("SELECT action FROM audit_log WHERE tenant_id = $1 ORDER BY seq")
                    .bind::<Uuid, _>(tenant)
                    .load(conn)?)
            })
            .await
            .unwrap();
        rows.into_iter().map(|row| row.action).collect()
    }
}

impl App {
    /// The query of an authorization request for all that the app may have; `more` comes instead of or besides.
    pub(super) fn query(&self, more: &[(&str, &str)]) -> String {
        let id = self.id.to_string();
        let mut members: Vec<(&str, &str)> =
            vec![("response_type", "code"), ("client_id", &id), ("redirect_uri", &self.redirect)];
        members.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
        members.extend(more.iter().filter(|(_, value)| *value != "-"));
        form(&members)
    }
}

pub(super) async fn post(client: &Client, path: &str, members: &[(&str, &str)]) -> Reply {
    client
        .request("POST", path)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form(members))
        .send()
        .await
}

pub(super) async fn token(client: &Client, app: &App, members: &[(&str, &str)]) -> Reply {
    let id = app.id.to_string();
    let mut all = vec![("client_id", id.as_str())];
    all.extend(app.secret.as_deref().map(|secret| ("client_secret", secret)));
    all.extend(members);
    post(client, "/oauth/token", &all).await
}

/// `application/x-www-form-urlencoded`
pub(super) fn form(members: &[(&str, &str)]) -> String {
    let encoded = members.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value)));
    encoded.collect::<Vec<_>>().join("&")
}

pub(super) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

pub(super) fn decode(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next().unwrap()).to_digit(16).unwrap();
                u8::try_from(digit() * 16 + digit()).unwrap()
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}

/// The token in the hidden field of a page.
#[track_caller]
pub(super) fn csrf(page: &Reply) -> String {
    let text = page.text();
    let (_, rest) = text.split_once("name=\"csrf\" value=\"").unwrap_or_else(|| panic!("no form: {text}"));
    rest.split('"').next().unwrap().to_owned()
}

/// A parameter of where the browser is sent.
pub(super) fn answered(reply: &Reply, name: &str) -> Option<String> {
    let location = reply.header("location").filter(|_| reply.status == 303)?;
    let (_, query) = location.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(decode)
}

/// Status and error of an answer of the token endpoint; everything that RFC 6749 §5.2 asks of it is checked.
#[track_caller]
pub(super) fn refused(reply: &Reply) -> (u16, String) {
    let body = reply.json();
    assert_eq!(reply.header("cache-control"), Some("no-store"), "{reply:?}");
    assert_eq!(reply.header("pragma"), Some("no-cache"), "{reply:?}");
    let description = body["error_description"].as_str().unwrap_or_else(|| panic!("{body}"));
    let allowed = |c: char| matches!(c, ' '..='~') && c != '"' && c != '\\';
    assert!(!description.is_empty() && description.chars().all(allowed), "{description}");
    (reply.status, body["error"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned())
}

pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no `{name}` in {value}"))
}
