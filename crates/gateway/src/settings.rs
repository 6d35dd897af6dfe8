//! The sections `[http]` (the port), `[gateway]` (limits and groups) and, in [`oidc`], `[oidc]` (an identity provider). It checks ranges; what they mean is decided
//! where they are used.

mod oidc;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    thread,
    time::Duration,
};

use hookyard_chassis::settings::{SettingsError, in_range};
use hookyard_domain::{
    credential::Limits,
    email,
    rate_limit::{Bucket, WINDOW_S},
    task,
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use url::Url;

pub use oidc::OidcSettings;

/// The largest body that any route reads: a batch of events, 10 MiB.
pub(crate) const MAX_BATCH_BYTES: usize = 10 << 20;

/// What the gateway is told.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Section `[http]`.
    pub http: HttpSettings,
    /// Section `[gateway]`.
    pub gateway: GatewaySettings,
    /// Section `[oidc]`.
    pub oidc: OidcSettings,
    /// Section `[mail]`: whether people are written to.
    pub mail: email::Settings,
    /// Section `[tasks]`: how runs are queued, held and given up.
    pub tasks: task::Settings,
    /// Section `[llm]`: which models there are.
    pub llm: task::model::Settings,
}

/// Section `[http]`: the public port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    /// Where the HTTP API listens, as address and port. Default: `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// Where people and OAuth clients find this service, as they write it: `https://hooks.example.com`, without a path. It
    /// is the OAuth issuer, and the beginning of links. Behind TLS it has to be set, so that cookies are sent over TLS only.
    /// Default: none; `http://` and the address it listens on.
    pub public_url: Option<Url>,
    /// Threads that serve requests, 0 to 256; 0 = one for each core. Default: 0.
    #[serde(deserialize_with = "in_range::<_, _, 0, 256>")]
    pub workers: u16,
    /// Connections at the same time, over all threads, 1 to 1,000,000; more wait to be taken. Default: 10,000.
    #[serde(deserialize_with = "in_range::<_, _, 1, 1_000_000>")]
    pub max_connections: u32,
    /// Milliseconds after which an idle connection is closed, 0 to 3,600,000; 0 = after each answer. Default: 75,000.
    #[serde(deserialize_with = "in_range::<_, _, 0, 3_600_000>")]
    pub keep_alive_ms: u64,
    /// Milliseconds that a client may take to send the head of a request, 100 to 120,000. Default: 5,000.
    #[serde(deserialize_with = "in_range::<_, _, 100, 120_000>")]
    pub head_timeout_ms: u64,
    /// Milliseconds that a client may take to send a body, 100 to 600,000; then 408. Default: 30,000.
    #[serde(deserialize_with = "in_range::<_, _, 100, 600_000>")]
    pub body_timeout_ms: u64,
    /// Milliseconds for which the rest of a refused body is still read, so that the client sees the answer, 100 to
    /// 60,000. Default: 5,000.
    #[serde(deserialize_with = "in_range::<_, _, 100, 60_000>")]
    pub disconnect_timeout_ms: u64,
    /// Bytes of bodies that are in memory at the same time, over all requests, 16 MiB to 4 GiB; what does not fit is
    /// answered with 503 `OVERLOADED`. Default: 33,554,432 (32 MiB).
    #[serde(deserialize_with = "in_range::<_, _, 0x0100_0000, 0xffff_ffff>")]
    pub max_body_bytes_in_flight: u32,
    /// Networks of proxies whose `X-Forwarded-For` and `Forwarded` are believed, such as `10.0.0.0/8`; others' are
    /// ignored. Default: none.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether `/metrics` is served on this port, too. Default: true.
    pub metrics: bool,
    /// Milliseconds that requests may take to end when the process stops, 0 to 600,000; below `ops.shutdown_grace_ms`.
    /// Default: 20,000.
    #[serde(deserialize_with = "in_range::<_, _, 0, 600_000>")]
    pub shutdown_timeout_ms: u64,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            public_url: None,
            workers: 0,
            max_connections: 10_000,
            keep_alive_ms: 75_000,
            head_timeout_ms: 5_000,
            body_timeout_ms: 30_000,
            disconnect_timeout_ms: 5_000,
            max_body_bytes_in_flight: 32 << 20,
            trusted_proxies: Vec::new(),
            metrics: true,
            shutdown_timeout_ms: 20_000,
        }
    }
}

