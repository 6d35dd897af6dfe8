//! One endpoint, with a clock that the test moves.

use std::time::{Duration, Instant};

use chrono::DateTime;
use hookyard_domain::{
    delivery::{HeldDelivery, Profile},
    id::{ClaimId, DeliveryId, EventId, SubscriptionId, TenantId},
};
use hookyard_messaging::Lane;

use super::{
    backlog::PutOff,
    endpoint::{Bounds, Endpoint, Gate, Sign, Turn, part},
};

/// Put off, and written meanwhile.
const WRITTEN: Option<PutOff> = Some(PutOff { number: 1, written: 1 });

const BOUNDS: Bounds = Bounds {
    in_flight: 2,
    bytes: 1_000,
    breaker_failures: 3,
    cooldown: Duration::from_secs(1),
    max_cooldown: Duration::from_secs(4),
};
const MS: Duration = Duration::from_millis(1);

#[test]
fn the_cap_holds_at_n_and_n_plus_one() {
    let now = Instant::now();
    let mut endpoint = Endpoint::new(&BOUNDS, Instant::now());
    endpoint.begin(Instant::now());
    assert_eq!(endpoint.gate(now), Gate::Open);
    endpoint.begin(Instant::now());
    assert_eq!(endpoint.gate(now), Gate::Full);
    endpoint.end(&BOUNDS, Sign::Answered, MS, now);
    assert_eq!(endpoint.gate(now), Gate::Open);
}

#[test]
fn no_more_bytes_are_on_their_way_and_one_body_always_is() {
    let now = Instant::now();
    let mut endpoint = Endpoint::new(&BOUNDS, now);
    let _small = endpoint.sent.hold(999);
    endpoint.begin(now);
    assert_eq!(endpoint.gate(now), Gate::Open);
    let last = endpoint.sent.hold(1);
    assert_eq!(endpoint.gate(now), Gate::Full);
    drop(last);
    assert_eq!(endpoint.gate(now), Gate::Open);
    let _large = endpoint.sent.hold(5_000);
    endpoint.lose();
    assert_eq!(endpoint.gate(now), Gate::Open, "nothing that ends would come back to it");
}

#[test]
fn the_breaker_opens_lets_one_probe_through_and_closes() {
    let start = Instant::now();
    let mut endpoint = Endpoint::new(&BOUNDS, Instant::now());
    let fail = |endpoint: &mut Endpoint, now| {
        endpoint.begin(Instant::now());
        endpoint.end(&BOUNDS, Sign::Ill, MS, now)
    };
    let open = |since, until, failures| Some(Turn::Open { since, until, failures });
    assert_eq!(fail(&mut endpoint, start), None);
    assert_eq!(fail(&mut endpoint, start), None);
    assert_eq!(endpoint.gate(start), Gate::Open, "two failures are not enough");
    assert_eq!(fail(&mut endpoint, start), open(start, start + Duration::from_secs(1), 3));
    let reopened = start + Duration::from_secs(1);
    assert_eq!(endpoint.gate(start), Gate::Broken(reopened));
    assert_eq!(endpoint.gate(reopened), Gate::Open);
    endpoint.begin(Instant::now());
    assert_eq!(endpoint.gate(reopened), Gate::Full, "one probe at a time");
    let later = reopened + Duration::from_secs(2);
    assert_eq!(endpoint.end(&BOUNDS, Sign::Ill, MS, reopened), open(start, later, 4));
    assert_eq!(endpoint.gate(reopened), Gate::Broken(later), "twice as long");
    endpoint.begin(Instant::now());
    assert_eq!(endpoint.end(&BOUNDS, Sign::Answered, MS, later), Some(Turn::Closed));
    endpoint.begin(Instant::now());
    assert_eq!(endpoint.end(&BOUNDS, Sign::Answered, MS, later), None, "told once");
    assert_eq!(endpoint.gate(later), Gate::Open);
}

#[test]
fn the_cooldown_is_bounded() {
    let mut now = Instant::now();
    let mut endpoint = Endpoint::new(&BOUNDS, Instant::now());
    for _ in 0..20 {
        if let Gate::Broken(until) = endpoint.gate(now) {
            assert!(until - now <= BOUNDS.max_cooldown);
            now = until;
        }
        endpoint.begin(Instant::now());
        endpoint.end(&BOUNDS, Sign::Ill, MS, now);
    }
}

