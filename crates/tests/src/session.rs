//! People who are logged in, put there as rows: what a session may do is tested without the pages on which it begins.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use diesel::{
    RunQueryDsl, sql_query,
    sql_types::{Binary, SmallInt, Text, Timestamptz, Uuid},
};
use hookyard_domain::{
    credential::{Token, TokenHash},
    id::{SessionId, TenantId, UserId},
    person::Role,
};
use ring::hmac;

use crate::{http::Request, system::System};

/// The session of a person at one tenant.
#[derive(Clone, Debug)]
pub struct Session {
    token: String,
}

impl Session {
    /// A new person with this role, who has just logged in.
    ///
    /// # Panics
    /// When the database refuses.
    pub async fn of(system: &System, tenant: TenantId, role: Role) -> Self {
        let now = system.clock.now();
        let token = Token::with_prefix("", rand::random()).expose().to_owned();
        let (user, session, hash) = (UserId::new(now), SessionId::new(now), TokenHash::of(&token));
        let email = format!("{role}-{:016x}@example.com", rand::random::<u64>());
        system
            .db
            .run(move |conn| {
                sql_query("INSERT INTO users (id, email, name, locale, created_at) VALUES ($1, $2, $2, 'en', $3)")
                    .bind::<Uuid, _>(user)
                    .bind::<Text, _>(email)
                    .bind::<Timestamptz, _>(now)
                    .execute(conn)?;
                sql_query(
                    "INSERT INTO memberships (tenant_id, user_id, role, created_at) VALUES ($1, $2, $3, $4)",
                )
                .bind::<Uuid, _>(tenant)
                .bind::<Uuid, _>(user)
                .bind::<SmallInt, _>(role.code())
                .bind::<Timestamptz, _>(now)
                .execute(conn)?;
                sql_query(
                    "INSERT INTO sessions (id, token_hash, user_id, tenant_id, created_at, last_seen_at, expires_at) \
                     VALUES ($1, $2, $3, $4, $5, $5, $6)",
                )
                .bind::<Uuid, _>(session)
                .bind::<Binary, _>(hash.bytes())
                .bind::<Uuid, _>(user)
                .bind::<Uuid, _>(tenant)
                .bind::<Timestamptz, _>(now)
                .bind::<Timestamptz, _>(now + TimeDelta::days(1))
                .execute(conn)?;
                Ok(())
            })
            .await
            .expect("a session can be stored");
        Self { token }
    }

    /// The request as a page of ours makes it for the person.
    #[must_use]
    pub fn sign(&self, request: Request) -> Request {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.token.as_bytes());
        let csrf = URL_SAFE_NO_PAD.encode(hmac::sign(&key, b"hookyard csrf token"));
        self.sign_without_token(request).header("x-csrf-token", csrf)
    }

    /// The request as a page of another site could make the browser send it.
    #[must_use]
    pub fn sign_without_token(&self, request: Request) -> Request {
        request.header("cookie", format!("hookyard-session={}", self.token))
    }
}
