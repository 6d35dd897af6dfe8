//! Memory for bodies: so much for all of them, and where it is scarce no endpoint that is slow keeps more than its share, so that large
//! events that wait for one do not keep everybody's waiting (invariant 6, docs/decisions/0060).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Endpoints that it takes to fill the memory; as many as can take all slots of first tries.
const ENDPOINTS: usize = 8;

/// The memory of a process.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    free: Arc<Semaphore>,
    kib: u32,
}

impl Memory {
    pub(crate) fn new(mib: usize) -> Self {
        let kib = u32::try_from(mib * 1024).unwrap_or(u32::MAX);
        Self { free: Arc::new(Semaphore::new(kib as usize)), kib }
    }

    /// Room for a body, if there is some.
    pub(crate) fn try_take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_many_owned(self.kib_of(bytes)).ok()
    }

    /// Room for a body, as soon as there is some. `None` never happens: nobody closes the memory.
    pub(crate) async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).acquire_many_owned(self.kib_of(bytes)).await.ok()
    }

    /// One body that is larger than all the memory gets all of it.
    fn kib_of(&self, bytes: usize) -> u32 {
        u32::try_from(bytes / 1024).unwrap_or(u32::MAX).saturating_add(1).min(self.kib)
    }

    /// Whether an endpoint that holds some may have so much more now.
    pub(crate) fn has_room(&self, held: &Held, bytes: usize) -> bool {
        let held = held.bytes();
        held == 0 || !self.is_scarce() || held + bytes <= self.share()
    }

    /// An endpoint's share, in bytes.
    pub(crate) const fn share(&self) -> usize {
        self.kib as usize * 1024 / ENDPOINTS
    }

    /// Whether less than half of it is free.
    pub(crate) fn is_scarce(&self) -> bool {
        self.free.available_permits() < self.kib as usize / 2
    }
}

/// Bytes of bodies that are counted together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held(Arc<AtomicUsize>);

impl Held {
    /// How many.
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts a body until the result is dropped.
    pub(crate) fn hold(&self, bytes: usize) -> Share {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Share { held: self.clone(), bytes }
    }
}

/// A body that counts as held.
#[derive(Debug)]
pub(crate) struct Share {
    held: Held,
    bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_endpoint_gets_no_more_than_its_share_of_what_is_scarce() {
        let (memory, one, other) = (Memory::new(4), Held::default(), Held::default());
        let share = memory.share();
        let first = one.hold(share);
        assert!(memory.has_room(&one, 1), "there is enough for everybody");
        let taken = memory.take(2 * 1024 * 1024).await.unwrap();
        assert!(!memory.has_room(&one, 1));
        assert!(memory.has_room(&other, 2 * share), "the first always has room");
        let _second = other.hold(1);
        assert!(memory.has_room(&other, share - 1) && !memory.has_room(&other, share));
        drop(first);
        assert!(memory.has_room(&one, 1));
        let _first = one.hold(share);
        drop(taken);
        assert!(memory.has_room(&one, 1));
    }

    #[tokio::test]
    async fn a_body_that_is_larger_than_all_gets_all() {
        let memory = Memory::new(4);
        let all = memory.take(1 << 30).await;
        assert_eq!(memory.free.available_permits(), 0);
        assert!(memory.try_take(0).is_none());
        drop(all);
        assert_eq!(memory.free.available_permits(), 4 * 1024);
    }
}
