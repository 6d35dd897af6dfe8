//! What a worker says to its gateway. The address is the operator's own, so it may be anywhere: see `egress::Services`.

use std::{fmt, time::Duration};

use anyhow::{Context as _, ensure};
use hookyard_egress::{HeaderMap, HeaderName, HeaderValue, Method, Request, Services};
use serde_json::Value;
use url::Url;

/// The most that an answer may have: ten tasks with everything that can be in them.
const MAX_ANSWER: u64 = 32 << 20;

const AUTHORIZATION: HeaderName = HeaderName::from_static("authorization");
const CONTENT_TYPE: HeaderName = HeaderName::from_static("content-type");
const X_LEASE_TOKEN: HeaderName = HeaderName::from_static("x-lease-token");

/// Why there is no answer that could be used.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The gateway refuses.
    Refused { status: u16, text: String },
    /// The gateway cannot be reached, or says something that is no answer.
    Unreachable(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { status, text } => write!(f, "{status}: {text}"),
            Self::Unreachable(text) => f.write_str(text),
        }
    }
}

impl Trouble {
    /// Whether the run is not this worker's any more.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Self::Refused { status: 401 | 403 | 404 | 409 | 410, .. })
    }

    /// Whether the same may succeed later.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Refused { status, .. } => matches!(status, 408 | 429 | 500..),
            Self::Unreachable(_) => true,
        }
    }
}

/// The protocol's routes at one gateway, with one token.
pub(super) struct Api {
    services: Services,
    base: Url,
    authorization: HeaderValue,
}

impl Api {
    pub(super) fn new(settings: &hookyard_egress::Settings, url: &Url, token: &str) -> anyhow::Result<Self> {
        ensure!(token.starts_with("wk_"), "--token is no worker token: those begin with wk_");
        let mut base = url.clone();
        let path = format!("{}/v1/automation/worker/", base.path().trim_end_matches('/'));
        base.set_path(&path);
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {token}")).context("--token is none")?;
        authorization.set_sensitive(true);
        let services =
            Services::new(settings, std::slice::from_ref(&base)).context("--url cannot be used")?;
        Ok(Self { services, base, authorization })
    }

    /// POSTs to a route of the protocol.
    pub(super) async fn post(
        &self,
        path: &str,
        lease: Option<&HeaderValue>,
        body: &Value,
        timeout: Duration,
    ) -> Result<Value, Trouble> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(lease) = lease {
            headers.insert(X_LEASE_TOKEN, lease.clone());
        }
        let url = self.base.join(path).map_err(|error| Trouble::Unreachable(error.to_string()))?;
        let request = Request { method: Method::POST, url, headers, body: body.to_string().into(), timeout };
        let unreachable = |failure: hookyard_egress::Failure| Trouble::Unreachable(failure.detail);
        let mut reply = self.services.open(request, timeout, MAX_ANSWER).await.map_err(unreachable)?;
        let mut bytes = Vec::new();
        while let Some(piece) = reply.next().await.map_err(unreachable)? {
            bytes.extend_from_slice(&piece);
        }
        let answer: Option<Value> = serde_json::from_slice(&bytes).ok();
        match (reply.status(), answer) {
            (200..=299, Some(answer)) => Ok(answer),
            (status, answer) => {
                let text = answer.as_ref().and_then(|answer| answer["error"].as_str());
                let text = text.unwrap_or("no answer of a gateway").to_owned();
                Err(Trouble::Refused { status, text })
            }
        }
    }
}
