//! The matrix against the contract, written out here a second time.

use super::*;

const NOW: DateTime<Utc> = DateTime::from_timestamp(1_800_000_000, 0).unwrap();

fn standing(tries_spent: u16) -> Standing {
    Standing { tries_spent, deferrals: 0, first_due_at: NOW }
}

fn status(code: u16) -> Outcome {
    Outcome::Status { code, retry_after: None }
}

/// In words, so that a row reads as the contract does.
fn words(profile: Profile, outcome: Outcome, tries_spent: u16) -> String {
    let (verdict, effect) = judge(profile, &outcome, &standing(tries_spent), NOW, 0.5);
    let verdict = match verdict {
        Verdict::Delivered => "delivered".to_owned(),
        Verdict::RetryAt { at } => format!("retry +{}", (at - NOW).num_seconds()),
        Verdict::Deferred { at } => format!("wait {}", (at - NOW).num_seconds()),
        Verdict::Dead => "dead".to_owned(),
    };
    format!("{verdict} {effect:?}")
}

/// What the contract says of a status, for a first try.
fn contract(profile: Profile, code: u16) -> String {
    use Profile::{Callback, Consumer, Farewell, Hook, Inbox, Task};
    let first_wait = match profile {
        Hook | Callback => 1,
        Consumer | Task => 5,
        // Nothing of an inbox is tried; if it were, it would change nobody's health.
        Farewell | Inbox => 0,
    };
    let retry = format!("retry +{first_wait} None");
    match (profile, code) {
        (Farewell | Callback | Inbox, 200..=299) => "delivered None".to_owned(),
        (_, 200..=299) => "delivered Healthy".to_owned(),
        (Farewell | Inbox, _) => "dead None".to_owned(),
        (Callback, 300..=499) => "dead None".to_owned(),
        (Hook, 401 | 403) => "dead Refused".to_owned(),
        (Hook, 408 | 425) => retry,
        (Hook, 410) => "dead Remove".to_owned(),
        (Consumer | Task, 410) => "dead Disable".to_owned(),
        (Hook | Consumer | Task, 429) => "wait 60 None".to_owned(),
        (Hook, 300..=499) => "dead Failing".to_owned(),
        _ => retry,
    }
}

#[test]
fn every_status_means_what_the_contract_says() {
    for profile in Profile::ALL {
        for code in (100..=599).chain([0, 600, 999]) {
            let expected = contract(profile, code);
            assert_eq!(words(profile, status(code), 0), expected, "{profile:?} {code}");
        }
    }
}

#[test]
fn every_way_of_not_answering_is_retried_and_a_forbidden_address_is_final() {
    use Outcome::{Connect, Dns, Forbidden, Protocol, Reset, Timeout, Tls};
    for outcome in [Timeout, Dns, Connect, Tls, Reset, Protocol] {
        for (profile, expected) in Profile::ALL.into_iter().zip([
            "retry +1 None",
            "retry +1 None",
            "retry +5 None",
            "retry +5 None",
            "dead None",
            "dead None",
        ]) {
            assert_eq!(words(profile, outcome, 0), expected, "{profile:?} {outcome:?}");
        }
    }
    let forbidden = Profile::ALL.map(|profile| words(profile, Forbidden, 0));
    let expected = [
        "dead FailingAudited",
        "dead FailingAudited",
        "dead DisableAudited",
        "dead DisableAudited",
        "dead None",
        "dead None",
    ];
    assert_eq!(forbidden, expected);
}

#[test]
fn an_event_that_cannot_be_transformed_is_final() {
    assert_eq!(words(Profile::Consumer, Outcome::Untransformable, 0), "dead Failing");
}

#[test]
fn tries_end_at_the_last_of_the_schedule() {
    let all = |profile: Profile| {
        let tries = u16::try_from(profile.schedule().waits.len()).unwrap();
        (0..=tries).map(|spent| words(profile, status(500), spent)).collect::<Vec<_>>()
    };
    assert_eq!(all(Profile::Hook), ["retry +1 None", "retry +4 None", "retry +9 None", "dead Failing"]);
    assert_eq!(all(Profile::Callback), ["retry +1 None", "retry +3 None", "dead None"]);
    assert_eq!(all(Profile::Consumer).last().unwrap(), "dead Failing");
    assert_eq!(all(Profile::Consumer).len(), 8);
    assert_eq!(words(Profile::Hook, status(500), u16::MAX), "dead Failing");
}

#[test]
fn a_receiver_is_waited_for_as_it_asks_within_bounds() {
    let at = |code, retry_after| words(Profile::Hook, Outcome::Status { code, retry_after }, 3);
    let seconds = |n| Some(RetryAfter::Seconds(n));
    let date = |n| Some(RetryAfter::At(NOW + TimeDelta::seconds(n)));
    let table = [
        (429, None, "wait 60 None"),
        (429, seconds(0), "wait 1 None"),
        (429, seconds(1), "wait 1 None"),
        (429, seconds(3_600), "wait 3600 None"),
        (429, seconds(3_601), "wait 3600 None"),
        (429, seconds(u64::MAX), "wait 3600 None"),
        (429, date(90), "wait 90 None"),
        (429, date(-90), "wait 1 None"),
        (429, date(90_000), "wait 3600 None"),
        (503, seconds(7), "wait 7 None"),
        (503, None, "dead Failing"),
    ];
    for (code, retry_after, expected) in table {
        assert_eq!(at(code, retry_after), expected, "{code} {retry_after:?}, the fourth try");
    }
    let overloaded = Outcome::Status { code: 503, retry_after: seconds(7) };
    assert_eq!(words(Profile::Callback, overloaded, 0), "retry +1 None");
}

