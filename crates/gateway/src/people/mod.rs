//! What people do with themselves: logging in and out, their password, their second factor. The same whether they ask with a
//! page's form or in JSON; how that looks is the handlers'.

pub(crate) mod account;
pub(crate) mod log_in;
pub(crate) mod prove;
pub(crate) mod provider;
pub(crate) mod with_provider;
