//! Who goes next: tenants in turn, the endpoints of a tenant in turn, the deliveries of an endpoint in order.
//!
//! An endpoint that cannot go is simply not listed until something about it changes, so that the choice costs the same
//! however many wait.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// A queue of jobs `J` for endpoints `E` of tenants `T`.
#[derive(Debug)]
pub(crate) struct FairQueue<T, E, J> {
    turns: VecDeque<T>,
    tenants: HashMap<T, VecDeque<E>>,
    endpoints: HashMap<E, Waiting<T, J>>,
    len: usize,
    pressing: usize,
}

/// Of the jobs of one endpoint so many count as pressing: however many wait for one, others may bring theirs.
const PRESSING: usize = super::load::ENOUGH / 4;

#[derive(Debug)]
struct Waiting<T, J> {
    tenant: T,
    jobs: VecDeque<J>,
    listed: bool,
}

impl<T: Copy + Eq + Hash, E: Copy + Eq + Hash, J> FairQueue<T, E, J> {
    pub(crate) fn new() -> Self {
        Self {
            turns: VecDeque::new(),
            tenants: HashMap::new(),
            endpoints: HashMap::new(),
            len: 0,
            pressing: 0,
        }
    }

    /// All jobs.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// All jobs, but of each endpoint no more than count as pressing.
    pub(crate) const fn pressing(&self) -> usize {
        self.pressing
    }

    /// The jobs of one endpoint.
    pub(crate) fn waiting(&self, endpoint: E) -> usize {
        self.endpoints.get(&endpoint).map_or(0, |waiting| waiting.jobs.len())
    }

    /// Adds a job behind the others of its endpoint, and lists the endpoint.
    pub(crate) fn push(&mut self, tenant: T, endpoint: E, job: J) {
        let waiting = self.endpoints.entry(endpoint).or_insert_with(|| Waiting {
            tenant,
            jobs: VecDeque::new(),
            listed: false,
        });
        waiting.jobs.push_back(job);
        self.len += 1;
        self.pressing += usize::from(waiting.jobs.len() <= PRESSING);
        self.list(endpoint);
    }

    /// The endpoint whose turn it is. It is not listed any more: [`FairQueue::list`] it again when it may go on.
    pub(crate) fn next(&mut self) -> Option<E> {
        let tenant = self.turns.pop_front()?;
        let endpoints = self.tenants.get_mut(&tenant)?;
        let endpoint = endpoints.pop_front();
        if endpoints.is_empty() {
            self.tenants.remove(&tenant);
        } else {
            self.turns.push_back(tenant);
        }
        let endpoint = endpoint?;
        if let Some(waiting) = self.endpoints.get_mut(&endpoint) {
            waiting.listed = false;
            // All that waited may have been taken from its end.
            if waiting.jobs.is_empty() {
                self.endpoints.remove(&endpoint);
            }
        }
        Some(endpoint)
    }