#[test]
fn waiting_ends_with_the_tenth_time_or_after_a_day() {
    let judged = |deferrals, since: TimeDelta| {
        let standing = Standing { tries_spent: 0, deferrals, first_due_at: NOW - since };
        judge(Profile::Hook, &status(429), &standing, NOW, 0.0).0
    };
    let waits = Verdict::Deferred { at: NOW + TimeDelta::seconds(60) };
    assert_eq!(judged(9, TimeDelta::zero()), waits);
    assert_eq!(judged(10, TimeDelta::zero()), Verdict::Dead);
    assert_eq!(judged(0, TimeDelta::seconds(86_400 - 60)), waits);
    assert_eq!(judged(0, TimeDelta::seconds(86_400 - 59)), Verdict::Dead);
}

#[test]
fn jitter_moves_consumers_by_a_fifth_and_hooks_not_at_all() {
    let wait = |profile, jitter| match judge(profile, &status(500), &standing(1), NOW, jitter).0 {
        Verdict::RetryAt { at } => (at - NOW).num_milliseconds(),
        other => panic!("{other:?}"),
    };
    assert_eq!([0.0, 0.5, 0.999].map(|jitter| wait(Profile::Hook, jitter)), [4_000; 3]);
    assert_eq!(wait(Profile::Consumer, 0.0), 240_000);
    assert_eq!(wait(Profile::Consumer, 0.5), 300_000);
    assert_eq!(wait(Profile::Consumer, 1.0), 360_000);
    assert_eq!(wait(Profile::Consumer, 7.0), 360_000, "a broken generator stays in bounds");
    assert_eq!(wait(Profile::Consumer, f64::NAN), 300_000);
}

/// Small numbers, because those are where the bounds are, and all others.
fn counts() -> impl proptest::strategy::Strategy<Value = u16> {
    use proptest::prelude::*;
    prop_oneof![0_u16..12, any::<u16>()]
}

proptest::proptest! {
    #[test]
    fn whatever_comes_a_next_try_lies_ahead_and_within_bounds(
        profile in proptest::sample::select(Profile::ALL.to_vec()),
        code in 0_u16..1_000,
        asked in proptest::option::of(proptest::num::i64::ANY),
        dated in proptest::bool::ANY,
        tries_spent in counts(),
        deferrals in counts(),
        age in 0_i64..200_000,
        jitter in proptest::num::f64::ANY,
    ) {
        let retry_after = asked.map(|n| if dated {
            RetryAfter::At(TimeDelta::try_seconds(n).and_then(|n| NOW.checked_add_signed(n)).unwrap_or(NOW))
        } else {
            RetryAfter::Seconds(n.unsigned_abs())
        });
        let standing = Standing { tries_spent, deferrals, first_due_at: NOW - TimeDelta::seconds(age) };
        let outcome = Outcome::Status { code, retry_after };
        match judge(profile, &outcome, &standing, NOW, jitter).0 {
            Verdict::RetryAt { at } => {
                let schedule = profile.schedule();
                let planned = schedule.waits[usize::from(tries_spent)].as_secs_f64();
                let waited = (at - NOW).as_seconds_f64();
                proptest::prop_assert!((waited - planned).abs() <= planned * schedule.jitter + 0.001, "{waited}");
                proptest::prop_assert!(waited >= 0.8);
            }
            Verdict::Deferred { at } => {
                let told = match retry_after {
                    None => 60,
                    Some(RetryAfter::Seconds(n)) => i64::try_from(n).unwrap_or(i64::MAX),
                    Some(RetryAfter::At(at)) => (at - NOW).num_seconds(),
                };
                proptest::prop_assert_eq!((at - NOW).num_seconds(), told.clamp(1, 3_600));
                proptest::prop_assert!(deferrals < 10 && at <= standing.first_due_at + TimeDelta::days(1));
                proptest::prop_assert!(matches!(code, 429 | 503));
            }
            Verdict::Delivered => proptest::prop_assert!((200..300).contains(&code)),
            Verdict::Dead => proptest::prop_assert!(!(200..300).contains(&code)),
        }
    }

    #[test]
    fn more_jitter_never_means_an_earlier_try(tries_spent in 0_u16..7, low in 0.0..1.0_f64, high in 0.0..1.0_f64) {
        let (low, high) = (low.min(high), low.max(high));
        let at = |jitter| judge(Profile::Consumer, &status(500), &standing(tries_spent), NOW, jitter).0;
        match (at(low), at(high)) {
            (Verdict::RetryAt { at: low }, Verdict::RetryAt { at: high }) => proptest::prop_assert!(low <= high),
            other => proptest::prop_assert!(false, "{other:?}"),
        }
    }
}

#[test]
fn the_end_of_time_is_no_panic() {
    let now = DateTime::<Utc>::MAX_UTC;
    for outcome in [status(429), status(500), Outcome::Timeout] {
        let standing = Standing { tries_spent: 0, deferrals: 0, first_due_at: now };
        assert_ne!(judge(Profile::Hook, &outcome, &standing, now, 0.5).0, Verdict::Delivered);
    }
}
