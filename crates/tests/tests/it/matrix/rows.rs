//! How each route is called: one row for each. In paths and bodies `{hook}`, `{consumer}`, `{recovery}` (of the consumer), `{event}`, `{dead}` (a delivery that ended without
//! success), `{type}`, `{key}`, `{user}`, `{session}`, `{invitation}`, `{client}`, `{grant}`, `{source_key}`, `{task}`, `{ended}` (a task that
//! was cancelled), `{asking}` (one that asks), `{question}` (what it asks), `{answerable}` (the token of a link to answer it), `{schedule}`, `{inbox}` (with the `{message}` and the
//! `{token}` of a lease there) and `{url}` (the hook's) stand for new objects of a tenant.

/// How one route is called.
#[derive(Debug)]
pub(super) struct Row {
    /// Its name in the document.
    pub(super) route: &'static str,
    /// The path with an object in it.
    pub(super) path: &'static str,
    /// The body; empty for none.
    pub(super) body: &'static str,
    /// What the first caller gets who is let in.
    pub(super) status: u16,
    /// What whoever is let in gets for another tenant's object; `None` when the route takes no object.
    pub(super) foreign: Option<u16>,
    /// Where its owner sees whether somebody else has touched the object, when the answer does not tell.
    pub(super) witness: Option<&'static str>,
    /// Whether it ends callers: such rows go last.
    pub(super) ends_callers: bool,
    /// Whether it is open to all and looks itself who asks: pages with their forms, and the endpoints of OAuth.
    pub(super) looks_itself: bool,
}

/// A route without an object.
const fn plain(route: &'static str, path: &'static str) -> Row {
    Row {
        route,
        path,
        body: "",
        status: 200,
        foreign: None,
        witness: None,
        ends_callers: false,
        looks_itself: false,
    }
}

/// A route with an object in its path; another tenant's is not found.
const fn about(route: &'static str, path: &'static str) -> Row {
    Row { foreign: Some(404), ..plain(route, path) }
}

/// A route that everybody reaches and that looks itself who asks.
const fn open(route: &'static str, path: &'static str) -> Row {
    Row { looks_itself: true, ..plain(route, path) }
}

impl Row {
    const fn body(self, body: &'static str) -> Self {
        Self { body, ..self }
    }

    const fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// Another tenant's object is answered so, too, and stays as it is: `witness` shows it to its owner.
    const fn untouched(self, status: u16, witness: &'static str) -> Self {
        Self { foreign: Some(status), witness: Some(witness), ..self }
    }

    const fn ends_callers(self) -> Self {
        Self { ends_callers: true, ..self }
    }
}

