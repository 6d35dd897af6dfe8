//! What people see in a browser: log-in, set-up, invitations, their account, questions of tasks, and errors, in English and French.
//!
//! Pure: values in, HTML out. Who may see what, cookies and forms that come back are the gateway's. Pages work without
//! JavaScript; the script only adds comfort. Texts stand beside each page, both languages in one line (`texts!`), so that
//! one that lacks a language does not compile.

#[macro_use]
mod texts;

pub mod account;
pub mod consent;
pub mod error;
mod frame;
pub mod join;
pub mod login;
pub mod provider;
pub mod respond;

pub use frame::{POLICY, SCRIPT, STYLE, csrf_field, notice, page, page_at, policy_with_forms_to};
pub use maud::Markup;
