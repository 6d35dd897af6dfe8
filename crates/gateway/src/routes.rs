//! The table of routes: what there is, who may ask for it, and which limit counts it. Everything that depends on the
//! set of routes is made of this table: the server, the scopes, the figures, and the test of the OpenAPI document.

use std::{collections::BTreeMap, sync::LazyLock};

use actix_web::{
    HttpResponse, Route, guard,
    http::Method,
    web::{self, Data, ServiceConfig},
};
use hookyard_chassis::api_error::{self, ApiError};
use hookyard_domain::{credential::Scope, person::Role, rate_limit::Bucket};

use crate::{
    access::{Access, Checkpoint},
    context::Context,
    handlers::{
        activity, audit,
        automation::{
            about, budgets, llm_keys, schedules, stats, stream, tasks, tasks_change, webhooks, worker,
            workers,
        },
        consumers::{self, secret as consumer_secret, switch as consumer_switch},
        dead_letters, deliveries, event_payload,
        event_types::{self, import},
        events,
        gaps::{self, deliver as gaps_deliver},
        health, hooks,
        inboxes::{
            self, lease as inbox_lease, messages as inbox_messages, settle as inbox_settle,
            stream as inbox_stream,
        },
        invitations,
        keys::{api as keys, integration as integration_key, source as source_keys, worker as worker_tokens},
        messages,
        oauth::{authorize, clients, grants, introspect, metadata, token},
        ops, pages, preview, recoveries, replay, samples, session, signing_keys, users,
        v2::{actions, authentications, authentications_change, runs},
        zapier::{event_types as choices, subscribe, unsubscribe},
    },
    openapi,
    settings::MAX_BATCH_BYTES,
};

/// One route.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) method: Method,
    /// The pattern, which is also the path in the OpenAPI document: `/v1/events/{id}`.
    pub(crate) path: &'static str,
    /// Method and pattern in one.
    pub(crate) name: &'static str,
    pub(crate) access: Access,
    /// Which limit counts it. Each request counts in one bucket.
    pub(crate) bucket: Bucket,
    /// The handler.
    pub(crate) route: fn() -> Route,
}

/// `METHOD "/path", access, bucket => handler`.
macro_rules! table {
    ($($method:ident $path:literal, $access:expr, $bucket:ident => $handler:path;)+) => {
        &[$(Entry {
            method: Method::$method,
            path: $path,
            name: concat!(stringify!($method), " ", $path),
            access: $access,
            bucket: Bucket::$bucket,
            route: || web::route().to($handler),
        },)+]
    };
}

use Access::{Page, Person, Public, Worker};

/// Shorter to read in the table.
const fn scope(scope: Scope) -> Access {
    Access::Scope(scope)
}

/// What programs with a scope and people with a role may manage.
const fn managed(scope: Scope, role: Role) -> Access {
    Access::Managed(scope, role)
}

