//! Doing one run: without a model at once, with one for as long as it takes.

use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::TimeDelta;
use hookyard_domain::{
    id::InputId,
    task::{
        Failure, Question, Refused, RunState, Step, Usage, answer,
        claim::ClaimedRun,
        input::Exchange,
        ledger::{By, Move},
        model::{self, ApiKey, ProviderKind, Resolved},
    },
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    context::Context,
    executor::{self, Api, Heard, Job, Outcome, Tokens},
    meter::Meter,
    metrics::End,
    offline::{self, Instead},
    prompt,
    writer::Results,
};

/// Longest text that is analysed between other things; a longer one gets a thread of its own.
const SHORT: usize = 16 << 10;

/// Longest piece of output in one report, in bytes.
const MAX_PIECE: usize = 32 << 10;

/// How many times output is written for each time that what was spent is.
const SPENT_EVERY: u32 = 4;

/// A run and how it is done.
pub(crate) struct Order {
    pub(crate) run: ClaimedRun,
    pub(crate) resolved: Resolved,
    pub(crate) access: Access,
    /// What was asked and answered before.
    pub(crate) said: Vec<Exchange>,
}

/// By what means.
pub(crate) enum Access {
    /// Without a model: because none was asked for, or `instead` of one that there is no key for.
    Offline {
        instead: bool,
    },
    Model {
        provider: model::Provider,
        key: Option<ApiKey>,
    },
    /// The provider is not in the settings any more.
    Gone,
}

/// Does it, and holds the slot until it is written.
pub(crate) async fn run(context: Arc<Context>, order: Order, slot: OwnedSemaphorePermit) {
    let began = Instant::now();
    let (provider, (end, usage)) = match order.access {
        Access::Offline { instead } => {
            (model::OFFLINE, (offline(&context, &order, instead).await, Usage::default()))
        }
        Access::Model { ref provider, ref key } => {
            let over = context.pulse.hold(&order.run);
            let done = Box::pin(ask(&context, &order, provider, key.as_ref(), over)).await;
            context.pulse.let_go(&order.run);
            (&*provider.name, done)
        }
        Access::Gone => {
            let message =
                format!("the provider `{}` of the model is not configured", order.resolved.provider);
            let step = fail("model_not_configured", message, Usage::default());
            (model::OFFLINE, (report(&context, &order.run, vec![step]).await, Usage::default()))
        }
    };
    tracing::debug!(run.id = %order.run.run, provider, ?end, took_ms = began.elapsed().as_millis(), "attempt ended");
    context.metrics.ended(provider, end, began.elapsed(), usage);
    drop(slot);
    context.room.notify_one();
}

async fn offline(context: &Context, order: &Order, instead: bool) -> End {
    let run = &order.run;
    let instead =
        instead.then(|| Instead { model: run.model.clone(), provider: order.resolved.provider.clone() });
    let (title, description, agent) = (run.title.clone(), run.description.clone(), run.agent_type);
    let long = description.len() > SHORT;
    let work = move || offline::analyse(&title, &description).noting(agent, instead.as_ref());
    // Apart from this task: should it panic, the run fails now and not when its lease ends.
    let analysing =
        if long { tokio::task::spawn_blocking(work) } else { tokio::spawn(async move { work() }) };
    let step = match analysing.await {
        Ok(analysis) => Step::Complete {
            result: analysis.result,
            summary: Some(analysis.summary),
            usage: Usage::default(),
        },
        Err(error) => {
            tracing::error!(run.id = %run.run, %error, "the offline analysis broke");
            fail("internal", "the offline analysis broke".to_owned(), Usage::default())
        }
    };
    report(context, run, vec![step]).await
}

/// What was heard and is not written yet.
#[derive(Default)]
struct Ear {
    text: String,
    notes: Vec<String>,
    tokens: Tokens,
    over_budget: bool,
    again: u32,
}

