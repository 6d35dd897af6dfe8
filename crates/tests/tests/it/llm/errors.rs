//! Calls that fail: what is tried again, what is not, and what is told.

use std::time::{Duration, Instant};

use hookyard_runner::executor::{Api, Outcome, Patience};
use hookyard_tests::llm::{FakeLlm, Say};

use super::{BOTH, job, patience, run};

#[tokio::test]
async fn what_passes_is_tried_again() {
    for api in BOTH {
        for trouble in [
            Say::error(408, "request_timeout", "slow"),
            Say::error(429, "rate_limit_error", "too fast"),
            Say::error(500, "api_error", "oops"),
            Say::error(503, "unavailable", "later"),
            Say::error(529, "overloaded_error", "Overloaded"),
            Say::text("half of a reply").cut_after(2),
            Say::text("half of a reply").cut_after(0),
            Say::text("half of a reply").fails_after(1, "overloaded_error", "Overloaded"),
            Say::text("half of a reply").fails_after(1, "server_error", "oops"),
        ] {
            let llm = FakeLlm::start().await;
            llm.script([trouble.clone(), trouble.clone(), Say::text("whole reply")]);
            let run = run(&llm, &job(&llm, api), &patience()).await;
            assert_eq!(run.text(), "whole reply", "{trouble:?}");
            assert_eq!(llm.calls().len(), 3, "{trouble:?}");
            let again = run.heard.iter().filter(|heard| heard.starts_with("[again")).count();
            assert_eq!(again, 2, "{:?}", run.heard);
            // What comes after the last of them is the text; what came before is void.
            let last = run.heard.iter().rposition(|heard| heard.starts_with("[again")).unwrap();
            assert_eq!(run.heard[last + 1..].concat(), "whole reply");
        }
    }
}

#[tokio::test]
async fn what_stays_is_final_and_says_why() {
    for api in BOTH {
        for (trouble, code) in [
            (Say::error(400, "invalid_request_error", "max_tokens is too large"), "provider_rejected"),
            (Say::error(401, "authentication_error", "invalid key"), "provider_key"),
            (Say::error(403, "permission_error", "not yours"), "provider_forbidden"),
            (Say::error(404, "not_found_error", "model: nope"), "model_not_found"),
            (Say::error(429, "insufficient_quota", "no credit"), "provider_quota"),
            (Say::error(302, "", "elsewhere").with("location", "http://127.0.0.1:1/"), "provider_rejected"),
            (Say::text("x y z").fails_after(1, "invalid_request_error", "no"), "provider_rejected"),
        ] {
            let llm = FakeLlm::start().await;
            llm.answer(trouble.clone());
            let run = run(&llm, &job(&llm, api), &patience()).await;
            assert_eq!((run.failure().code, run.failure().retryable), (code, false), "{trouble:?}");
            assert_eq!(llm.calls().len(), 1, "{trouble:?}");
        }
        let llm = FakeLlm::start().await;
        llm.answer(Say::error(404, "not_found_error", "model: nope"));
        let told = run(&llm, &job(&llm, api), &patience()).await.failure().message.clone();
        assert_eq!(told, "the provider does not know this model: model: nope");
    }
}

#[tokio::test]
async fn calls_end_and_every_one_is_paid_for() {
    for api in BOTH {
        let llm = FakeLlm::start().await;
        llm.answer(Say::text("one two three four").cut_after(2).tokens(20, 4));
        let run = run(&llm, &job(&llm, api), &patience()).await;
        assert_eq!((run.failure().code, run.failure().retryable), ("provider_unreachable", true));
        assert_eq!(llm.calls().len(), 3);
        // "one two " is eight bytes, so two tokens, three times.
        assert_eq!(run.tokens.output, 6, "{:?}", run.tokens);
        assert_eq!(run.tokens.input, if api == Api::Anthropic { 60 } else { 21 });
    }
}

#[tokio::test]
async fn a_provider_that_asks_for_time_gets_it() {
    let llm = FakeLlm::start().await;
    llm.script([Say::error(429, "rate_limit_error", "wait").with("retry-after", "1")]);
    let began = Instant::now();
    let run_ = run(&llm, &job(&llm, Api::Anthropic), &patience()).await;
    assert_eq!(run_.text(), "Done.");
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());

    // More than a job has patience for: the attempt ends, and the next one comes when it was said.
    llm.script([Say::error(429, "rate_limit_error", "wait").with("retry-after", "3")]);
    let run_ = run(&llm, &job(&llm, Api::Anthropic), &patience()).await;
    let failure = run_.failure();
    assert_eq!((failure.code, failure.retryable), ("provider_rate_limited", true));
    assert_eq!(failure.retry_after, Some(Duration::from_secs(3)));
}

#[tokio::test]
async fn silence_is_a_failure_before_and_inside_of_a_reply() {
    for api in BOTH {
        for silent in
            [Say::text("one two").late(Duration::from_secs(60)), Say::text("one two").silent_after(1)]
        {
            let llm = FakeLlm::start().await;
            llm.answer(silent);
            let patience = Patience { silence: Duration::from_millis(300), calls: 1, ..patience() };
            let run = run(&llm, &job(&llm, api), &patience).await;
            assert_eq!((run.failure().code, run.failure().retryable), ("provider_timeout", true));
            llm.until("the stream is left", |llm| llm.abandoned() == 1).await;
        }
    }
}

#[tokio::test]
async fn a_job_ends_when_its_time_is_over_even_if_it_still_talks() {
    let llm = FakeLlm::start().await;
    llm.answer(Say::text("word ".repeat(10_000)).slowly(Duration::from_millis(10)));
    let mut job = job(&llm, Api::Anthropic);
    job.total = Duration::from_millis(700);
    let began = Instant::now();
    let run = run(&llm, &job, &patience()).await;
    assert_eq!(run.failure().code, "provider_timeout");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_provider_that_is_not_there_is_tried_again() {
    let llm = FakeLlm::start().await;
    let mut job = job(&llm, Api::OpenAi);
    job.provider.base_url = "http://127.0.0.1:9".parse().unwrap();
    let services = hookyard_egress::Services::new(
        &hookyard_egress::Settings::default(),
        &["http://127.0.0.1:9".parse().unwrap()],
    )
    .unwrap();
    let mut again = 0;
    let mut heard = |heard: hookyard_runner::executor::Heard<'_>| {
        again += usize::from(matches!(heard, hookyard_runner::executor::Heard::Again { .. }));
        std::ops::ControlFlow::Continue(())
    };
    let (outcome, _) =
        hookyard_runner::executor::run(&services, &job, &patience(), &mut || 0.0, &mut heard).await;
    let Outcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
    assert_eq!((failure.code, failure.retryable, again), ("provider_unreachable", true, 2));
}
