//! Counting what no credential counts: routes that everybody may ask, and that cost something, count by the peer's address, in
//! the bucket in which wrong keys are counted; pages count by the person who is logged in.

use std::net::IpAddr;

use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{credential::Limits, id::UserId, rate_limit::Bucket};
use uuid::Uuid;

use super::{checkpoint::limit::too_many, peer};
use crate::context::Context;

/// Counts a request of a peer that showed nothing.
///
/// # Errors
/// 429 beyond the limit of peers, 503 when it cannot be counted.
pub(crate) async fn count(context: &Context, address: Option<IpAddr>) -> Result<(), ApiError> {
    let limit = context.settings.gateway.limit(Bucket::Unauthenticated, &Limits::default());
    ask(context, peer::subject(address), Bucket::Unauthenticated, limit).await
}

/// Counts a request of a person's browser.
///
/// # Errors
/// 429 beyond the limit of people, 503 when it cannot be counted.
pub(crate) async fn count_person(context: &Context, person: UserId) -> Result<(), ApiError> {
    let settings = &context.settings.gateway;
    let limit = settings.limit(Bucket::Requests, &settings.person_limits());
    ask(context, person.uuid(), Bucket::Requests, limit).await
}

async fn ask(context: &Context, subject: Uuid, bucket: Bucket, limit: u32) -> Result<(), ApiError> {
    if limit == 0 {
        return Ok(());
    }
    let now = context.clock.now();
    let allowance = context.limiter.ask((subject, bucket), limit, now).await?;
    if allowance.granted { Ok(()) } else { Err(too_many(allowance, now)) }
}