async fn ask(
    context: &Context,
    order: &Order,
    provider: &model::Provider,
    key: Option<&ApiKey>,
    over: tokio_util::sync::CancellationToken,
) -> (End, Usage) {
    let run = &order.run;
    let meter = Meter::new(&context.models, run);
    let Some(mut job) = job(context, order, provider, key) else {
        let message = format!("the provider `{}` of the model has no address", provider.name);
        return (
            report(context, run, vec![fail("model_not_configured", message, Usage::default())]).await,
            Usage::default(),
        );
    };
    let room = meter.room(guess(&job));
    let bounded = room.is_some_and(|room| room < u64::from(job.max_output_tokens));
    if let Some(room) = room.filter(|_| bounded) {
        job.max_output_tokens = u32::try_from(room).unwrap_or(u32::MAX);
    }
    if job.max_output_tokens == 0 {
        return (report(context, run, vec![over_budget(Usage::default())]).await, Usage::default());
    }
    if report(context, run, vec![Step::Started]).await == End::Lost {
        return (End::Lost, Usage::default());
    }
    let ear = Mutex::new(Ear::default());
    let mut heard = |heard: Heard<'_>| hear(&ear, &meter, heard);
    let (patience, mut jitter) = (context.settings.patience(), rand::random::<f64>);
    let asking = executor::run(&context.services, &job, &patience, &mut jitter, &mut heard);
    tokio::pin!(asking);
    let mut tick = tokio::time::interval(Duration::from_millis(context.settings.output_interval_ms));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut waiting: Option<oneshot::Receiver<Results>> = None;
    let mut ticks = 0_u32;
    let outcome = loop {
        tokio::select! {
            biased;
            // Dropping the call ends it.
            () = over.cancelled() => break None,
            () = context.hurry.cancelled() => break Some(None),
            (outcome, tokens) = &mut asking => break Some(Some((outcome, tokens))),
            _ = tick.tick() => {
                match waiting.as_mut().map(oneshot::Receiver::try_recv) {
                    Some(Err(oneshot::error::TryRecvError::Empty)) => continue,
                    Some(Ok(results)) if has_ended(&results) => break None,
                    None | Some(Ok(_) | Err(oneshot::error::TryRecvError::Closed)) => waiting = None,
                }
                ticks += 1;
                let steps = gathered(&ear, &meter, ticks.is_multiple_of(SPENT_EVERY));
                if !steps.is_empty() {
                    waiting = Some(context.reports.send(moves(run, steps)).await);
                }
            }
        }
    };
    let mut steps = gathered(&ear, &meter, false);
    let tokens = lock(&ear).tokens;
    for _ in 0..lock(&ear).again {
        context.metrics.again(&provider.name);
    }
    let (last, tokens) = match outcome {
        None => return (End::Lost, meter.usage(tokens)),
        Some(None) => (vec![Step::Spent { usage: meter.usage(tokens) }, Step::Release], tokens),
        Some(Some((outcome, tokens))) => {
            (conclude(context, outcome, meter.usage(tokens), bounded, job.max_output_tokens), tokens)
        }
    };
    steps.extend(last);
    (report(context, run, steps).await, meter.usage(tokens))
}

fn job(context: &Context, order: &Order, provider: &model::Provider, key: Option<&ApiKey>) -> Option<Job> {
    let api = match provider.kind {
        ProviderKind::Anthropic => Api::Anthropic,
        ProviderKind::OpenAi => Api::OpenAi,
        ProviderKind::Offline => return None,
    };
    let left = order.run.attempt_deadline - context.clock.now();
    Some(Job {
        provider: executor::Provider {
            api,
            base_url: provider.base_url.clone()?,
            key: key.map(|key| key.expose().to_owned()),
        },
        model: order.resolved.model.clone(),
        system: prompt::system(order.run.agent_type),
        turns: prompt::turns(&order.run, &order.said),
        max_output_tokens: context.settings.max_output_tokens,
        total: left.to_std().unwrap_or_default(),
    })
}

/// Tokens of what is sent, as the executor guesses them.
fn guess(job: &Job) -> u64 {
    let bytes = job.system.len() + job.turns.iter().map(|turn| turn.text.len()).sum::<usize>();
    bytes.div_ceil(4) as u64
}

fn lock(ear: &Mutex<Ear>) -> std::sync::MutexGuard<'_, Ear> {
    ear.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hear(ear: &Mutex<Ear>, meter: &Meter, heard: Heard<'_>) -> ControlFlow<()> {
    let mut ear = lock(ear);
    match heard {
        Heard::Text(text) => ear.text.push_str(text),
        Heard::Spent(tokens) => {
            ear.tokens = tokens;
            if meter.is_over(tokens) {
                ear.over_budget = true;
                return ControlFlow::Break(());
            }
        }
        Heard::Again { why, wait } => {
            ear.text.clear();
            ear.again += 1;
            ear.notes.push(format!("{why}; asking again in {:.1} s", wait.as_secs_f64()));
        }
    }
    ControlFlow::Continue(())
}

