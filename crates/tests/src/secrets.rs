//! The master key of tests: the one that every database of a test knows from the start.

use hookyard_domain::vault::{MasterKey, Vault};

/// As processes are told it.
pub const MASTER_KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

/// As services in this process are given it.
pub fn vault() -> Vault {
    Vault::new(MasterKey::from_bytes([7; 32]), Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_the_same_key() {
        assert_eq!(MasterKey::parse(MASTER_KEY).unwrap().id(), vault().current());
    }
}