/// All routes. A fixed path stands before a pattern that would match it, too. GET answers HEAD as well.
pub(crate) static TABLE: &[Entry] = table! {
    GET "/livez", Public, Requests => ops::livez;
    GET "/readyz", Public, Requests => ops::readyz;
    GET "/metrics", Public, Requests => ops::metrics;

    POST "/events", scope(Scope::EventsWrite), Requests => events::post;
    POST "/events/batch", scope(Scope::EventsWrite), Requests => events::post_batch;
    GET "/v1/events", scope(Scope::EventsRead), Requests => events::list;
    GET "/v1/events/{id}", scope(Scope::EventsRead), Requests => events::show;
    GET "/v1/events/{id}/deliveries", scope(Scope::EventsRead), Requests => events::deliveries;
    DELETE "/v1/events/{id}/payload", managed(Scope::Admin, Role::Admin), Requests => event_payload::purge;

    POST "/zapier/hook", scope(Scope::HooksWrite), HookWrites => subscribe::subscribe;
    DELETE "/zapier/hook", scope(Scope::HooksWrite), HookWrites => unsubscribe::unsubscribe;
    GET "/zapier/hook/sample", scope(Scope::HooksRead), Samples => samples::sample;
    GET "/zapier/event-types", scope(Scope::HooksRead), Requests => choices::choices;
    GET "/zapier/event-types/{type}/fields", scope(Scope::HooksRead), Requests => choices::output_fields;
    POST "/zapier/hook/unsubscribe", scope(Scope::HooksWrite), HookWrites => unsubscribe::unsubscribe_by_post;
    DELETE "/zapier/hook/{id}", scope(Scope::HooksWrite), HookWrites => unsubscribe::unsubscribe_by_id;

    GET "/v1/hooks", scope(Scope::HooksRead), Requests => hooks::list;
    GET "/v1/hooks/{id}", scope(Scope::HooksRead), Requests => hooks::show;
    DELETE "/v1/hooks/{id}", scope(Scope::HooksWrite), HookWrites => hooks::delete;
    GET "/v1/hooks/{id}/health", scope(Scope::HooksRead), Requests => health::show;
    GET "/v1/hooks/{id}/secret", scope(Scope::HooksWrite), Requests => hooks::secret;
    POST "/v1/hooks/{id}/test", scope(Scope::HooksWrite), Requests => hooks::test;
    POST "/v1/hooks/{id}/enable", scope(Scope::HooksWrite), HookWrites => hooks::enable;
    POST "/v1/hooks/{id}/disable", scope(Scope::HooksWrite), HookWrites => hooks::disable;
    POST "/v1/hooks/{id}/replay", scope(Scope::HooksWrite), Requests => replay::replay;

    POST "/webhooks", scope(Scope::HooksWrite), HookWrites => consumers::create;
    GET "/webhooks", scope(Scope::HooksRead), Requests => consumers::list;
    GET "/webhooks/{id}", scope(Scope::HooksRead), Requests => consumers::show;
    PATCH "/webhooks/{id}", scope(Scope::HooksWrite), HookWrites => consumers::update;
    DELETE "/webhooks/{id}", scope(Scope::HooksWrite), HookWrites => consumers::delete;
    GET "/webhooks/{id}/health", scope(Scope::HooksRead), Requests => health::show_consumer;
    POST "/webhooks/{id}/test", scope(Scope::HooksWrite), Requests => consumer_switch::test;
    POST "/webhooks/{id}/enable", scope(Scope::HooksWrite), HookWrites => consumer_switch::enable;
    POST "/webhooks/{id}/disable", scope(Scope::HooksWrite), HookWrites => consumer_switch::disable;
    GET "/webhooks/{id}/secret", scope(Scope::HooksWrite), Requests => consumer_secret::show;
    POST "/webhooks/{id}/secret/rotate", scope(Scope::HooksWrite), HookWrites => consumer_secret::rotate;

    GET "/v1/inboxes", scope(Scope::HooksRead), Requests => inboxes::list;
    POST "/v1/inboxes", scope(Scope::HooksWrite), HookWrites => inboxes::create;
    GET "/v1/inboxes/{id}", scope(Scope::HooksRead), Requests => inboxes::show;
    PATCH "/v1/inboxes/{id}", scope(Scope::HooksWrite), HookWrites => inboxes::update;
    DELETE "/v1/inboxes/{id}", scope(Scope::HooksWrite), HookWrites => inboxes::delete;
    POST "/v1/inboxes/{id}/pause", scope(Scope::HooksWrite), HookWrites => inboxes::pause;
    POST "/v1/inboxes/{id}/resume", scope(Scope::HooksWrite), HookWrites => inboxes::resume;
    GET "/v1/inboxes/{id}/messages", scope(Scope::EventsRead), Requests => inbox_messages::list;
    GET "/v1/inboxes/{id}/messages/stream", scope(Scope::EventsRead), Requests => inbox_stream::follow;
    POST "/v1/inboxes/{id}/messages/lease", scope(Scope::EventsRead), Requests => inbox_lease::lease;
    POST "/v1/inboxes/{id}/messages/ack", scope(Scope::EventsRead), Requests => inbox_settle::ack;
    POST "/v1/inboxes/{id}/messages/release", scope(Scope::EventsRead), Requests => inbox_settle::release;
    POST "/v1/inboxes/{id}/messages/extend", scope(Scope::EventsRead), Requests => inbox_settle::extend;
    GET "/v1/hooks/{id}/activity", scope(Scope::HooksRead), Requests => activity::show;
    POST "/v1/hooks/{id}/preview", scope(Scope::HooksWrite), Requests => preview::preview_hook;
    GET "/webhooks/{id}/activity", scope(Scope::HooksRead), Requests => activity::show_consumer;
    POST "/webhooks/{id}/preview", scope(Scope::HooksWrite), Requests => preview::preview_consumer;
    POST "/webhooks/{id}/replay", scope(Scope::HooksWrite), Requests => replay::replay_to_consumer;
    GET "/v1/messages", scope(Scope::HooksRead), Requests => messages::list;
    GET "/v1/messages/{id}", scope(Scope::HooksRead), Requests => messages::show;
    GET "/v1/recoveries", scope(Scope::HooksRead), Requests => recoveries::list;
    POST "/v1/recoveries", scope(Scope::HooksWrite), Requests => recoveries::create;
    GET "/v1/recoveries/{id}", scope(Scope::HooksRead), Requests => recoveries::show;
    POST "/v1/recoveries/{id}/cancel", scope(Scope::HooksWrite), Requests => recoveries::cancel;

    GET "/v1/deliveries", scope(Scope::HooksRead), Requests => deliveries::list;
    GET "/v1/deliveries/{id}", scope(Scope::HooksRead), Requests => deliveries::show;
    POST "/v1/deliveries/{id}/retry", scope(Scope::HooksWrite), Requests => deliveries::retry;

    GET "/v1/subscriptions/{id}/gaps", scope(Scope::HooksRead), Requests => gaps::show;
    POST "/v1/subscriptions/{id}/gaps/deliver", scope(Scope::HooksWrite), Requests => gaps_deliver::deliver;

    GET "/v1/dead-letters", scope(Scope::HooksRead), Requests => dead_letters::list;
    POST "/v1/dead-letters/retry", scope(Scope::HooksWrite), Requests => dead_letters::retry_many;
    POST "/v1/dead-letters/discard", scope(Scope::HooksWrite), Requests => dead_letters::discard_many;
    GET "/v1/dead-letters/{id}", scope(Scope::HooksRead), Requests => dead_letters::show;
    DELETE "/v1/dead-letters/{id}", scope(Scope::HooksWrite), Requests => dead_letters::discard;
    POST "/v1/dead-letters/{id}/retry", scope(Scope::HooksWrite), Requests => dead_letters::retry;

    GET "/v1/event-types", scope(Scope::EventsRead), Requests => event_types::list;
    POST "/v1/event-types", scope(Scope::EventsWrite), Requests => event_types::create;
    POST "/v1/event-types/import/openapi", scope(Scope::EventsWrite), Requests => import::import;
    GET "/v1/event-types/{name}", scope(Scope::EventsRead), Requests => event_types::show;
    PATCH "/v1/event-types/{name}", scope(Scope::EventsWrite), Requests => event_types::update;

    GET "/v1/automation", scope(Scope::AutomationRead), Requests => about::capabilities;
    GET "/v1/automation/", scope(Scope::AutomationRead), Requests => about::root;
    GET "/v1/automation/me", scope(Scope::AutomationRead), Requests => about::me;
    GET "/v1/automation/tasks", scope(Scope::TasksRead), Requests => tasks::list;
    POST "/v1/automation/tasks", scope(Scope::TasksWrite), Requests => tasks::create;
    GET "/v1/automation/tasks/{id}", scope(Scope::TasksRead), Requests => tasks::show;
    DELETE "/v1/automation/tasks/{id}", scope(Scope::TasksWrite), Requests => tasks_change::delete;
    POST "/v1/automation/tasks/{id}/cancel", scope(Scope::TasksWrite), Requests => tasks_change::cancel;
    POST "/v1/automation/tasks/{id}/input", scope(Scope::TasksWrite), Requests => tasks_change::answer;
    POST "/v1/automation/tasks/{id}/retry", scope(Scope::TasksWrite), Requests => tasks_change::retry;
    GET "/v1/automation/tasks/{id}/runs", scope(Scope::TasksRead), Requests => tasks::runs;
    GET "/v1/automation/tasks/{id}/deliveries", scope(Scope::TasksRead), Requests => webhooks::list;
    GET "/v1/automation/tasks/{id}/webhook", scope(Scope::TasksWrite), Requests => webhooks::show;
    GET "/v1/automation/tasks/{id}/events", scope(Scope::TasksRead), Requests => stream::follow;
    GET "/v1/automation/schedules", scope(Scope::AutomationRead), Requests => schedules::list;
    POST "/v1/automation/schedules", scope(Scope::AutomationWrite), Requests => schedules::create;
    GET "/v1/automation/schedules/{id}", scope(Scope::AutomationRead), Requests => schedules::show;
    PATCH "/v1/automation/schedules/{id}", scope(Scope::AutomationWrite), Requests => schedules::change;
    DELETE "/v1/automation/schedules/{id}", scope(Scope::AutomationWrite), Requests => schedules::delete;
    POST "/v1/automation/schedules/{id}/run", scope(Scope::AutomationWrite), Requests => schedules::run;
    GET "/v1/automation/schedules/{id}/history", scope(Scope::AutomationRead), Requests => schedules::history;
    GET "/v1/automation/usage", scope(Scope::AutomationRead), Requests => budgets::usage;
    GET "/v1/automation/budget", scope(Scope::AutomationRead), Requests => budgets::show;
    PUT "/v1/automation/budget", managed(Scope::Admin, Role::Admin), Requests => budgets::set;
    GET "/v1/automation/llm-keys", managed(Scope::Admin, Role::Admin), Requests => llm_keys::list;
    PUT "/v1/automation/llm-keys/{provider}", managed(Scope::Admin, Role::Admin), Requests => llm_keys::set;
    DELETE "/v1/automation/llm-keys/{provider}", managed(Scope::Admin, Role::Admin), Requests => llm_keys::remove;
    GET "/v1/automation/stats", scope(Scope::TasksRead), Requests => stats::show;

    GET "/v2/actions", scope(Scope::AutomationRead), Actions => actions::list;
    GET "/v2/actions/{key}", scope(Scope::AutomationRead), Actions => actions::show;
    GET "/v2/authentications", scope(Scope::AutomationRead), Actions => authentications::list;
    POST "/v2/authentications", scope(Scope::AutomationWrite), Actions => authentications::create;
    GET "/v2/authentications/{id}", scope(Scope::AutomationRead), Actions => authentications::show;
    PATCH "/v2/authentications/{id}", scope(Scope::AutomationWrite), Actions => authentications_change::change;
    DELETE "/v2/authentications/{id}", scope(Scope::AutomationWrite), Actions => authentications::delete;
    POST "/v2/authentications/{id}/test", scope(Scope::AutomationWrite), Actions => authentications_change::test;
    GET "/v2/action-runs", scope(Scope::AutomationRead), Actions => runs::list;
    POST "/v2/action-runs", scope(Scope::AutomationWrite), Actions => runs::create;
    GET "/v2/action-runs/", scope(Scope::AutomationRead), Actions => runs::list_with_slash;
    POST "/v2/action-runs/", scope(Scope::AutomationWrite), Actions => runs::create_with_slash;
    GET "/v2/action-runs/{id}", scope(Scope::AutomationRead), Actions => runs::show;
    GET "/v2/action-runs/{id}/", scope(Scope::AutomationRead), Actions => runs::show_with_slash;
    POST "/v2/action-runs/{id}/callback", scope(Scope::AutomationWrite), Actions => runs::send_again;
    POST "/v1/automation/worker/claim", Worker, Requests => worker::claim::claim;
    POST "/v1/automation/worker/drain", Worker, Requests => worker::claim::drain;
    GET "/v1/automation/worker/hints", Worker, Requests => worker::hints::follow;
    POST "/v1/automation/worker/runs/{id}/heartbeat", Worker, Requests => worker::going::heartbeat;
    POST "/v1/automation/worker/runs/{id}/progress", Worker, Requests => worker::going::progress;
    POST "/v1/automation/worker/runs/{id}/output", Worker, Requests => worker::going::output;
    POST "/v1/automation/worker/runs/{id}/checkpoint", Worker, Requests => worker::going::checkpoint;
    POST "/v1/automation/worker/runs/{id}/needs-input", Worker, Requests => worker::ending::needs_input;
    POST "/v1/automation/worker/runs/{id}/complete", Worker, Requests => worker::ending::complete;
    POST "/v1/automation/worker/runs/{id}/fail", Worker, Requests => worker::ending::fail;
    POST "/v1/automation/worker/runs/{id}/release", Worker, Requests => worker::ending::release;
    GET "/v1/automation/workers", scope(Scope::AutomationRead), Requests => workers::list;
    GET "/v1/automation/worker-tokens", managed(Scope::Admin, Role::Admin), Requests => worker_tokens::list;
    POST "/v1/automation/worker-tokens", managed(Scope::Admin, Role::Admin), Requests => worker_tokens::create;
    DELETE "/v1/automation/worker-tokens/{id}", managed(Scope::Admin, Role::Admin), Requests => worker_tokens::revoke;

    GET "/v1/keys", managed(Scope::Admin, Role::Admin), Requests => keys::list;
    POST "/v1/keys", managed(Scope::Admin, Role::Admin), Requests => keys::create;
    GET "/v1/keys/{id}", managed(Scope::Admin, Role::Admin), Requests => keys::show;
    PATCH "/v1/keys/{id}", managed(Scope::Admin, Role::Admin), Requests => keys::update;
    DELETE "/v1/keys/{id}", managed(Scope::Admin, Role::Admin), Requests => keys::revoke;
    GET "/v1/source-keys", managed(Scope::Admin, Role::Admin), Requests => source_keys::list;
    POST "/v1/source-keys", managed(Scope::Admin, Role::Admin), Requests => source_keys::create;
    DELETE "/v1/source-keys/{id}", managed(Scope::Admin, Role::Admin), Requests => source_keys::revoke;
    GET "/webhooks/integrationKeys/zapier", managed(Scope::Admin, Role::Viewer), Requests => integration_key::show;
    POST "/webhooks/integrationKeys/zapier", managed(Scope::Admin, Role::Developer), Requests => integration_key::rotate;
    GET "/v1/audit", scope(Scope::Admin), Requests => audit::list;
    GET "/v1/audit/export", scope(Scope::Admin), Requests => audit::export;
    GET "/v1/session", Person(Role::Viewer), Requests => session::show;
    PATCH "/v1/session", Person(Role::Viewer), Requests => session::change;
    DELETE "/v1/session", Person(Role::Viewer), Requests => session::log_out;
    POST "/v1/session/password", Person(Role::Viewer), Requests => session::change_password;
    POST "/v1/session/totp", Person(Role::Viewer), Requests => session::begin_totp;
    DELETE "/v1/session/totp", Person(Role::Viewer), Requests => session::remove_totp;
    POST "/v1/session/totp/confirm", Person(Role::Viewer), Requests => session::confirm_totp;
    GET "/v1/sessions", Person(Role::Viewer), Requests => session::list;
    DELETE "/v1/sessions", Person(Role::Viewer), Requests => session::log_out_everywhere;
    DELETE "/v1/sessions/{id}", Person(Role::Viewer), Requests => session::end;
    GET "/v1/users", Person(Role::Admin), Requests => users::list;
    PATCH "/v1/users/{id}", Person(Role::Admin), Requests => users::change;
    DELETE "/v1/users/{id}", Person(Role::Admin), Requests => users::remove;
    GET "/v1/invitations", Person(Role::Admin), Requests => invitations::list;
    POST "/v1/invitations", Person(Role::Admin), Requests => invitations::create;
    DELETE "/v1/invitations/{id}", Person(Role::Admin), Requests => invitations::revoke;

    GET "/login", Page, Requests => pages::login::show;
    POST "/login", Page, Requests => pages::login::log_in;
    GET "/login/totp", Page, Requests => pages::login::show_second;
    POST "/login/totp", Page, Requests => pages::login::log_in_with_code;
    GET "/login/oidc", Page, Requests => pages::oidc::begin;
    GET "/login/oidc/callback", Page, Requests => pages::oidc::end;
    POST "/logout", Page, Requests => pages::login::log_out;
    GET "/setup/{token}", Page, Requests => pages::join::show_set_up;
    POST "/setup/{token}", Page, Requests => pages::join::set_up;
    GET "/invitations/{token}", Page, Requests => pages::join::show;
    POST "/invitations/{token}", Page, Requests => pages::join::accept;
    GET "/account", Page, Requests => pages::account::show;
    POST "/account/tenant", Page, Requests => pages::account::switch;
    POST "/account/language", Page, Requests => pages::account::speak;
    POST "/account/password", Page, Requests => pages::account::password;
    POST "/account/logout-everywhere", Page, Requests => pages::account::log_out_everywhere;
    GET "/account/totp", Page, Requests => pages::account::show_totp;
    POST "/account/totp", Page, Requests => pages::account::begin_totp;
    POST "/account/totp/confirm", Page, Requests => pages::account::confirm_totp;
    POST "/account/totp/remove", Page, Requests => pages::account::remove_totp;
    GET "/login/assets/portal.css", Public, Requests => pages::style;
    GET "/login/assets/portal.js", Public, Requests => pages::script;

    GET "/.well-known/oauth-authorization-server", Public, Requests => metadata::show;
    GET "/.well-known/jwks.json", Public, Requests => signing_keys::show;
    GET "/oauth/authorize", Page, Requests => authorize::show;
    POST "/oauth/authorize", Page, Requests => authorize::decide;
    POST "/oauth/token", Public, Requests => token::exchange;
    POST "/oauth/revoke", Public, Requests => token::revoke;
    POST "/oauth/introspect", Public, Requests => introspect::introspect;
    GET "/v1/oauth/clients", managed(Scope::Admin, Role::Admin), Requests => clients::list;
    POST "/v1/oauth/clients", managed(Scope::Admin, Role::Admin), Requests => clients::create;
    DELETE "/v1/oauth/clients/{id}", managed(Scope::Admin, Role::Admin), Requests => clients::revoke;
    POST "/v1/oauth/clients/{id}/secret", managed(Scope::Admin, Role::Admin), Requests => clients::rotate;
    GET "/v1/oauth/grants", managed(Scope::Admin, Role::Viewer), Requests => grants::list;
    DELETE "/v1/oauth/grants/{id}", managed(Scope::Admin, Role::Viewer), Requests => grants::revoke;

    GET "/respond/{token}", Public, Requests => pages::respond::show;
    POST "/respond/{token}", Public, Requests => pages::respond::answer;

    GET "/openapi.json", Public, Requests => openapi::document;
    GET "/docs", Public, Requests => openapi::docs;
    GET "/docs/assets/docs.css", Public, Requests => openapi::docs_style;
    GET "/docs/assets/docs.js", Public, Requests => openapi::docs_script;
};

