//! People: how they get in, what keeps others out, and what they may do with each other.

mod chromium;
mod command;
mod csrf;
mod links;
mod log_in;
mod members;
mod oidc;
mod pages;
mod second_factor;
mod throttling;