#[test]
fn a_late_failure_of_a_try_from_before_does_not_count_as_a_probe() {
    let now = Instant::now();
    let mut endpoint = Endpoint::new(&BOUNDS, Instant::now());
    for _ in 0..4 {
        endpoint.begin(Instant::now());
    }
    for _ in 0..4 {
        endpoint.end(&BOUNDS, Sign::Ill, MS, now);
    }
    assert_eq!(endpoint.gate(now), Gate::Broken(now + BOUNDS.cooldown), "not doubled");
}

#[test]
fn a_pause_holds_the_whole_endpoint_and_the_longest_counts() {
    let now = Instant::now();
    let mut endpoint = Endpoint::new(&BOUNDS, Instant::now());
    endpoint.begin(Instant::now());
    endpoint.end(&BOUNDS, Sign::Pause(now + Duration::from_secs(9)), MS, now);
    endpoint.begin(Instant::now());
    endpoint.end(&BOUNDS, Sign::Pause(now + Duration::from_secs(2)), MS, now);
    assert_eq!(endpoint.gate(now), Gate::Paused(now + Duration::from_secs(9)));
    assert_eq!(endpoint.gate(now + Duration::from_secs(9)), Gate::Open);
}

#[test]
fn one_that_asks_for_a_pause_gets_less_afterwards_than_it_took_before() {
    let start = Instant::now();
    let mut endpoint = Endpoint::new(&BOUNDS, start);
    // 200 in a second, 20 in each tenth of it.
    for now in (0..200_u32).map(|n| start + 5 * n * MS) {
        assert_eq!(endpoint.gate(now), Gate::Open);
        endpoint.begin(now);
        endpoint.end(&BOUNDS, Sign::Answered, MS, now);
    }
    assert_eq!(endpoint.room(&BOUNDS), 2_048, "nothing speaks for a limit yet");
    let (asked, over) = (start + 996 * MS, start + Duration::from_secs(3));
    endpoint.begin(asked);
    endpoint.end(&BOUNDS, Sign::Pause(over), MS, asked);
    assert_eq!(endpoint.gate(asked), Gate::Paused(over));
    let room = endpoint.room(&BOUNDS);
    assert!(
        (200..=380).contains(&room),
        "two seconds of a little less than the 200 that it took in one: {room}"
    );
    // When it may be called again, a few go at once and the others at this pace.
    let mut at_once = 0;
    while endpoint.gate(over) == Gate::Open {
        endpoint.begin(over);
        endpoint.lose();
        at_once += 1;
        assert!(at_once < 10, "nothing holds it back");
    }
    assert!(matches!(endpoint.gate(over), Gate::Later(until) if until - over < 10 * MS), "{at_once}");
    // Another that was under way and says the same takes nothing more away.
    endpoint.begin(asked);
    endpoint.end(&BOUNDS, Sign::Pause(over), MS, asked + MS);
    assert_eq!(endpoint.room(&BOUNDS), room);
}

#[test]
fn one_that_falls_silent_is_not_taken_for_fast_any_more() {
    let start = Instant::now();
    let mut endpoint = Endpoint::new(&BOUNDS, start);
    endpoint.begin(start);
    assert!(!endpoint.takes_soon(1, start), "it has not replied yet");
    endpoint.end(&BOUNDS, Sign::Answered, MS, start);
    assert!(endpoint.takes_soon(400, start), "two at once, 1 ms each");
    let later = start + Duration::from_secs(10);
    assert!(endpoint.takes_soon(400, later), "nothing is under way");
    endpoint.begin(later);
    assert!(endpoint.takes_soon(400, later + Duration::from_millis(250)), "a short silence says nothing");
    let silent = later + Duration::from_millis(500);
    assert!(endpoint.takes_soon(1, silent) && !endpoint.takes_soon(2, silent), "four a second");
    assert_eq!((endpoint.room(&BOUNDS), endpoint.least_room(&BOUNDS, silent)), (2_048, 8));
    endpoint.begin(silent);
    assert!(!endpoint.takes_soon(2, silent), "another that begins is no reply");
    endpoint.end(&BOUNDS, Sign::Answered, MS, silent);
    assert!(endpoint.takes_soon(400, silent));
}

