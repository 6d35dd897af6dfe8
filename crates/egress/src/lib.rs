//! The only door out: every request that Hookyard sends to a receiver or an identity provider goes through [`Egress`] (contract §9).
//!
//! It is a guard around two pooled HTTP clients: one for receivers, one for what is fetched. The guard refuses
//! whatever points into our own network: by literal address before a request is sent, by name inside the resolver at the moment of connecting, so that a name
//! which changes its answer gains nothing. Redirects are answers, never followed; proxies of the environment are
//! ignored; one deadline covers names, connection, TLS, headers and body; of a receiver's reply no more than 64 KiB is read,
//! of what is fetched from a service that we ask no more than 1 MiB.
//!
//! What the operator named, and tenants cannot, has a door of its own: [`Services`], for replies that are streams.
//!
//! It is not a policy of retries (that is the delivery's) and not a rule of which hook addresses Zapier uses (that is
//! the domain's): it knows neither tenants nor events.
//!
//! Known limits. A literal port is not judged. The system's resolver is synchronous: how many threads slow name
//! servers can hold is bounded, so that many of them at once make other *new* connections wait.

mod address;
mod certificate;
mod client;
mod failure;
mod pool;
mod resolver;
mod retry_after;
mod services;
mod settings;
mod target;
mod tls;

pub use address::Reason;
pub use certificate::{Certificate, CertificateError, Identity};
pub use client::{Egress, Fetched, MAX_FETCHED, MAX_KEPT, MAX_READ, Reply, Request};
pub use failure::{Failure, FailureKind};
pub use http::Method;
pub use http::header::{HeaderMap, HeaderName, HeaderValue};
pub use resolver::{Answer, Resolver};
pub use retry_after::RetryAfter;
pub use services::{Opened, Services};
pub use settings::{Settings, SetupError};
pub use target::{Refusal, host_of};