/// What was heard, as steps. What is spent before the end is a guess: for the books, from which nothing is taken back, a low
/// one.
fn gathered(ear: &Mutex<Ear>, meter: &Meter, spent: bool) -> Vec<Step> {
    let mut ear = lock(ear);
    let mut steps: Vec<Step> = std::mem::take(&mut ear.notes)
        .into_iter()
        .map(|message| Step::Progress { percent: None, message: Some(message) })
        .collect();
    let text = std::mem::take(&mut ear.text);
    let mut rest = &*text;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(MAX_PIECE));
        steps.push(Step::Output { text: piece.to_owned() });
        rest = after;
    }
    if spent && ear.tokens != Tokens::default() {
        let low = Tokens { input: ear.tokens.input / 4 * 3, output: ear.tokens.output / 4 * 3 };
        steps.push(Step::Spent { usage: meter.usage(low) });
    }
    steps
}

fn conclude(context: &Context, outcome: Outcome, usage: Usage, bounded: bool, limit: u32) -> Vec<Step> {
    match outcome {
        // It could not say more because the task may not use more.
        Outcome::Answered { cut_short: true, .. } if bounded => vec![over_budget(usage)],
        Outcome::Answered { text, cut_short } => {
            let result = if cut_short {
                format!("{text}\n\n[The reply ended at its limit of {limit} tokens.]")
            } else {
                text
            };
            vec![Step::Complete { result, summary: None, usage }]
        }
        Outcome::Asked(asked) => {
            let mut steps = Vec::new();
            let schema = asked.schema.map(|schema| serde_json::Value::Object(schema).to_string());
            let schema = schema.filter(|text| {
                let checked = answer::check_schema(text, asked.choices.as_deref());
                // The question is worth more than the schema: whoever answers is asked without it.
                if let Err(reason) = &checked {
                    let message = format!("the schema of the model's question is left out: it {reason}");
                    steps.push(Step::Progress { percent: None, message: Some(message) });
                }
                checked.is_ok()
            });
            let question = Question { question: asked.question, choices: asked.choices, schema };
            steps.push(Step::Ask { input: InputId::new(context.clock.now()), question, usage });
            steps
        }
        // The books end it themselves, if they see it so, too.
        Outcome::Stopped => vec![Step::Spent { usage }, over_budget(usage)],
        Outcome::Failed(failure) => {
            let failure = Failure {
                code: failure.code.to_owned(),
                message: failure.message,
                retryable: failure.retryable,
                retry_after: failure.retry_after.and_then(|wait| TimeDelta::from_std(wait).ok()),
            };
            vec![Step::Fail { failure, usage }]
        }
    }
}

fn over_budget(usage: Usage) -> Step {
    fail("budget_exceeded", "the task may not use as much as its reply needs".to_owned(), usage)
}

fn fail(code: &str, message: String, usage: Usage) -> Step {
    Step::Fail {
        failure: Failure { code: code.to_owned(), message, retryable: false, retry_after: None },
        usage,
    }
}

fn moves(run: &ClaimedRun, steps: Vec<Step>) -> Vec<Move> {
    let by = By::Holder(run.lease);
    steps.into_iter().map(|step| Move { run: run.run, by, step }).collect()
}

fn has_ended(results: &Results) -> bool {
    results.iter().any(|result| match result {
        Ok(applied) => applied.state != RunState::Running,
        Err(Refused::Field { .. }) => false,
        Err(_) => true,
    })
}

/// Reports steps and waits until they are written.
async fn report(context: &Context, run: &ClaimedRun, steps: Vec<Step>) -> End {
    let Some(results) = context.reports.write(moves(run, steps)).await else { return End::Lost };
    if let Some(Err(Refused::Field { field, reason })) = results.last() {
        let step = fail(
            "unusable_result",
            format!("what the model returned cannot be taken: {field} {reason}"),
            Usage::default(),
        );
        let results = context.reports.write(moves(run, vec![step])).await.unwrap_or_default();
        return end(&results);
    }
    end(&results)
}

fn end(results: &Results) -> End {
    results.iter().rev().flatten().next().map_or(End::Lost, |applied| End::Now(applied.state))
}