    /// The endpoints that somebody waits for.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = E> {
        self.endpoints.keys().copied()
    }

    /// The first job of an endpoint.
    pub(crate) fn peek(&self, endpoint: E) -> Option<&J> {
        self.endpoints.get(&endpoint)?.jobs.front()
    }

    /// Takes the first job of an endpoint.
    pub(crate) fn take(&mut self, endpoint: E) -> Option<J> {
        self.take_by(endpoint, VecDeque::pop_front)
    }

    /// Takes the last job of an endpoint.
    pub(crate) fn take_last(&mut self, endpoint: E) -> Option<J> {
        self.take_by(endpoint, VecDeque::pop_back)
    }

    fn take_by(&mut self, endpoint: E, pop: impl FnOnce(&mut VecDeque<J>) -> Option<J>) -> Option<J> {
        let waiting = self.endpoints.get_mut(&endpoint)?;
        let job = pop(&mut waiting.jobs)?;
        self.len -= 1;
        self.pressing -= usize::from(waiting.jobs.len() < PRESSING);
        if waiting.jobs.is_empty() && !waiting.listed {
            self.endpoints.remove(&endpoint);
        }
        Some(job)
    }

    /// Lists an endpoint that has jobs: it gets a turn.
    pub(crate) fn list(&mut self, endpoint: E) {
        let Some(waiting) = self.endpoints.get_mut(&endpoint) else { return };
        if waiting.listed || waiting.jobs.is_empty() {
            return;
        }
        waiting.listed = true;
        let tenant = waiting.tenant;
        let endpoints = self.tenants.entry(tenant).or_default();
        if endpoints.is_empty() {
            self.turns.push_back(tenant);
        }
        endpoints.push_back(endpoint);
    }

    /// Takes every job.
    pub(crate) fn drain(&mut self) -> Vec<J> {
        self.turns.clear();
        self.tenants.clear();
        (self.len, self.pressing) = (0, 0);
        self.endpoints.drain().flat_map(|(_, waiting)| waiting.jobs).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(queue: &mut FairQueue<u8, u8, u32>) -> Vec<u32> {
        let mut order = Vec::new();
        while let Some(endpoint) = queue.next() {
            order.extend(queue.take(endpoint));
            queue.list(endpoint);
        }
        order
    }

    #[test]
    fn tenants_take_turns_and_endpoints_within_them() {
        let mut queue = FairQueue::new();
        for job in 0..6 {
            queue.push(1, 10, job);
        }
        queue.push(1, 11, 100);
        queue.push(2, 20, 200);
        queue.push(2, 20, 201);
        assert_eq!(queue.len(), 9);
        assert_eq!(run(&mut queue), [0, 200, 100, 201, 1, 2, 3, 4, 5]);
        assert_eq!(queue.len(), 0);
        assert!(queue.endpoints.is_empty() && queue.tenants.is_empty() && queue.turns.is_empty());
    }

    #[test]
    fn of_one_endpoint_only_so_many_are_pressing() {
        let mut queue = FairQueue::new();
        for job in 0..u32::try_from(PRESSING).unwrap() + 2 {
            queue.push(1, 10, job);
        }
        queue.push(1, 11, 0);
        assert_eq!((queue.len(), queue.pressing()), (PRESSING + 3, PRESSING + 1));
        assert_eq!((queue.take(10), queue.take_last(10)), (Some(0), Some(PRESSING as u32 + 1)));
        assert_eq!((queue.len(), queue.pressing()), (PRESSING + 1, PRESSING + 1));
        assert_eq!(queue.take(10), Some(1));
        assert_eq!((queue.len(), queue.pressing()), (PRESSING, PRESSING));
        queue.drain();
        assert_eq!((queue.len(), queue.pressing()), (0, 0));
    }

    #[test]
    fn an_endpoint_that_is_not_listed_waits_and_holds_nobody_up() {
        let mut queue = FairQueue::new();
        queue.push(1, 10, 0);
        queue.push(1, 10, 1);
        assert_eq!(queue.next(), Some(10));
        queue.push(2, 20, 200);
        assert_eq!(run(&mut queue), [200]);
        assert_eq!(queue.waiting(10), 2);
        queue.list(10);
        queue.list(10);
        assert_eq!(run(&mut queue), [0, 1]);
    }

    #[test]
    fn an_endpoint_whose_jobs_were_all_taken_from_the_end_is_forgotten() {
        let mut queue = FairQueue::new();
        queue.push(1, 10, 0);
        queue.push(1, 11, 1);
        assert_eq!(queue.take_last(10), Some(0));
        assert_eq!(run(&mut queue), [1]);
        assert!(queue.endpoints.is_empty() && queue.tenants.is_empty() && queue.turns.is_empty());
    }

    #[test]
    fn a_job_that_arrives_for_an_endpoint_that_is_being_served_is_not_lost() {
        let mut queue = FairQueue::new();
        queue.push(1, 10, 0);
        let endpoint = queue.next().unwrap();
        assert_eq!(queue.take(endpoint), Some(0));
        queue.push(1, 10, 1);
        queue.list(endpoint);
        assert_eq!(run(&mut queue), [1]);
    }
}
