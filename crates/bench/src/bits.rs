//! A growing set of small numbers, one bit each. Not a general collection: numbers are only added.

/// The set; empty at first.
#[derive(Default)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    /// Adds `i`; true when it was not in the set.
    pub(crate) fn insert(&mut self, i: usize) -> bool {
        if self.0.len() <= i / 64 {
            self.0.resize(i / 64 + 1, 0);
        }
        let mask = 1 << (i % 64);
        let fresh = self.0[i / 64] & mask == 0;
        self.0[i / 64] |= mask;
        fresh
    }

    /// Whether `i` is in the set.
    pub(crate) fn contains(&self, i: usize) -> bool {
        self.0.get(i / 64).is_some_and(|word| word & (1 << (i % 64)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_fresh_once() {
        let mut bits = Bits::default();
        assert!(!bits.contains(130));
        assert!(bits.insert(130));
        assert!(!bits.insert(130));
        assert!(bits.contains(130) && !bits.contains(129) && !bits.contains(100_000));
    }
}