impl HttpSettings {
    /// A link to a path, as people are given it: below `public_url`, else below the address it listens on; where that is every
    /// address, below this machine's own.
    #[must_use]
    pub fn link(&self, path: &str) -> String {
        let origin = match &self.public_url {
            Some(url) => url.origin().ascii_serialization(),
            None => {
                let mut listen = self.listen;
                match listen.ip() {
                    IpAddr::V4(ip) if ip.is_unspecified() => listen.set_ip(Ipv4Addr::LOCALHOST.into()),
                    IpAddr::V6(ip) if ip.is_unspecified() => listen.set_ip(Ipv6Addr::LOCALHOST.into()),
                    _ => {}
                }
                format!("http://{listen}")
            }
        };
        format!("{origin}{path}")
    }

    /// Threads that serve requests.
    pub(crate) fn worker_count(&self) -> usize {
        match self.workers {
            0 => thread::available_parallelism().map_or(1, usize::from),
            workers => usize::from(workers),
        }
    }

    pub(crate) fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.body_timeout_ms)
    }
}

/// Section `[gateway]`: limits of credentials that have none of their own, and how events are grouped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatewaySettings {
    /// Requests per minute and credential on routes without a limit of their own, 0 to 1,000,000,000; 0 = unlimited.
    /// Default: 60.
    #[serde(deserialize_with = "in_range::<_, _, 0, 1_000_000_000>")]
    pub rate_limit: u32,
    /// Requests per minute and credential that subscribe, change or unsubscribe hooks, 0 to 1,000,000,000;
    /// 0 = unlimited. Default: 10.
    #[serde(deserialize_with = "in_range::<_, _, 0, 1_000_000_000>")]
    pub hook_write_limit: u32,
    /// How many more of these may pass beyond their limit within an hour, 0 to 1,000,000,000: turning on a folder of Zaps is
    /// such a burst. Default: 20.
    #[serde(deserialize_with = "in_range::<_, _, 0, 1_000_000_000>")]
    pub hook_write_burst: u32,
    /// Samples per minute and credential, 0 to 1,000,000,000; 0 = unlimited. Default: 60.
    #[serde(deserialize_with = "in_range::<_, _, 0, 1_000_000_000>")]
    pub sample_limit: u32,
    /// Requests to `/v2` per minute and tenant, 0 to 1,000,000,000; 0 = unlimited, as for credentials whose own limit of requests
    /// is 0. Default: 150.
    #[serde(deserialize_with = "in_range::<_, _, 0, 1_000_000_000>")]
    pub action_limit: u32,
    /// Requests to `/v2` per minute and peer (an IPv4 address or an IPv6 /64), likewise. Default: 60.
    #[serde(deserialize_with = "in_range::<_, _, 0, 1_000_000_000>")]
    pub action_address_limit: u32,
    /// Requests per minute of a person who is logged in, 0 to 1,000,000,000; 0 = unlimited. Default: 600.
    #[serde(deserialize_with = "in_range::<_, _, 0, 1_000_000_000>")]
    pub person_limit: u32,
    /// Requests without a valid credential per minute and peer (an IPv4 address or an IPv6 /64), 0 to 1,000,000,000;
    /// 0 = unlimited. Default: 60.
    #[serde(deserialize_with = "in_range::<_, _, 0, 1_000_000_000>")]
    pub unauthenticated_limit: u32,
    /// Milliseconds between two looks at what changed among the credentials, 20 to 400. What is known for longer than 500 ms is
    /// not used; a gateway that looks seldom makes requests wait for a look. Default: 200.
    #[serde(deserialize_with = "in_range::<_, _, 20, 400>")]
    pub credential_refresh_ms: u64,
    /// Requests that may wait to be stored, 1 to 1,000,000, of events, of tasks and of action runs, those with an
    /// `Idempotency-Key` apart; more are answered with 503 `OVERLOADED`. Default: 8,192.
    #[serde(deserialize_with = "in_range::<_, _, 1, 1_000_000>")]
    pub queue_requests: u32,
    /// Tasks that store events, 1 to 16: while one commits, the next fills. Default: 2.
    #[serde(deserialize_with = "in_range::<_, _, 1, 16>")]
    pub flushers: u16,
    /// Events in one statement, 1 to 10,000; a batch is not split. Default: 256.
    #[serde(deserialize_with = "in_range::<_, _, 1, 10_000>")]
    pub flush_events: u32,
    /// Bytes of events in one statement, 1 KiB to 256 MiB; a batch is not split. Default: 4,194,304 (4 MiB).
    #[serde(deserialize_with = "in_range::<_, _, 1024, 0x1000_0000>")]
    pub flush_bytes: u32,
    /// Whether small events are stored together with their deliveries, where no registry has to read them. Takes about half a kilobyte of
    /// memory for each subscription where the registry is another process. Default: true.
    pub foresight: bool,
    /// What becomes of integers beyond 2^53 in events: `as_javascript` reads them as JavaScript receivers will, as the
    /// nearest double; `refuse` answers 400 `INVALID_JSON` and names the place. Default: `as_javascript`.
    pub large_integers: LargeIntegers,
    /// Inboxes that a tenant may have, 0 to 100,000. Default: 50.
    #[serde(deserialize_with = "in_range::<_, _, 0, 100_000>")]
    pub inboxes: u32,
    /// Streams of inboxes that a tenant may follow at the same time at one gateway, 0 to 100,000; more are answered with 503
    /// `OVERLOADED`. Default: 100.
    #[serde(deserialize_with = "in_range::<_, _, 0, 100_000>")]
    pub inbox_streams: u32,
    /// Deliveries per second of a recovery that does not say, 1 to 100,000; no more than `recovery_max_per_second`. Default: 50.
    #[serde(deserialize_with = "in_range::<_, _, 1, 100_000>")]
    pub recovery_per_second: u32,
    /// Deliveries per second that a recovery may ask for, 1 to 100,000. Default: 1,000.
    #[serde(deserialize_with = "in_range::<_, _, 1, 100_000>")]
    pub recovery_max_per_second: u32,
}

