//! The pace that all deliveries to a set of hosts share: a token bucket per second, and a count per window
//! (contract §3, for Zapier's own limits).

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::settings::DestinationLimit;

/// The limits of all host sets.
#[derive(Debug)]
pub(crate) struct Destinations {
    buckets: Vec<Bucket>,
    by_host: HashMap<String, usize>,
}

#[derive(Debug)]
struct Bucket {
    per_second: f64,
    tokens: f64,
    filled_at: Instant,
    per_window: u32,
    window: Duration,
    window_started: Instant,
    used: u32,
    /// Where the next delivery is put that has to wait in the schedule.
    next_place: Instant,
}

/// Which host set a URL belongs to, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Destination(usize);

impl Destinations {
    pub(crate) fn new(limits: &[DestinationLimit], now: Instant) -> Self {
        let mut by_host = HashMap::new();
        let mut buckets = Vec::new();
        for limit in limits {
            for host in &limit.hosts {
                by_host.insert(host.to_ascii_lowercase(), buckets.len());
            }
            buckets.push(Bucket {
                per_second: f64::from(limit.per_second),
                tokens: f64::from(limit.per_second),
                filled_at: now,
                per_window: limit.per_window,
                window: Duration::from_secs(u64::from(limit.window_s)),
                window_started: now,
                used: 0,
                next_place: now,
            });
        }
        Self { buckets, by_host }
    }

    /// The host set of a URL.
    pub(crate) fn of(&self, url: &url::Url) -> Option<Destination> {
        if self.buckets.is_empty() {
            return None;
        }
        self.by_host.get(url.host_str()?).copied().map(Destination)
    }

    /// Takes a token, or says where in the schedule the delivery goes instead.
    pub(crate) fn take(&mut self, destination: Destination, now: Instant) -> Result<(), Instant> {
        let Some(bucket) = self.buckets.get_mut(destination.0) else { return Ok(()) };
        bucket.take(now)
    }
}

impl Bucket {
    fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let since = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.tokens = (self.tokens + since * self.per_second).min(self.per_second);
        self.filled_at = now;
        if now.saturating_duration_since(self.window_started) >= self.window {
            self.window_started = now;
            self.used = 0;
        }
        let window_over = (self.used >= self.per_window).then(|| self.window_started + self.window);
        if window_over.is_none() && self.tokens >= 1.0 {
            self.tokens -= 1.0;
            self.used += 1;
            return Ok(());
        }
        let step = Duration::from_secs_f64(1.0 / self.per_second);
        let earliest = window_over.unwrap_or(now + step);
        let place = self.next_place.max(earliest);
        self.next_place = place + step;
        Err(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zapier() -> Vec<DestinationLimit> {
        vec![DestinationLimit {
            hosts: vec!["hooks.zapier.com".to_owned()],
            per_second: 25,
            per_window: 60,
            window_s: 300,
        }]
    }

    #[test]
    fn a_second_lets_25_through_and_the_26th_waits() {
        let now = Instant::now();
        let mut all = Destinations::new(&zapier(), now);
        let url = "https://hooks.zapier.com/hooks/standard/1/2/".parse().unwrap();
        let zapier = all.of(&url).unwrap();
        for _ in 0..25 {
            assert_eq!(all.take(zapier, now), Ok(()));
        }
        let first = all.take(zapier, now).unwrap_err();
        let second = all.take(zapier, now).unwrap_err();
        assert_eq!(first - now, Duration::from_millis(40));
        assert_eq!(second - now, Duration::from_millis(80), "one after the other, at the pace");
        assert_eq!(all.take(zapier, now + Duration::from_millis(40)), Ok(()));
        assert_eq!(all.of(&"https://example.com/".parse().unwrap()), None);
    }

    #[test]
    fn a_window_lets_60_through_and_the_61st_waits_for_the_next() {
        let start = Instant::now();
        let mut all = Destinations::new(&zapier(), start);
        let zapier = Destination(0);
        for n in 0..60 {
            assert_eq!(all.take(zapier, start + Duration::from_secs(n)), Ok(()));
        }
        let now = start + Duration::from_secs(60);
        assert_eq!(all.take(zapier, now), Err(start + Duration::from_secs(300)));
        assert_eq!(all.take(zapier, start + Duration::from_secs(300)), Ok(()));
    }
}