/// `Allow` of each path.
static ALLOW: LazyLock<BTreeMap<&'static str, String>> = LazyLock::new(|| {
    let mut allow: BTreeMap<&str, String> = BTreeMap::new();
    for entry in TABLE {
        let methods = allow.entry(entry.path).or_default();
        if !methods.is_empty() {
            methods.push_str(", ");
        }
        methods.push_str(entry.method.as_str());
        if entry.method == Method::GET {
            methods.push_str(", HEAD");
        }
    }
    allow
});

/// For `App::configure`: every route behind its checkpoint, and JSON errors for everything else.
pub(crate) fn configure(context: Data<Context>) -> impl FnOnce(&mut ServiceConfig) + Clone {
    move |config| {
        config.configure(api_error::configure(MAX_BATCH_BYTES)).app_data(context.clone());
        for path in paths() {
            if path == "/metrics" && !context.settings.http.metrics {
                continue;
            }
            let mut resource = web::resource(path);
            for entry in TABLE.iter().filter(|entry| entry.path == path) {
                let checkpoint = Checkpoint::new(&context, entry.name, entry.access, entry.bucket);
                resource = resource.route(of_method((entry.route)(), &entry.method).wrap(checkpoint));
            }
            let allow = ALLOW.get(path).map_or("", String::as_str);
            let wrong_method = api_error::method_not_allowed(allow).wrap(Checkpoint::elsewhere(&context));
            config.service(resource.default_service(wrong_method));
        }
        let unknown = web::route().to(no_such_route).wrap(Checkpoint::elsewhere(&context));
        config.default_service(unknown);
    }
}

