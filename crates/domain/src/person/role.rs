//! What a person may do at a tenant: one of three roles, each with the scopes of those below it.

use std::{fmt, str::FromStr};

use diesel::{
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::{Pg, PgValue},
    sql_types::SmallInt,
};

use crate::credential::{Scope, Scopes};

/// The role of a person at a tenant (contract §1). A greater role may do all that a lesser one may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = SmallInt)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads and writes, and rotates the integration key.
    Developer,
    /// Everything, people and keys included.
    Admin,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Developer, Self::Admin];

    /// The word for it on every wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Developer => "developer",
            Self::Admin => "admin",
        }
    }

    /// What a person with this role may do, in the words of credentials.
    #[must_use]
    pub fn scopes(self) -> Scopes {
        Scope::ALL
            .into_iter()
            .filter(|scope| match self {
                Self::Viewer => scope.reads(),
                Self::Developer => *scope != Scope::Admin,
                Self::Admin => true,
            })
            .collect()
    }

    /// How the database keeps it.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::Viewer => 0,
            Self::Developer => 1,
            Self::Admin => 2,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be admin, developer or viewer")]
pub struct RoleError;

impl FromStr for Role {
    type Err = RoleError;
    fn from_str(text: &str) -> Result<Self, RoleError> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(RoleError)
    }
}

impl FromSql<SmallInt, Pg> for Role {
    fn from_sql(bytes: PgValue<'_>) -> deserialize::Result<Self> {
        let code = <i16 as FromSql<SmallInt, Pg>>::from_sql(bytes)?;
        Self::ALL.into_iter().find(|role| role.code() == code).ok_or_else(|| format!("no role {code}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greater_role_may_all_that_a_lesser_may() {
        for pair in Role::ALL.windows(2) {
            let [lesser, greater] = pair else { unreachable!() };
            assert!(lesser < greater && lesser.scopes().iter().all(|scope| greater.scopes().permit(scope)));
            assert!(greater.scopes().iter().any(|scope| !lesser.scopes().permit(scope)));
        }
    }

    #[test]
    fn a_viewer_reads_and_a_developer_does_not_administrate() {
        assert!(Role::Viewer.scopes().iter().all(|scope| scope.as_str().ends_with(":read")));
        assert!(!Role::Developer.scopes().contains(Scope::Admin));
        assert!(Role::Developer.scopes().contains(Scope::HooksWrite));
        assert_eq!(Role::Admin.scopes(), Scopes::all());
    }

    #[test]
    fn a_role_survives_its_word() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert_eq!("owner".parse::<Role>(), Err(RoleError));
    }
}