#[rustfmt::skip] // a table
pub(super) const ROWS: &[Row] = &[
    plain("GET /livez", "/livez"),
    plain("GET /readyz", "/readyz"),
    plain("GET /metrics", "/metrics"),
    plain("GET /openapi.json", "/openapi.json"),
    plain("GET /docs", "/docs"),
    plain("GET /docs/assets/docs.css", "/docs/assets/docs.css"),
    plain("GET /docs/assets/docs.js", "/docs/assets/docs.js"),

    plain("POST /events", "/events").body(r#"{"event_type":"a.b","payload":{}}"#).status(202),
    plain("POST /events/batch", "/events/batch").body(r#"{"events":[{"event_type":"a.b","payload":{}}]}"#).status(202),
    plain("GET /v1/events", "/v1/events"),
    about("GET /v1/events/{id}", "/v1/events/{event}"),
    about("GET /v1/events/{id}/deliveries", "/v1/events/{event}/deliveries"),
    // Nobody fans events out here, and until then their payload stays.
    about("DELETE /v1/events/{id}/payload", "/v1/events/{event}/payload").status(409),

    plain("POST /zapier/hook", "/zapier/hook").body(r#"{"url":"https://hooks.zapier.com/hooks/standard/1/new/"}"#),
    plain("GET /zapier/hook/sample", "/zapier/hook/sample"),
    plain("GET /zapier/event-types", "/zapier/event-types"),
    // A name that is in nobody's catalogue is a type of its own: nobody learns what others have.
    plain("GET /zapier/event-types/{type}/fields", "/zapier/event-types/task.completed/fields"),
    // Whoever unsubscribes what is not theirs is told that it is gone (contract §3), and it is not.
    plain("DELETE /zapier/hook", "/zapier/hook").body(r#"{"url":"{url}"}"#).untouched(200, "/v1/hooks/{hook}"),
    plain("POST /zapier/hook/unsubscribe", "/zapier/hook/unsubscribe").body(r#"{"id":"{hook}"}"#).untouched(200, "/v1/hooks/{hook}"),
    about("DELETE /zapier/hook/{id}", "/zapier/hook/{hook}").untouched(200, "/v1/hooks/{hook}"),

    plain("GET /v1/hooks", "/v1/hooks"),
    about("GET /v1/hooks/{id}", "/v1/hooks/{hook}"),
    about("DELETE /v1/hooks/{id}", "/v1/hooks/{hook}"),
    about("GET /v1/hooks/{id}/health", "/v1/hooks/{hook}/health"),
    about("GET /v1/hooks/{id}/secret", "/v1/hooks/{hook}/secret"),
    about("POST /v1/hooks/{id}/test", "/v1/hooks/{hook}/test").status(202),
    about("POST /v1/hooks/{id}/enable", "/v1/hooks/{hook}/enable"),
    about("POST /v1/hooks/{id}/disable", "/v1/hooks/{hook}/disable"),
    about("POST /v1/hooks/{id}/replay", "/v1/hooks/{hook}/replay").body(r#"{"event_id":"{event}"}"#).status(202),

    plain("POST /webhooks", "/webhooks").body(r#"{"url":"https://example.com/new","eventTypes":["a.b"]}"#).status(201),
    plain("GET /webhooks", "/webhooks"),
    about("GET /webhooks/{id}", "/webhooks/{consumer}"),
    about("PATCH /webhooks/{id}", "/webhooks/{consumer}").body(r#"{"description":"changed"}"#),
    about("DELETE /webhooks/{id}", "/webhooks/{consumer}"),
    about("GET /webhooks/{id}/health", "/webhooks/{consumer}/health"),
    about("POST /webhooks/{id}/test", "/webhooks/{consumer}/test").status(202),
    about("POST /webhooks/{id}/enable", "/webhooks/{consumer}/enable"),
    about("POST /webhooks/{id}/disable", "/webhooks/{consumer}/disable"),
    about("GET /webhooks/{id}/secret", "/webhooks/{consumer}/secret"),
    about("POST /webhooks/{id}/secret/rotate", "/webhooks/{consumer}/secret/rotate"),

    plain("GET /v1/inboxes", "/v1/inboxes"),
    plain("POST /v1/inboxes", "/v1/inboxes").body(r#"{"name":"new"}"#).status(201),
    about("GET /v1/inboxes/{id}", "/v1/inboxes/{inbox}"),
    about("PATCH /v1/inboxes/{id}", "/v1/inboxes/{inbox}").body(r#"{"name":"changed"}"#),
    about("DELETE /v1/inboxes/{id}", "/v1/inboxes/{inbox}"),
    about("POST /v1/inboxes/{id}/pause", "/v1/inboxes/{inbox}/pause"),
    about("POST /v1/inboxes/{id}/resume", "/v1/inboxes/{inbox}/resume"),
    about("GET /v1/inboxes/{id}/messages", "/v1/inboxes/{inbox}/messages"),
    about("GET /v1/inboxes/{id}/messages/stream", "/v1/inboxes/{inbox}/messages/stream?seconds=1"),
    about("POST /v1/inboxes/{id}/messages/lease", "/v1/inboxes/{inbox}/messages/lease"),
    about("POST /v1/inboxes/{id}/messages/ack", "/v1/inboxes/{inbox}/messages/ack").body(r#"{"messages":[{"id":"{message}","lease_token":"{token}"}]}"#),
    about("POST /v1/inboxes/{id}/messages/release", "/v1/inboxes/{inbox}/messages/release").body(r#"{"messages":[{"id":"{message}","lease_token":"{token}"}]}"#),
    about("POST /v1/inboxes/{id}/messages/extend", "/v1/inboxes/{inbox}/messages/extend").body(r#"{"messages":[{"id":"{message}","lease_token":"{token}"}]}"#),
    about("GET /v1/hooks/{id}/activity", "/v1/hooks/{hook}/activity"),
    about("POST /v1/hooks/{id}/preview", "/v1/hooks/{hook}/preview"),
    about("GET /webhooks/{id}/activity", "/webhooks/{consumer}/activity"),
    about("POST /webhooks/{id}/preview", "/webhooks/{consumer}/preview"),
    about("POST /webhooks/{id}/replay", "/webhooks/{consumer}/replay").body(r#"{"event_id":"{event}"}"#).status(202),
    plain("GET /v1/messages", "/v1/messages"),
    about("GET /v1/messages/{id}", "/v1/messages/{dead}"),
    plain("GET /v1/recoveries", "/v1/recoveries"),
    plain("POST /v1/recoveries", "/v1/recoveries").body(r#"{"endpoint_id":"{hook}","since":"2020-01-01T00:00:00Z"}"#).status(202).untouched(404, "/v1/recoveries?endpoint_id={hook}"),
    about("GET /v1/recoveries/{id}", "/v1/recoveries/{recovery}"),
    about("POST /v1/recoveries/{id}/cancel", "/v1/recoveries/{recovery}/cancel"),

    plain("GET /v1/deliveries", "/v1/deliveries"),
    about("GET /v1/deliveries/{id}", "/v1/deliveries/{dead}"),
    about("POST /v1/deliveries/{id}/retry", "/v1/deliveries/{dead}/retry").status(202),
    about("GET /v1/subscriptions/{id}/gaps", "/v1/subscriptions/{hook}/gaps"),
    about("POST /v1/subscriptions/{id}/gaps/deliver", "/v1/subscriptions/{hook}/gaps/deliver").body(r#"{"from":1}"#).status(202),
    plain("GET /v1/dead-letters", "/v1/dead-letters"),
    about("GET /v1/dead-letters/{id}", "/v1/dead-letters/{dead}"),
    about("DELETE /v1/dead-letters/{id}", "/v1/dead-letters/{dead}"),
    about("POST /v1/dead-letters/{id}/retry", "/v1/dead-letters/{dead}/retry").status(202),
    plain("POST /v1/dead-letters/retry", "/v1/dead-letters/retry").body(r#"{"ids":["{dead}"]}"#).status(202).untouched(202, "/v1/dead-letters/{dead}"),
    plain("POST /v1/dead-letters/discard", "/v1/dead-letters/discard").body(r#"{"ids":["{dead}"]}"#).untouched(200, "/v1/dead-letters/{dead}"),

    plain("GET /v1/event-types", "/v1/event-types"),
    plain("POST /v1/event-types", "/v1/event-types").body(r#"{"name":"matrix.made","description":"x"}"#).status(201),
    plain("POST /v1/event-types/import/openapi", "/v1/event-types/import/openapi").body(r#"{"openapi":"3.1.0","webhooks":{"matrix.imported":{"post":{}}}}"#),
    about("GET /v1/event-types/{name}", "/v1/event-types/{type}"),
    about("PATCH /v1/event-types/{name}", "/v1/event-types/{type}").body(r#"{"deprecated":true}"#),

    plain("GET /v1/automation", "/v1/automation"),
    plain("GET /v1/automation/", "/v1/automation/"),
    plain("GET /v1/automation/me", "/v1/automation/me"),
    plain("GET /v1/automation/tasks", "/v1/automation/tasks"),
    plain("POST /v1/automation/tasks", "/v1/automation/tasks").body(r#"{"title":"t","description":"d"}"#).status(201),
    about("GET /v1/automation/tasks/{id}", "/v1/automation/tasks/{task}"),
    about("DELETE /v1/automation/tasks/{id}", "/v1/automation/tasks/{task}"),
    about("POST /v1/automation/tasks/{id}/cancel", "/v1/automation/tasks/{task}/cancel"),
    about("POST /v1/automation/tasks/{id}/input", "/v1/automation/tasks/{asking}/input").body(r#"{"request_id":"{question}","answer":"yes"}"#),
    about("POST /v1/automation/tasks/{id}/retry", "/v1/automation/tasks/{ended}/retry").status(201),
    about("GET /v1/automation/tasks/{id}/runs", "/v1/automation/tasks/{task}/runs"),
    about("GET /v1/automation/tasks/{id}/deliveries", "/v1/automation/tasks/{task}/deliveries"),
    about("GET /v1/automation/tasks/{id}/webhook", "/v1/automation/tasks/{task}/webhook"),
    about("GET /v1/automation/tasks/{id}/events", "/v1/automation/tasks/{ended}/events"),
    plain("GET /v1/automation/schedules", "/v1/automation/schedules"),
    plain("POST /v1/automation/schedules", "/v1/automation/schedules").body(r#"{"name":"s","cron":"0 9 * * *","task":{"title":"t","description":"d"}}"#).status(201),
    about("GET /v1/automation/schedules/{id}", "/v1/automation/schedules/{schedule}"),
    about("PATCH /v1/automation/schedules/{id}", "/v1/automation/schedules/{schedule}").body(r#"{"enabled":false}"#),
    about("DELETE /v1/automation/schedules/{id}", "/v1/automation/schedules/{schedule}"),
    about("POST /v1/automation/schedules/{id}/run", "/v1/automation/schedules/{schedule}/run").status(201),
    about("GET /v1/automation/schedules/{id}/history", "/v1/automation/schedules/{schedule}/history"),
    plain("GET /v1/automation/usage", "/v1/automation/usage"),
    plain("GET /v1/automation/budget", "/v1/automation/budget"),
    plain("PUT /v1/automation/budget", "/v1/automation/budget").body("{}"),
    plain("GET /v1/automation/llm-keys", "/v1/automation/llm-keys"),
    plain("PUT /v1/automation/llm-keys/{provider}", "/v1/automation/llm-keys/anthropic").body(r#"{"api_key":"sk-ant-x"}"#),
    plain("DELETE /v1/automation/llm-keys/{provider}", "/v1/automation/llm-keys/anthropic"),
    plain("GET /v1/automation/stats", "/v1/automation/stats"),

    plain("GET /v2/actions", "/v2/actions"),
    plain("GET /v2/actions/{key}", "/v2/actions/event.emit"),
    plain("GET /v2/authentications", "/v2/authentications"),
    plain("POST /v2/authentications", "/v2/authentications").body(r#"{"name":"c","type":"bearer","url":"{own}","token":"t"}"#).status(201),
    about("GET /v2/authentications/{id}", "/v2/authentications/{auth}"),
    about("PATCH /v2/authentications/{id}", "/v2/authentications/{auth}").body(r#"{"name":"d"}"#),
    about("DELETE /v2/authentications/{id}", "/v2/authentications/{auth}"),
    about("POST /v2/authentications/{id}/test", "/v2/authentications/{auth}/test"),
    plain("GET /v2/action-runs", "/v2/action-runs"),
    plain("POST /v2/action-runs", "/v2/action-runs").body(r#"{"action":"event.emit","input":{"event_type":"a.b","payload":{}}}"#),
    plain("GET /v2/action-runs/", "/v2/action-runs/"),
    plain("POST /v2/action-runs/", "/v2/action-runs/").body(r#"{"data":{"action":"event.emit","inputs":{"event_type":"a.b","payload":{}}}}"#),
    about("GET /v2/action-runs/{id}", "/v2/action-runs/{arun}"),
    about("GET /v2/action-runs/{id}/", "/v2/action-runs/{arun}/"),
    about("POST /v2/action-runs/{id}/callback", "/v2/action-runs/{arun}/callback").status(202),
    plain("POST /v1/automation/worker/claim", "/v1/automation/worker/claim").body(r#"{"worker":{"name":"w","agent_types":["explore"]}}"#),
    plain("POST /v1/automation/worker/drain", "/v1/automation/worker/drain").body("{}"),
    plain("GET /v1/automation/worker/hints", "/v1/automation/worker/hints?seconds=1"),
    about("POST /v1/automation/worker/runs/{id}/heartbeat", "/v1/automation/worker/runs/{held}/heartbeat").body(r#"{"lease_token":"{lease}"}"#),
    about("POST /v1/automation/worker/runs/{id}/progress", "/v1/automation/worker/runs/{held}/progress").body(r#"{"lease_token":"{lease}","percent":5}"#),
    about("POST /v1/automation/worker/runs/{id}/output", "/v1/automation/worker/runs/{held}/output").body(r#"{"lease_token":"{lease}","text":"x"}"#),
    about("POST /v1/automation/worker/runs/{id}/checkpoint", "/v1/automation/worker/runs/{held}/checkpoint").body(r#"{"lease_token":"{lease}","seq":1,"data":1}"#),
    about("POST /v1/automation/worker/runs/{id}/needs-input", "/v1/automation/worker/runs/{held}/needs-input").body(r#"{"lease_token":"{lease}","question":"?"}"#),
    about("POST /v1/automation/worker/runs/{id}/complete", "/v1/automation/worker/runs/{held}/complete").body(r#"{"lease_token":"{lease}","result":"x"}"#),
    about("POST /v1/automation/worker/runs/{id}/fail", "/v1/automation/worker/runs/{held}/fail").body(r#"{"lease_token":"{lease}","message":"x"}"#),
    about("POST /v1/automation/worker/runs/{id}/release", "/v1/automation/worker/runs/{held}/release").body(r#"{"lease_token":"{lease}"}"#),
    plain("GET /v1/automation/workers", "/v1/automation/workers"),
    plain("GET /v1/automation/worker-tokens", "/v1/automation/worker-tokens"),
    plain("POST /v1/automation/worker-tokens", "/v1/automation/worker-tokens").body(r#"{"name":"made"}"#).status(201),
    about("DELETE /v1/automation/worker-tokens/{id}", "/v1/automation/worker-tokens/{worker_token}"),
    open("GET /respond/{token}", "/respond/{answerable}"),
    open("POST /respond/{token}", "/respond/{answerable}").body(r#"{"answer":"yes"}"#),

    plain("GET /v1/audit", "/v1/audit"),
    plain("GET /v1/audit/export", "/v1/audit/export"),

    plain("GET /v1/keys", "/v1/keys"),
    plain("POST /v1/keys", "/v1/keys").body(r#"{"name":"made","scopes":["hooks:read"]}"#).status(201),
    about("GET /v1/keys/{id}", "/v1/keys/{key}"),
    about("PATCH /v1/keys/{id}", "/v1/keys/{key}").body(r#"{"rate_limit":7}"#),
    about("DELETE /v1/keys/{id}", "/v1/keys/{key}"),
    plain("GET /v1/source-keys", "/v1/source-keys"),
    plain("POST /v1/source-keys", "/v1/source-keys").body(r#"{"name":"made","event_types":["a.b"]}"#).status(201),
    about("DELETE /v1/source-keys/{id}", "/v1/source-keys/{source_key}"),
    plain("GET /webhooks/integrationKeys/zapier", "/webhooks/integrationKeys/zapier"),
    plain("POST /webhooks/integrationKeys/zapier", "/webhooks/integrationKeys/zapier").status(201).ends_callers(),

    plain("GET /v1/session", "/v1/session"),
    plain("PATCH /v1/session", "/v1/session").body(r#"{"locale":"en"}"#),
    plain("DELETE /v1/session", "/v1/session").status(204),
    plain("POST /v1/session/password", "/v1/session/password").body("{}").status(422),
    plain("POST /v1/session/totp", "/v1/session/totp").body("{}"),
    plain("POST /v1/session/totp/confirm", "/v1/session/totp/confirm").body(r#"{"code":"000000"}"#).status(409),
    plain("DELETE /v1/session/totp", "/v1/session/totp").body("{}").status(409),
    plain("GET /v1/sessions", "/v1/sessions"),
    plain("DELETE /v1/sessions", "/v1/sessions").status(204),
    // Everybody ends their own: somebody else's of the same tenant is not found, either.
    about("DELETE /v1/sessions/{id}", "/v1/sessions/{session}").status(404),
    plain("GET /v1/users", "/v1/users"),
    about("PATCH /v1/users/{id}", "/v1/users/{user}").body(r#"{"role":"viewer"}"#),
    about("DELETE /v1/users/{id}", "/v1/users/{user}").status(204),
    plain("GET /v1/invitations", "/v1/invitations"),
    plain("POST /v1/invitations", "/v1/invitations").body(r#"{"email":"{new}@example.com","role":"viewer"}"#).status(201),
    about("DELETE /v1/invitations/{id}", "/v1/invitations/{invitation}").status(204),

    plain("GET /v1/oauth/clients", "/v1/oauth/clients"),
    plain("POST /v1/oauth/clients", "/v1/oauth/clients").body(r#"{"name":"made","redirect_uris":["https://app.example/cb"],"scopes":["hooks:read"]}"#).status(201),
    about("DELETE /v1/oauth/clients/{id}", "/v1/oauth/clients/{client}"),
    about("POST /v1/oauth/clients/{id}/secret", "/v1/oauth/clients/{client}/secret"),
    plain("GET /v1/oauth/grants", "/v1/oauth/grants"),
    about("DELETE /v1/oauth/grants/{id}", "/v1/oauth/grants/{grant}"),

    plain("GET /.well-known/jwks.json", "/.well-known/jwks.json"),
    plain("GET /.well-known/oauth-authorization-server", "/.well-known/oauth-authorization-server"),
    plain("GET /login/assets/portal.css", "/login/assets/portal.css"),
    plain("GET /login/assets/portal.js", "/login/assets/portal.js"),
    open("GET /oauth/authorize", "/oauth/authorize"),
    open("POST /oauth/authorize", "/oauth/authorize"),
    open("POST /oauth/token", "/oauth/token"),
    open("POST /oauth/revoke", "/oauth/revoke"),
    open("POST /oauth/introspect", "/oauth/introspect"),
    open("GET /login", "/login"),
    open("POST /login", "/login"),
    open("GET /login/totp", "/login/totp"),
    open("POST /login/totp", "/login/totp"),
    open("GET /login/oidc", "/login/oidc"),
    open("GET /login/oidc/callback", "/login/oidc/callback"),
    open("POST /logout", "/logout"),
    open("GET /setup/{token}", "/setup/none"),
    open("POST /setup/{token}", "/setup/none"),
    open("GET /invitations/{token}", "/invitations/none"),
    open("POST /invitations/{token}", "/invitations/none"),
    open("GET /account", "/account"),
    open("POST /account/tenant", "/account/tenant"),
    open("POST /account/language", "/account/language"),
    open("POST /account/password", "/account/password"),
    open("POST /account/logout-everywhere", "/account/logout-everywhere"),
    open("GET /account/totp", "/account/totp"),
    open("POST /account/totp", "/account/totp"),
    open("POST /account/totp/confirm", "/account/totp/confirm"),
    open("POST /account/totp/remove", "/account/totp/remove"),
];