/// Every path once, in the order of the table.
fn paths() -> Vec<&'static str> {
    let mut paths = Vec::new();
    for entry in TABLE {
        if !paths.contains(&entry.path) {
            paths.push(entry.path);
        }
    }
    paths
}

/// The guard is part of the route, not of what the checkpoint wraps.
fn of_method(route: Route, method: &Method) -> Route {
    if *method == Method::GET {
        route.guard(guard::Any(guard::Get()).or(guard::Head()))
    } else {
        route.method(method.clone())
    }
}

async fn no_such_route() -> Result<HttpResponse, ApiError> {
    Err(ApiError::not_found("there is nothing at this path"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_route_stands_once() {
        let mut names: Vec<&str> = TABLE.iter().map(|entry| entry.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn a_pattern_hides_no_fixed_path() {
        let steps = |path: &'static str| path.split('/').collect::<Vec<_>>();
        let matches = |pattern: &'static str, path: &'static str| {
            let (pattern, path) = (steps(pattern), steps(path));
            pattern.len() == path.len()
                && pattern
                    .iter()
                    .zip(&path)
                    .all(|(pattern, step)| pattern.starts_with('{') || pattern == step)
        };
        let paths = paths();
        for (at, pattern) in paths.iter().enumerate() {
            for later in &paths[at + 1..] {
                assert!(!matches(pattern, later), "{pattern} stands before {later}");
            }
        }
    }

    #[test]
    fn what_is_open_to_everybody_is_meant_to_be() {
        const OPEN: &[&str] = &[
            "GET /livez",
            "GET /readyz",
            "GET /metrics",
            "GET /login",
            "POST /login",
            "GET /login/totp",
            "POST /login/totp",
            "GET /login/oidc",
            "GET /login/oidc/callback",
            "POST /logout",
            "GET /setup/{token}",
            "POST /setup/{token}",
            "GET /invitations/{token}",
            "POST /invitations/{token}",
            "GET /account",
            "POST /account/tenant",
            "POST /account/language",
            "POST /account/password",
            "POST /account/logout-everywhere",
            "GET /account/totp",
            "POST /account/totp",
            "POST /account/totp/confirm",
            "POST /account/totp/remove",
            "GET /login/assets/portal.css",
            "GET /login/assets/portal.js",
            "GET /.well-known/oauth-authorization-server",
            "GET /.well-known/jwks.json",
            "GET /oauth/authorize",
            "POST /oauth/authorize",
            "POST /oauth/token",
            "POST /oauth/revoke",
            "POST /oauth/introspect",
            "GET /respond/{token}",
            "POST /respond/{token}",
            "GET /openapi.json",
            "GET /docs",
            "GET /docs/assets/docs.css",
            "GET /docs/assets/docs.js",
        ];
        let open: Vec<&str> =
            TABLE.iter().filter(|entry| entry.access.is_open()).map(|entry| entry.name).collect();
        assert_eq!(open, OPEN);
    }

    #[test]
    fn allow_names_every_method_of_a_path() {
        assert_eq!(ALLOW["/events"], "POST");
        assert_eq!(ALLOW["/v1/events/{id}"], "GET, HEAD");
    }
}
