//! The limit of whoever passes: each request is counted, told what is left, and refused beyond it.

use std::{net::IpAddr, time::Duration};

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use chrono::{DateTime, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::rate_limit::Bucket;

use super::Checkpoint;
use crate::{
    access::{Principal, limiter::Allowance, peer, reached},
    settings::WINDOW,
};

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// What an unlimited credential reads as its limit and as what remains: the largest number every client can hold.
const UNLIMITED: u32 = i32::MAX as u32;

impl Checkpoint {
    /// Counts the request.
    pub(super) async fn count(
        &self,
        principal: &Principal,
        peer: Option<IpAddr>,
        now: DateTime<Utc>,
    ) -> Result<Allowance, Refusal> {
        let context = &self.context;
        let settings = &context.settings.gateway;
        // What actions do is counted for the tenant as a whole.
        let of_tenant = self.bucket == Bucket::Actions;
        let subject = if of_tenant { principal.tenant().uuid() } else { principal.subject() };
        let own = match principal {
            Principal::Credential(credential) => credential.limits,
            Principal::Person(_) => settings.person_limits(),
        };
        let of_address = settings.limit(Bucket::ActionsOfAddress, &own);
        if of_tenant && of_address > 0 {
            let bucket = (peer::subject(peer), Bucket::ActionsOfAddress);
            let counted = context.limiter.ask(bucket, of_address, now).await?;
            if !counted.granted {
                return Err(spent(counted, now));
            }
        }
        let limit = settings.limit(self.bucket, &own);
        if limit == 0 {
            return Ok(Allowance {
                granted: true,
                limit: UNLIMITED,
                remaining: UNLIMITED,
                resets_at: now + WINDOW,
                is_last: false,
            });
        }
        // What is not known to be left is not left.
        let uncounted = |error: ApiError| {
            let resets_at = now + WINDOW;
            let allowance = Allowance { granted: false, limit, remaining: 0, resets_at, is_last: false };
            Refusal { error, allowance: Some(allowance) }
        };
        let allowance = context.limiter.ask((subject, self.bucket), limit, now).await.map_err(uncounted)?;
        if allowance.granted {
            if let Principal::Credential(credential) = principal
                && allowance.is_last
            {
                reached::tell(context, credential, self.bucket, &allowance, now);
            }
            return Ok(allowance);
        }
        // What goes beyond the limit may be a burst that is allowed once in an hour.
        if self.bucket == Bucket::HookWrites {
            let burst = settings.hook_write_burst(&own);
            if burst > 0 {
                let bucket = (subject, Bucket::HookWriteBurst);
                let beyond = context.limiter.ask(bucket, burst, now).await.map_err(uncounted)?;
                if beyond.granted {
                    return Ok(Allowance { granted: true, ..allowance });
                }
            }
        }
        Err(spent(allowance, now))
    }
}

/// Why a request does not pass, and what is left of its limit.
pub(super) struct Refusal {
    pub(super) error: ApiError,
    pub(super) allowance: Option<Allowance>,
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self { error, allowance: None }
    }
}

/// The refusal of a request beyond its limit.
pub(super) fn spent(allowance: Allowance, now: DateTime<Utc>) -> Refusal {
    Refusal { error: too_many(allowance, now), allowance: Some(allowance) }
}

/// 429 `RATE_LIMITED`, and when to come back.
pub(in crate::access) fn too_many(allowance: Allowance, now: DateTime<Utc>) -> ApiError {
    // The window may have been begun a moment after this request came, or by a gateway whose clock is ahead.
    let wait = (allowance.resets_at - now).to_std().unwrap_or(Duration::ZERO).min(WINDOW);
    let message =
        format!("more than {} requests in a minute, come back when the window ends", allowance.limit);
    ApiError::too_many_requests("RATE_LIMITED", message, wait)
}

/// Writes what is left of a limit into the headers of an answer.
pub(super) fn tell(allowance: &Allowance, headers: &mut HeaderMap) {
    // Rounded up, so that whoever waits until then is not early.
    let millis = allowance.resets_at.timestamp_millis();
    let reset = millis.div_euclid(1000) + i64::from(millis.rem_euclid(1000) > 0);
    headers.insert(LIMIT, HeaderValue::from(allowance.limit));
    headers.insert(REMAINING, HeaderValue::from(allowance.remaining));
    headers.insert(RESET, HeaderValue::from(reset));
}

#[cfg(test)]
mod tests {
    use actix_web::ResponseError;

    use super::*;

    #[test]
    fn the_reset_is_never_told_too_early() {
        let told = |millis| {
            let mut headers = HeaderMap::new();
            let resets_at = DateTime::from_timestamp_millis(millis).unwrap();
            tell(
                &Allowance { granted: true, limit: 60, remaining: 59, resets_at, is_last: false },
                &mut headers,
            );
            ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"]
                .map(|name| headers.get(name).unwrap().to_str().unwrap().to_owned())
        };
        assert_eq!(told(60_000), ["60", "59", "60"]);
        assert_eq!(told(60_001), ["60", "59", "61"]);
    }

    #[test]
    fn waiting_is_told_in_whole_seconds() {
        let at = |millis| DateTime::from_timestamp_millis(millis).unwrap();
        for (now, wait) in
            [(-500, "60"), (0, "60"), (59_001, "1"), (59_999, "1"), (60_000, "1"), (61_000, "1")]
        {
            let resets_at = at(60_000);
            let allowance = Allowance { granted: false, limit: 60, remaining: 0, resets_at, is_last: false };
            let response = spent(allowance, at(now)).error.error_response();
            assert_eq!(response.headers().get("retry-after").unwrap(), wait, "{now}");
        }
    }
}
