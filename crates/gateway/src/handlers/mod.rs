//! The handlers: each parses, calls, renders. Access is decided before them, in `access`; which handler answers what
//! stands in `routes`.

pub(crate) mod activity;
pub(crate) mod audit;
mod audited;
pub(crate) mod automation;
pub(crate) mod consumers;
pub(crate) mod dead_letters;
pub(crate) mod deliveries;
pub(crate) mod delivery_view;
mod endpoints;
pub(crate) mod event_payload;
mod event_stream;
pub(crate) mod event_types;
pub(crate) mod events;
mod fields;
pub(crate) mod gaps;
pub(crate) mod health;
mod hook_view;
pub(crate) mod hooks;
pub(crate) mod inboxes;
pub(crate) mod invitations;
pub(crate) mod keys;
pub(crate) mod messages;
pub(crate) mod oauth;
pub(crate) mod ops;
pub(crate) mod pages;
pub(crate) mod preview;
mod record_view;
pub(crate) mod recoveries;
pub(crate) mod replay;
pub(crate) mod rings;
pub(crate) mod samples;
pub(crate) mod session;
pub(crate) mod signing_keys;
pub(crate) mod users;
pub(crate) mod v2;
pub(crate) mod zapier;