/// What becomes of integers that JavaScript cannot hold (docs/decisions/0007).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LargeIntegers {
    /// The nearest double, as JavaScript reads them.
    #[default]
    AsJavascript,
    /// 400, with the place.
    Refuse,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            rate_limit: 60,
            hook_write_limit: 10,
            hook_write_burst: 20,
            sample_limit: 60,
            action_limit: 150,
            action_address_limit: 60,
            person_limit: 600,
            unauthenticated_limit: 60,
            credential_refresh_ms: 200,
            queue_requests: 8_192,
            flushers: 2,
            flush_events: 256,
            flush_bytes: 4 << 20,
            foresight: true,
            large_integers: LargeIntegers::AsJavascript,
            inboxes: 50,
            inbox_streams: 100,
            recovery_per_second: 50,
            recovery_max_per_second: 1_000,
        }
    }
}

impl GatewaySettings {
    /// How many requests of a bucket may pass in a window; 0 = unlimited. The credential's own limit counts first.
    pub(crate) fn limit(&self, bucket: Bucket, own: &Limits) -> u32 {
        match bucket {
            Bucket::Requests => own.requests.unwrap_or(self.rate_limit),
            Bucket::HookWrites => own.hook_writes.unwrap_or(self.hook_write_limit),
            Bucket::HookWriteBurst => self.hook_write_burst(own),
            Bucket::Samples => own.samples.unwrap_or(self.sample_limit),
            Bucket::Actions | Bucket::ActionsOfAddress if own.requests == Some(0) => 0,
            Bucket::Actions => self.action_limit,
            Bucket::ActionsOfAddress => self.action_address_limit,
            Bucket::Unauthenticated => self.unauthenticated_limit,
            Bucket::Told => 1,
        }
    }
}

impl GatewaySettings {
    /// How many hook writes may pass beyond their limit within an hour; 0 = none.
    pub(crate) fn hook_write_burst(&self, own: &Limits) -> u32 {
        own.hook_write_burst.unwrap_or(self.hook_write_burst)
    }

    /// The limits of a person: one for everything.
    pub(crate) const fn person_limits(&self) -> Limits {
        let own = Some(self.person_limit);
        Limits { requests: own, hook_writes: own, hook_write_burst: Some(0), samples: own }
    }
}

