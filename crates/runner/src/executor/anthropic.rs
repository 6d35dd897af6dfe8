//! Anthropic's Messages API: `POST /v1/messages` with `stream`, events `message_start`, `content_block_delta`,
//! `message_delta` (with the usage so far), `message_stop`, `ping`, `error`.

use hookyard_egress::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use url::Url;

use crate::executor::{
    End, Job, Speaker,
    call::{Meaning, Trouble, named},
    sse::Event,
};

/// Where calls go.
pub(crate) fn url(base: &Url) -> Url {
    super::openai::below(base, "messages")
}

/// Besides those that every call has.
pub(crate) fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
    headers
}

/// What is asked.
pub(crate) fn body(job: &Job) -> Value {
    let role = |speaker| match speaker {
        Speaker::User => "user",
        Speaker::Assistant => "assistant",
    };
    let messages: Vec<Value> =
        job.turns.iter().map(|turn| json!({"role": role(turn.speaker), "content": turn.text})).collect();
    json!({
        "model": job.model,
        "max_tokens": job.max_output_tokens,
        "system": job.system,
        "messages": messages,
        "stream": true,
    })
}

/// What an event means. Events and blocks of kinds that came later are passed over, as the API asks.
pub(crate) fn read(event: &Event) -> Result<Meaning, Trouble> {
    let data: Value = serde_json::from_str(&event.data)
        .map_err(|_not_json| Trouble::Unreadable("an event that is no JSON"))?;
    let mut meaning = Meaning::default();
    match data["type"].as_str().unwrap_or(&event.name) {
        "message_start" => {
            let usage = &data["message"]["usage"];
            // Cached input is counted apart; it is input all the same.
            let cached = ["cache_creation_input_tokens", "cache_read_input_tokens"]
                .map(|name| usage[name].as_u64().unwrap_or(0));
            meaning.input_tokens =
                usage["input_tokens"].as_u64().map(|tokens| tokens + cached.iter().sum::<u64>());
            // Its count of output says nothing yet: it is 1, whatever comes.
        }
        "content_block_delta" if data["delta"]["type"] == "text_delta" => {
            meaning.text = data["delta"]["text"].as_str().map(ToOwned::to_owned);
        }
        "message_delta" => {
            meaning.output_tokens = data["usage"]["output_tokens"].as_u64();
            meaning.end = data["delta"]["stop_reason"].as_str().map(|reason| match reason {
                "max_tokens" | "model_context_window_exceeded" => End::Length,
                "refusal" => End::Refused,
                _ => End::Complete,
            });
        }
        "message_stop" => meaning.last = true,
        "error" => {
            let (kind, message) = named(&data["error"]).unwrap_or_default();
            return Err(Trouble::InStream { kind, message });
        }
        _ => {}
    }
    Ok(meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(data: &str) -> Result<Meaning, Trouble> {
        read(&Event { name: String::new(), data: data.to_owned() })
    }

    #[test]
    fn every_event_of_the_api_is_read() {
        let nothing = Meaning::default;
        for (data, expected) in [
            (
                r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"m","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":3,"cache_read_input_tokens":4,"output_tokens":1}}}"#,
                Meaning { input_tokens: Some(32), ..nothing() },
            ),
            (
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
                nothing(),
            ),
            (r#"{"type":"ping"}"#, nothing()),
            (
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Bonjour é"}}"#,
                Meaning { text: Some("Bonjour é".to_owned()), ..nothing() },
            ),
            (
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
                nothing(),
            ),
            (r#"{"type":"content_block_stop","index":0}"#, nothing()),
            (
                r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":15}}"#,
                Meaning { output_tokens: Some(15), end: Some(End::Complete), ..nothing() },
            ),
            (
                r#"{"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":7}}"#,
                Meaning { output_tokens: Some(7), end: Some(End::Length), ..nothing() },
            ),
            (
                r#"{"type":"message_delta","delta":{"stop_reason":"refusal"},"usage":{"output_tokens":7}}"#,
                Meaning { output_tokens: Some(7), end: Some(End::Refused), ..nothing() },
            ),
            (r#"{"type":"message_stop"}"#, Meaning { last: true, ..nothing() }),
            (r#"{"type":"something_new","x":1}"#, nothing()),
        ] {
            assert_eq!(meaning(data), Ok(expected), "{data}");
        }
        assert_eq!(
            meaning(r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#),
            Err(Trouble::InStream { kind: "overloaded_error".to_owned(), message: "Overloaded".to_owned() })
        );
        assert!(matches!(meaning("<html>"), Err(Trouble::Unreadable(_))));
    }
}
