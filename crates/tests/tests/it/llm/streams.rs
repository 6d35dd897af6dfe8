//! Replies: their text, their usage, questions, and streams that are left.

use std::time::Duration;

use hookyard_runner::executor::{Api, Heard, Outcome, Speaker, Tokens, Turn};
use hookyard_tests::llm::{FakeLlm, KEY, Say};
use serde_json::json;

use super::{BOTH, job, patience, run, run_until};

#[tokio::test]
async fn a_reply_is_streamed_and_its_usage_counted() {
    for api in BOTH {
        let llm = FakeLlm::start().await;
        llm.answer(Say::text("Forty-two, wie “café ☕” sagt.").tokens(31, 17));
        let run = run(&llm, &job(&llm, api), &patience()).await;
        assert_eq!(
            run.outcome,
            Outcome::Answered { text: "Forty-two, wie “café ☕” sagt.".to_owned(), cut_short: false }
        );
        assert_eq!(run.tokens, Tokens { input: 31, output: 17 });
        assert_eq!(run.heard.concat(), run.text(), "the pieces are the text");
        assert!(run.heard.len() > 1, "it comes in pieces: {:?}", run.heard);
        // Before anything is known a guess is told, so that a budget can stop a call before it is made.
        assert!(run.told[0].input > 0 && run.told[0].output == 0, "{:?}", run.told);
        assert_eq!(run.told.last(), Some(&run.tokens));
    }
}

#[tokio::test]
async fn requests_are_what_the_apis_want() {
    let llm = FakeLlm::start().await;
    for api in BOTH {
        let mut job = job(&llm, api);
        job.turns = vec![
            Turn { speaker: Speaker::User, text: "Title\n\nText".to_owned() },
            Turn { speaker: Speaker::Assistant, text: "Which?".to_owned() },
            Turn { speaker: Speaker::User, text: "That.".to_owned() },
        ];
        run(&llm, &job, &patience()).await.text();
    }
    let calls = llm.calls();
    let turns = json!([
        {"role": "user", "content": "Title\n\nText"},
        {"role": "assistant", "content": "Which?"},
        {"role": "user", "content": "That."},
    ]);
    assert_eq!(calls[0].path, "/v1/messages");
    assert_eq!(calls[0].headers["x-api-key"], KEY);
    assert_eq!(calls[0].headers["anthropic-version"], "2023-06-01");
    assert_eq!(
        calls[0].body,
        json!({"model": "model-1", "max_tokens": 1000, "system": "Be brief.", "messages": turns, "stream": true})
    );
    assert_eq!(calls[1].path, "/v1/chat/completions");
    assert_eq!(calls[1].headers["authorization"], format!("Bearer {KEY}"));
    let mut messages = turns.as_array().unwrap().clone();
    messages.insert(0, json!({"role": "system", "content": "Be brief."}));
    assert_eq!(
        calls[1].body,
        json!({"model": "model-1", "max_tokens": 1000, "messages": messages, "stream": true,
               "stream_options": {"include_usage": true}})
    );
}

#[tokio::test]
async fn a_server_without_keys_and_usage_is_spoken_to_as_well() {
    let llm = FakeLlm::start().await;
    llm.answer(Say::text("twelve letters and a few more").without_usage());
    let mut job = job(&llm, Api::OpenAi);
    job.provider.key = None;
    let run = run(&llm, &job, &patience()).await;
    assert_eq!(run.text(), "twelve letters and a few more");
    // One token for four bytes: 28 bytes were sent, 29 came back.
    assert_eq!(run.tokens, Tokens { input: 7, output: 8 });
    assert!(!llm.calls()[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn a_reply_that_is_a_question_asks_and_shows_nothing() {
    for api in BOTH {
        let llm = FakeLlm::start().await;
        llm.answer(Say::text(
            "{\"needs_input\": {\"question\": \"Which year?\", \"choices\": [\"2025\", \"2026\"]}}",
        ));
        let run = run(&llm, &job(&llm, api), &patience()).await;
        let Outcome::Asked(question) = &run.outcome else { panic!("{:?}", run.outcome) };
        assert_eq!(question.question, "Which year?");
        assert_eq!(question.choices, Some(vec!["2025".to_owned(), "2026".to_owned()]));
        assert_eq!(run.heard, Vec::<String>::new());
        assert!(run.tokens.output > 0);
    }
}

#[tokio::test]
async fn json_that_is_no_question_is_shown_at_its_end() {
    let llm = FakeLlm::start().await;
    llm.answer(Say::text("{\"total\": 3, \"items\": []}"));
    let run = run(&llm, &job(&llm, Api::Anthropic), &patience()).await;
    assert_eq!((run.text(), run.heard.concat()), (run.text(), run.text().to_owned()));
}

#[tokio::test]
async fn a_reply_that_ran_out_of_tokens_says_so_and_a_refusal_is_none() {
    for api in BOTH {
        let llm = FakeLlm::start().await;
        llm.script([
            Say::text("and then").stops("max_tokens"),
            Say::text("no").stops("refusal"),
            Say::text(" "),
        ]);
        let job = job(&llm, api);
        let patience = patience();
        let short = run(&llm, &job, &patience).await;
        assert_eq!(short.outcome, Outcome::Answered { text: "and then".to_owned(), cut_short: true });
        let refused = run(&llm, &job, &patience).await;
        assert_eq!((refused.failure().code, refused.failure().retryable), ("model_refused", false));
        let empty = run(&llm, &job, &patience).await;
        assert_eq!((empty.failure().code, empty.failure().retryable), ("empty_reply", true));
    }
}

#[tokio::test]
async fn whoever_listens_can_end_the_stream() {
    for api in BOTH {
        let llm = FakeLlm::start().await;
        llm.answer(Say::text("word ".repeat(500)).slowly(Duration::from_millis(20)).tokens(10, 500));
        // As a budget does it: no more than 50 tokens in all.
        let enough =
            |heard: &Heard<'_>| matches!(heard, Heard::Spent(tokens) if tokens.input + tokens.output > 50);
        let run = run_until(&llm, &job(&llm, api), &patience(), enough).await;
        assert_eq!(run.outcome, Outcome::Stopped);
        assert!((51..80).contains(&(run.tokens.input + run.tokens.output)), "{:?}", run.tokens);
        llm.until("the connection is given up", |llm| llm.abandoned() == 1 && llm.open() == 0).await;
    }
}

#[tokio::test]
async fn nothing_is_sent_when_the_request_alone_is_too_much() {
    let llm = FakeLlm::start().await;
    let run = run_until(&llm, &job(&llm, Api::OpenAi), &patience(), |_| true).await;
    assert_eq!(run.outcome, Outcome::Stopped);
    assert_eq!(llm.calls().len(), 0);
}

#[tokio::test]
async fn dropping_the_job_drops_the_stream_at_once() {
    for api in BOTH {
        let llm = FakeLlm::start().await;
        llm.answer(Say::text("one two three").silent_after(2));
        let (asked, asking) = (job(&llm, api), llm.clone());
        let running = tokio::spawn(async move { run(&asking, &asked, &patience()).await });
        llm.until("a stream is open", |llm| llm.open() == 1).await;
        running.abort();
        llm.until("the stream is left", |llm| llm.abandoned() == 1).await;
    }
}
