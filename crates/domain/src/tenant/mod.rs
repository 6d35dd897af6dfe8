//! Tenants: the customers of an installation, who own everything else.

pub mod store;

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    sql_types::{Bool, Text, Timestamptz, Uuid},
};

use crate::id::TenantId;

/// The longest name of a tenant or credential, in characters.
pub const MAX_NAME_CHARS: usize = 50;

/// A tenant.
#[derive(Clone, Debug, QueryableByName)]
pub struct Tenant {
    /// Identity; also its Client ID.
    #[diesel(sql_type = Uuid)]
    pub id: TenantId,
    /// Name, for people.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// Whether it has a secret for `X-TriggersAPI-Signature`.
    #[diesel(sql_type = Bool)]
    pub signs: bool,
    /// When it was made.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
}

/// Checks the name of a tenant or a credential: 1 to 50 characters, not only spaces, no control characters.
///
/// # Errors
/// Says what is wrong, continuing "name".
pub fn check_name(name: &str) -> Result<(), String> {
    let length = name.chars().count();
    if name.trim().is_empty() {
        Err("must not be empty".to_owned())
    } else if length > MAX_NAME_CHARS {
        Err(format!("must have at most {MAX_NAME_CHARS} characters, not {length}"))
    } else if name.chars().any(char::is_control) {
        Err("must not contain control characters".to_owned())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded() {
        assert!(check_name(&"é".repeat(MAX_NAME_CHARS)).is_ok());
        assert!(check_name(&"é".repeat(MAX_NAME_CHARS + 1)).is_err());
        assert!(check_name("  ").is_err());
        assert!(check_name("a\nb").is_err());
    }
}
