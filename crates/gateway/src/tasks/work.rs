//! Workers that wait for work: one query for all of them, four times a second, and at once for tasks that are made at this
//! gateway.
//!
//! Workers that want the same stand in one line, and one of them is woken at a time: whoever gets something wakes the next.
//! So a fleet of hundreds that waits costs no more than one worker, and a task wakes one of them and not all.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hookyard_domain::{
    db::Db,
    id::TenantId,
    task::{AgentType, claim},
};
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

/// How often the database is asked while somebody waits.
const EVERY: Duration = Duration::from_millis(250);
/// Hints that are kept for a listener that is slow; more are lost, and told again while work waits.
const KEPT: usize = 16;

/// What a worker wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Wish {
    /// Whose tasks.
    pub(crate) tenant: TenantId,
    /// Of which types, in order.
    pub(crate) agent_types: Vec<AgentType>,
    /// With which models; `None` = any.
    pub(crate) models: Option<Vec<String>>,
    /// What else it is able to do.
    pub(crate) capabilities: Vec<String>,
}

/// Workers that want the same.
#[derive(Debug, Default)]
struct Line {
    waiting: usize,
    /// Wakes the one that has waited longest.
    next: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Inner {
    lines: HashMap<Wish, Line>,
    hints: HashMap<TenantId, broadcast::Sender<AgentType>>,
}

/// Those who wait for work at this gateway.
#[derive(Debug, Default)]
pub(crate) struct Work {
    inner: Mutex<Inner>,
    /// Somebody came.
    came: Notify,
}

/// A place in a line; it is left when this is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    work: &'a Work,
    wish: Wish,
    next: Arc<Notify>,
}

impl Place<'_> {
    /// There may be something, and it is this one's turn.
    pub(crate) async fn turn(&self) {
        self.next.notified().await;
    }

    /// There was something: there may be more, for the next in line.
    pub(crate) fn pass_on(&self) {
        self.next.notify_one();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut inner = self.work.inner();
        if let Some(line) = inner.lines.get_mut(&self.wish) {
            line.waiting -= 1;
            if line.waiting == 0 {
                inner.lines.remove(&self.wish);
            }
        }
    }
}

impl Work {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stands in line.
    pub(crate) fn wait(&self, wish: Wish) -> Place<'_> {
        let next = {
            let mut inner = self.inner();
            let line = inner.lines.entry(wish.clone()).or_default();
            line.waiting += 1;
            Arc::clone(&line.next)
        };
        self.came.notify_one();
        Place { work: self, wish, next }
    }

    /// Hears which types of work wait at a tenant, again and again while they do.
    pub(crate) fn hints(&self, tenant: TenantId) -> broadcast::Receiver<AgentType> {
        let receiver =
            self.inner().hints.entry(tenant).or_insert_with(|| broadcast::channel(KEPT).0).subscribe();
        self.came.notify_one();
        receiver
    }

    /// There may be work of these types: one worker of each line that could do it is woken.
    pub(crate) fn ring(&self, queued: &[(TenantId, AgentType)]) {
        let inner = self.inner();
        for (wish, line) in &inner.lines {
            let could = |(tenant, agent): &(TenantId, AgentType)| {
                *tenant == wish.tenant && wish.agent_types.contains(agent)
            };
            if queued.iter().any(could) {
                line.next.notify_one();
            }
        }
        for (tenant, agent) in queued {
            if let Some(sender) = inner.hints.get(tenant) {
                // Nobody may be listening any more.
                let _nobody = sender.send(*agent);
            }
        }
    }

    /// Wakes everybody of a tenant who waits: something else has changed than the work.
    pub(crate) fn wake(&self, tenant: TenantId) {
        for (wish, line) in &self.inner().lines {
            if wish.tenant == tenant {
                line.next.notify_waiters();
            }
        }
    }

    /// How many workers wait.
    pub(crate) fn count(&self) -> usize {
        self.inner().lines.values().map(|line| line.waiting).sum()
    }

    /// Whose work is waited for; those to whom nobody listens any more are forgotten.
    fn tenants(&self) -> Vec<TenantId> {
        let mut inner = self.inner();
        inner.hints.retain(|_, sender| sender.receiver_count() > 0);
        let mut tenants: Vec<TenantId> =
            inner.lines.keys().map(|wish| wish.tenant).chain(inner.hints.keys().copied()).collect();
        tenants.sort_unstable();
        tenants.dedup();
        tenants
    }

    /// Asks for all who wait until `stop` is cancelled.
    pub(crate) async fn run(&self, db: &Db, stop: CancellationToken) {
        loop {
            let tenants = self.tenants();
            if tenants.is_empty() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.came.notified() => continue,
                }
            }
            match db.once(move |conn| claim::waiting(conn, &tenants)).await {
                Ok(waiting) => {
                    let queued: Vec<_> = waiting.iter().map(|row| (row.tenant_id, row.agent_type)).collect();
                    self.ring(&queued);
                }
                Err(error) => tracing::debug!(error = error.chain(), "workers wait for the database"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn wish(tenant: u128, agent_types: &[AgentType]) -> Wish {
        Wish {
            tenant: TenantId::from_uuid(Uuid::from_u128(tenant)),
            agent_types: agent_types.to_vec(),
            models: None,
            capabilities: Vec::new(),
        }
    }

    async fn woken(place: &Place<'_>) -> bool {
        tokio::time::timeout(Duration::from_millis(20), place.turn()).await.is_ok()
    }

    #[tokio::test]
    async fn one_of_those_who_want_the_same_is_woken_and_wakes_the_next() {
        let work = Work::default();
        let (first, second) =
            (work.wait(wish(1, &[AgentType::Build])), work.wait(wish(1, &[AgentType::Build])));
        let (other_type, other_tenant) =
            (work.wait(wish(1, &[AgentType::Explore])), work.wait(wish(2, &[AgentType::Build])));
        assert_eq!(work.count(), 4);
        work.ring(&[(first.wish.tenant, AgentType::Build)]);
        assert_eq!([woken(&first).await, woken(&second).await], [true, false]);
        assert_eq!([woken(&other_type).await, woken(&other_tenant).await], [false, false]);
        first.pass_on();
        assert!(woken(&second).await);
        drop((first, second, other_type, other_tenant));
        assert_eq!((work.count(), work.tenants()), (0, Vec::new()));
    }

    #[tokio::test]
    async fn hints_are_heard_by_all_of_the_tenant() {
        let work = Work::default();
        let (ours, theirs) = (wish(1, &[]).tenant, wish(2, &[]).tenant);
        let (mut one, mut two, mut three) = (work.hints(ours), work.hints(ours), work.hints(theirs));
        assert_eq!(work.tenants(), [ours, theirs]);
        work.ring(&[(ours, AgentType::Build)]);
        assert_eq!((one.try_recv(), two.try_recv()), (Ok(AgentType::Build), Ok(AgentType::Build)));
        assert!(three.try_recv().is_err());
    }
}
