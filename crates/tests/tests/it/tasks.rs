//! Tasks: the store and the ledger against a real database with a clock that the test moves, and the API.

mod claims;
mod ledger;
mod schedules;
mod stage;
