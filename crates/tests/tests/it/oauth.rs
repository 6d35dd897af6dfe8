//! OAuth from outside: people in browsers, apps at the token endpoint, and what either may try.

mod abuse;
mod authorize;
mod commands;
mod consent;
mod exchange;
mod introspection;
mod libraries;
mod management;
mod refresh;
mod stage;
mod zapier;
