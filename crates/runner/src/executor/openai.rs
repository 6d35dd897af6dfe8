//! OpenAI's chat completions: `POST /v1/chat/completions` with `stream` and `stream_options.include_usage`; chunks without
//! names, the usage in one of its own at the end, then `[DONE]`. Ollama, vLLM and others speak it with small differences,
//! which are taken as they come.

use serde_json::{Value, json};
use url::Url;

use crate::executor::{
    End, Job, Speaker,
    call::{Meaning, Trouble, named},
    sse::Event,
};

/// Where calls go.
pub(crate) fn url(base: &Url) -> Url {
    below(base, "chat/completions")
}

/// A path of the API below a base URL, which may name the version or leave it out.
pub(crate) fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    let stem = match base.path().trim_end_matches('/') {
        "" => "/v1",
        stem => stem,
    };
    url.set_path(&format!("{stem}/{path}"));
    url
}

/// What is asked.
pub(crate) fn body(job: &Job) -> Value {
    let role = |speaker| match speaker {
        Speaker::User => "user",
        Speaker::Assistant => "assistant",
    };
    let mut messages = vec![json!({"role": "system", "content": job.system})];
    messages.extend(job.turns.iter().map(|turn| json!({"role": role(turn.speaker), "content": turn.text})));
    let mut body = json!({
        "model": job.model,
        "messages": messages,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    // OpenAI's newer models refuse the older name, and other servers do not know the newer one.
    let limit = match job.provider.base_url.host_str() {
        Some("api.openai.com") => "max_completion_tokens",
        _ => "max_tokens",
    };
    body[limit] = job.max_output_tokens.into();
    body
}

/// What an event means.
pub(crate) fn read(event: &Event) -> Result<Meaning, Trouble> {
    let mut meaning = Meaning::default();
    if event.data.trim() == "[DONE]" {
        meaning.last = true;
        return Ok(meaning);
    }
    let data: Value = serde_json::from_str(&event.data)
        .map_err(|_not_json| Trouble::Unreadable("an event that is no JSON"))?;
    if let Some((kind, message)) = named(&data["error"]) {
        return Err(Trouble::InStream { kind, message });
    }
    // `null` in every chunk but the last.
    meaning.input_tokens = data["usage"]["prompt_tokens"].as_u64();
    meaning.output_tokens = data["usage"]["completion_tokens"].as_u64();
    let choice = &data["choices"][0];
    meaning.text = choice["delta"]["content"].as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned);
    meaning.end = choice["finish_reason"].as_str().map(|reason| match reason {
        "length" => End::Length,
        "content_filter" => End::Refused,
        _ => End::Complete,
    });
    Ok(meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(data: &str) -> Result<Meaning, Trouble> {
        read(&Event { name: String::new(), data: data.to_owned() })
    }

    #[test]
    fn every_chunk_of_the_api_is_read() {
        let nothing = Meaning::default;
        for (data, expected) in [
            (
                r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}"#,
                nothing(),
            ),
            (
                r#"{"choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}],"usage":null}"#,
                Meaning { text: Some("Hello".to_owned()), ..nothing() },
            ),
            (
                r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
                Meaning { end: Some(End::Complete), ..nothing() },
            ),
            (
                r#"{"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}"#,
                Meaning { end: Some(End::Length), ..nothing() },
            ),
            (
                r#"{"choices":[{"index":0,"delta":{},"finish_reason":"content_filter"}]}"#,
                Meaning { end: Some(End::Refused), ..nothing() },
            ),
            (
                r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}}"#,
                Meaning { input_tokens: Some(9), output_tokens: Some(12), ..nothing() },
            ),
            (
                r#"{"choices":null,"usage":{"prompt_tokens":9,"completion_tokens":12}}"#,
                Meaning { input_tokens: Some(9), output_tokens: Some(12), ..nothing() },
            ),
            ("[DONE]", Meaning { last: true, ..nothing() }),
        ] {
            assert_eq!(meaning(data), Ok(expected), "{data}");
        }
        assert_eq!(
            meaning(
                r#"{"error":{"message":"The server had an error","type":"server_error","param":null,"code":null}}"#
            ),
            Err(Trouble::InStream {
                kind: "server_error".to_owned(),
                message: "The server had an error".to_owned()
            })
        );
    }

    #[test]
    fn a_base_url_may_name_the_version_or_leave_it_out() {
        for (base, expected) in [
            ("https://api.openai.com", "https://api.openai.com/v1/chat/completions"),
            ("https://api.openai.com/v1/", "https://api.openai.com/v1/chat/completions"),
            ("http://127.0.0.1:11434/v1", "http://127.0.0.1:11434/v1/chat/completions"),
            (
                "https://example.com/openai/deployments/x",
                "https://example.com/openai/deployments/x/chat/completions",
            ),
        ] {
            assert_eq!(url(&base.parse().unwrap()).as_str(), expected);
        }
    }
}