impl Settings {
    /// Whether the values go together.
    ///
    /// # Errors
    /// Names the key that has to change.
    pub fn check(&self) -> Result<(), SettingsError> {
        if (self.http.max_body_bytes_in_flight as usize) < MAX_BATCH_BYTES {
            let reason = format!("must hold at least one batch of {MAX_BATCH_BYTES} bytes");
            return Err(SettingsError::contradiction("http.max_body_bytes_in_flight", reason));
        }
        if self.gateway.recovery_max_per_second < self.gateway.recovery_per_second {
            let reason = "must not be above gateway.recovery_max_per_second".to_owned();
            return Err(SettingsError::contradiction("gateway.recovery_per_second", reason));
        }
        if let Some(url) = &self.http.public_url
            && !is_origin(url)
        {
            let reason =
                "must be http or https with a host and nothing behind it, such as https://hooks.example.com";
            return Err(SettingsError::contradiction("http.public_url", reason));
        }
        let wrong = |key: &'static str, told: String| SettingsError::contradiction(key, told);
        self.tasks.check().map_err(|told| wrong("tasks", told))?;
        task::model::Models::new(&self.llm).map_err(|told| wrong("llm", told))?;
        self.oidc.check()
    }
}

/// Whether a URL is no more than scheme, host and port.
fn is_origin(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none()
}

/// The length of the windows in which requests are counted.
pub(crate) const WINDOW: Duration = Duration::from_secs(WINDOW_S.unsigned_abs());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credentials_own_limit_counts_before_the_default() {
        let settings = GatewaySettings::default();
        let own = Limits { requests: Some(0), hook_writes: Some(7), ..Limits::default() };
        let limits = [
            Bucket::Requests,
            Bucket::HookWrites,
            Bucket::HookWriteBurst,
            Bucket::Samples,
            Bucket::Unauthenticated,
        ]
        .map(|bucket| settings.limit(bucket, &own));
        assert_eq!(limits, [0, 7, 20, 60, 60]);
    }

    #[test]
    fn links_lead_somewhere() {
        for (listen, public_url, link) in [
            ("127.0.0.1:8080", None, "http://127.0.0.1:8080/setup"),
            ("10.1.2.3:80", None, "http://10.1.2.3:80/setup"),
            ("0.0.0.0:9090", None, "http://127.0.0.1:9090/setup"),
            ("[::]:9090", None, "http://[::1]:9090/setup"),
            ("0.0.0.0:9090", Some("https://hooks.example.com"), "https://hooks.example.com/setup"),
        ] {
            let public_url = public_url.map(|url| Url::parse(url).unwrap());
            let http =
                HttpSettings { listen: listen.parse().unwrap(), public_url, ..HttpSettings::default() };
            assert_eq!(http.link("/setup"), link);
        }
    }

    #[test]
    fn the_public_url_is_an_origin() {
        for (url, good) in [
            ("https://hooks.example.com", true),
            ("https://hooks.example.com:8443/", true),
            ("http://localhost:8080", true),
            ("https://hooks.example.com/hookyard", false),
            ("https://hooks.example.com/?a", false),
            ("https://hooks.example.com/#a", false),
            ("https://me@hooks.example.com", false),
            ("ftp://hooks.example.com", false),
            ("data:text/plain,x", false),
        ] {
            let mut settings = Settings::default();
            settings.http.public_url = Some(Url::parse(url).unwrap());
            assert_eq!(settings.check().is_ok(), good, "{url}");
        }
    }

    #[test]
    fn the_defaults_are_read_and_typos_are_not() {
        assert_eq!(serde_json::from_str::<HttpSettings>("{}").unwrap(), HttpSettings::default());
        assert_eq!(serde_json::from_str::<GatewaySettings>("{}").unwrap(), GatewaySettings::default());
        assert!(Settings::default().check().is_ok());
        for (text, http) in [
            (r#"{"listne":"127.0.0.1:1"}"#, true),
            (r#"{"workers":257}"#, true),
            (r#"{"trusted_proxies":["10.0.0.0/33"]}"#, true),
            (r#"{"max_body_bytes_in_flight":1}"#, true),
            (r#"{"flushers":0}"#, false),
            (r#"{"credential_refresh_ms":19}"#, false),
            (r#"{"credential_refresh_ms":401}"#, false),
        ] {
            let refused = if http {
                serde_json::from_str::<HttpSettings>(text).is_err()
            } else {
                serde_json::from_str::<GatewaySettings>(text).is_err()
            };
            assert!(refused, "{text}");
        }
    }
}
