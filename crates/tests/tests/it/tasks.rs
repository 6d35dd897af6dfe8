//! Tasks: the store and the ledger against a real database with a clock that the test moves, and the API.

mod api;
mod claims;
mod ledger;
mod mails;
mod plans;
mod respond;
mod schedules;
mod stage;
mod streams;
