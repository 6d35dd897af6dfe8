//! What a credential may do.

use std::{fmt, str::FromStr};

/// One permission (contract §1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Read tasks.
    TasksRead,
    /// Make and change tasks.
    TasksWrite,
    /// Read what automation did.
    AutomationRead,
    /// Run automation.
    AutomationWrite,
    /// Read hooks and their deliveries.
    HooksRead,
    /// Subscribe, change and test hooks.
    HooksWrite,
    /// Read events.
    EventsRead,
    /// Post events.
    EventsWrite,
    /// Everything.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 9] = [
        Self::TasksRead,
        Self::TasksWrite,
        Self::AutomationRead,
        Self::AutomationWrite,
        Self::HooksRead,
        Self::HooksWrite,
        Self::EventsRead,
        Self::EventsWrite,
        Self::Admin,
    ];

    /// The word for it on every wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TasksRead => "tasks:read",
            Self::TasksWrite => "tasks:write",
            Self::AutomationRead => "automation:read",
            Self::AutomationWrite => "automation:write",
            Self::HooksRead => "hooks:read",
            Self::HooksWrite => "hooks:write",
            Self::EventsRead => "events:read",
            Self::EventsWrite => "events:write",
            Self::Admin => "admin",
        }
    }

    /// Whether it permits reading only.
    #[must_use]
    pub const fn reads(self) -> bool {
        match self {
            Self::TasksRead | Self::AutomationRead | Self::HooksRead | Self::EventsRead => true,
            Self::TasksWrite | Self::AutomationWrite | Self::HooksWrite | Self::EventsWrite | Self::Admin => {
                false
            }
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a scope; the scopes are {all}", all = Scopes::all())]
pub struct ScopeError(String);

impl FromStr for Scope {
    type Err = ScopeError;
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let shown: String = text.chars().take(40).collect();
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(ScopeError(shown))
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u16);

impl Scopes {
    /// Every scope there is.
    #[must_use]
    pub fn all() -> Self {
        Scope::ALL.into_iter().collect()
    }

    /// Whether this set permits what needs `scope`. `admin` permits everything.
    #[must_use]
    pub const fn permit(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }

    /// Whether `scope` itself is in the set.
    #[must_use]
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The scopes in the set.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |set, scope| set | scope.bit()))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, scope) in self.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{scope}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_permits_itself_and_admin_permits_all() {
        for one in Scope::ALL {
            assert_eq!(one.as_str().parse(), Ok(one));
            let set: Scopes = [one].into_iter().collect();
            for needed in Scope::ALL {
                assert_eq!(set.permit(needed), one == needed || one == Scope::Admin, "{one} for {needed}");
            }
        }
        assert!("hooks".parse::<Scope>().unwrap_err().to_string().contains("events:write"));
    }
}
