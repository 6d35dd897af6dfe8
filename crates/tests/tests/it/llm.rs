//! The executor of language models, against a provider that speaks both APIs and does what a test tells it.

mod errors;
mod streams;

use std::{ops::ControlFlow, sync::Mutex, time::Duration};

use hookyard_egress::{Services, Settings};
use hookyard_runner::executor::{self, Api, Heard, Job, Outcome, Patience, Provider, Speaker, Tokens, Turn};
use hookyard_tests::llm::{FakeLlm, KEY};

const BOTH: [Api; 2] = [Api::Anthropic, Api::OpenAi];

/// What a job did: how it ended, what it spent, and everything that was heard.
#[derive(Debug)]
struct Run {
    outcome: Outcome,
    tokens: Tokens,
    heard: Vec<String>,
    told: Vec<Tokens>,
}

impl Run {
    fn text(&self) -> &str {
        match &self.outcome {
            Outcome::Answered { text, .. } => text,
            other => panic!("no answer but {other:?}"),
        }
    }

    fn failure(&self) -> &executor::Failure {
        match &self.outcome {
            Outcome::Failed(failure) => failure,
            other => panic!("no failure but {other:?}"),
        }
    }
}

fn job(llm: &FakeLlm, api: Api) -> Job {
    Job {
        provider: Provider { api, base_url: llm.base_url().parse().unwrap(), key: Some(KEY.to_owned()) },
        model: "model-1".to_owned(),
        system: "Be brief.".to_owned(),
        turns: vec![Turn { speaker: Speaker::User, text: "What is the answer?".to_owned() }],
        max_output_tokens: 1_000,
        total: Duration::from_secs(20),
    }
}

/// Short waits, so that tests take none.
fn patience() -> Patience {
    Patience {
        silence: Duration::from_secs(10),
        calls: 3,
        first_wait: Duration::from_millis(10),
        longest_wait: Duration::from_secs(2),
    }
}

fn services(llm: &FakeLlm) -> Services {
    Services::new(&Settings::default(), &[llm.base_url().parse().unwrap()]).unwrap()
}

async fn run(llm: &FakeLlm, job: &Job, patience: &Patience) -> Run {
    run_until(llm, job, patience, |_| false).await
}

/// Runs a job until `enough` says so.
async fn run_until(
    llm: &FakeLlm,
    job: &Job,
    patience: &Patience,
    enough: impl Fn(&Heard<'_>) -> bool + Sync,
) -> Run {
    let heard = Mutex::new((Vec::new(), Vec::new()));
    let mut listen = |what: Heard<'_>| {
        let mut heard = heard.lock().unwrap();
        match &what {
            Heard::Text(text) => heard.0.push((*text).to_owned()),
            Heard::Spent(tokens) => heard.1.push(*tokens),
            Heard::Again { why, .. } => heard.0.push(format!("[again: {why}]")),
        }
        if enough(&what) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let (outcome, tokens) = executor::run(&services(llm), job, patience, &mut || 0.5, &mut listen).await;
    let (heard, told) = heard.into_inner().unwrap();
    Run { outcome, tokens, heard, told }
}