/// A delivery that was tried so often.
fn held(attempts: u16) -> HeldDelivery {
    let at = DateTime::UNIX_EPOCH;
    HeldDelivery {
        id: DeliveryId { event: EventId::new(at), subscription: SubscriptionId::new(at) },
        tenant: TenantId::new(at),
        profile: Profile::Hook,
        tries: attempts,
        attempts,
        deferrals: 0,
        due_at: at,
        claim: ClaimId::new(at),
        lease_until: at,
        ordered: false,
        expires_at: None,
        sequence: None,
    }
}

#[test]
fn who_waits_in_the_schedule_comes_back_at_the_endpoints_pace_and_each_lane_by_itself() {
    let now = Instant::now();
    let mut endpoint = Endpoint::new(&BOUNDS, now);
    endpoint.begin(now);
    endpoint.end(&BOUNDS, Sign::Ill, Duration::from_secs(2), now); // 2 at once, 2 s each: 1/s
    assert_eq!(endpoint.room(&BOUNDS), 2);
    let place = |endpoint: &mut Endpoint, attempts| endpoint.place(&held(attempts), WRITTEN, now, now) - now;
    let places = [0, 0, 1].map(|attempts| place(&mut endpoint, attempts));
    assert_eq!(places, [500, 1_500, 500].map(Duration::from_millis));
    endpoint.begin(now);
    endpoint.end(&BOUNDS, Sign::Answered, MS, now);
    assert_eq!(place(&mut endpoint, 0), Duration::from_millis(2_500), "behind those before");
    endpoint.end(&BOUNDS, Sign::Pause(now + MS), MS, now);
    assert_eq!(place(&mut endpoint, 0), Duration::from_millis(500), "where the pause ends");
}

#[test]
fn nothing_is_fetched_for_one_that_is_left_alone() {
    let (now, retry) = (Instant::now(), held(1));
    let mut endpoint = Endpoint::new(&BOUNDS, now);
    endpoint.begin(now);
    endpoint.end(&BOUNDS, Sign::Pause(now + MS), MS, now);
    endpoint.place(&retry, WRITTEN, now, now);
    assert!(endpoint.has_backlog());
    assert_eq!(endpoint.fetch(&BOUNDS, Lane::First, (0, 0), now + MS, 1), None, "nothing waits in this lane");
    assert_eq!(endpoint.fetch(&BOUNDS, Lane::Retry, (0, 0), now, 1), None, "it is paused");
    for _ in 0..3 {
        endpoint.begin(now);
        endpoint.end(&BOUNDS, Sign::Ill, MS, now);
    }
    assert_eq!(endpoint.fetch(&BOUNDS, Lane::Retry, (0, 0), now + MS, 1), None, "the breaker is open");
    endpoint.begin(now);
    endpoint.end(&BOUNDS, Sign::Answered, MS, now + BOUNDS.cooldown);
    let fetched = endpoint.fetch(&BOUNDS, Lane::Retry, (0, 0), now + BOUNDS.cooldown, 1);
    assert_eq!(fetched, Some((retry.id.event, part(Lane::Retry, endpoint.room(&BOUNDS)))));
}

#[test]
fn of_large_bodies_no_more_are_fetched_than_its_share_of_the_memory() {
    let (now, first) = (Instant::now(), held(0));
    let mut endpoint = Endpoint::new(&BOUNDS, now);
    endpoint.begin(now);
    endpoint.end(&BOUNDS, Sign::Answered, MS, now);
    endpoint.place(&first, WRITTEN, now, now);
    let _bodies = [endpoint.held.hold(100), endpoint.held.hold(300)];
    assert_eq!(endpoint.fetch(&BOUNDS, Lane::First, (3, 2), now, 1), None, "of 200 bytes each five may wait");
    assert_eq!(endpoint.fetch(&BOUNDS, Lane::First, (2, 2), now, 1), Some((first.id.event, 3)));
}
