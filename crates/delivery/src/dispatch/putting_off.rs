//! What cannot go now goes back to the schedule (docs/decisions/0061).

use std::time::Instant;

use chrono::{DateTime, Utc};
use hookyard_domain::id::SubscriptionId;
use hookyard_messaging::Lane;

use super::{Dispatcher, at, backlog::PutOff, endpoint::Endpoint};
use crate::{job::Job, settle::Note};

impl Dispatcher {
    /// Puts everything of an endpoint back on the schedule.
    pub(super) async fn send_away(
        &mut self,
        lane: Lane,
        id: SubscriptionId,
        until: Instant,
        (now, utc): (Instant, DateTime<Utc>),
    ) {
        while let Some(job) = self.lane(lane).queue.take(id) {
            self.park_at_place(job, until, (now, utc)).await;
        }
    }

    /// Puts a delivery back on the schedule, behind those of its endpoint that are there.
    pub(super) async fn park_at_place(
        &mut self,
        job: Job,
        not_before: Instant,
        (now, utc): (Instant, DateTime<Utc>),
    ) {
        let bounds = self.bounds;
        self.put_off += 1;
        let put_off = PutOff { number: self.put_off, written: self.deps.settler.parked() };
        let fetched = (!self.has_a_pace(&job.hook)).then_some(put_off);
        let endpoint = self.endpoints.entry(job.hook.id).or_insert_with(|| Endpoint::new(&bounds, now));
        let place = endpoint.place(&job.held, fetched, not_before, now);
        self.put_back(job, at(place, now, utc), fetched.map(|one| one.number)).await;
    }

    /// Puts a delivery back on the schedule, from which it is not fetched before its time.
    pub(super) async fn park(&self, job: Job, at: DateTime<Utc>) {
        self.put_back(job, at, None).await;
    }

    async fn put_back(&self, job: Job, at: DateTime<Utc>, number: Option<u64>) {
        self.deps.metrics.parked();
        self.deps.settler.note(Note::Parked { held: job.held, at, number }).await;
    }

    /// Puts deliveries back on the schedule, all at one place.
    pub(super) async fn park_all(&self, jobs: Vec<Job>, at: DateTime<Utc>) {
        for job in jobs {
            self.park(job, at).await;
        }
    }
}
