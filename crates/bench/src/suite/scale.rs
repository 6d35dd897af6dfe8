//! 100,000 subscriptions over 1,000 tenants: that matching costs what matches, that an event for 10,000 hooks does not hold up others,
//! and what memory a registry needs for each. Always as services: the registry has to be a process of its own, and the gateway leaves all
//! fanning out to it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    case::{Case, Shape},
    crowd::{self, Crowd},
    rig::Rig,
    system::{Mode, Plan, System},
    timing::FAN_OUT,
};
use crate::{cost::psql, http, load::Report};

/// How long 10,000 deliveries may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The event for the crowd is posted this long after the load beside it began; a quick load lasts 3 s.
const INTO_THE_LOAD: Duration = Duration::from_secs(1);

/// Measures. The load is the same each time: few subscriptions, many, and many with an event for very many of them.
///
/// # Errors
/// When a child fails, or something does not arrive.
pub(crate) async fn measure(rig: &Rig<'_>, quick: bool) -> Result<Vec<Report>> {
    let crowd = if quick {
        Crowd { tenants: 99, hooks: 90, called: 1_000 }
    } else {
        Crowd { tenants: 999, hooks: 90, called: 10_090 }
    };
    let folder = rig.folder()?;
    // Sinks are declared first so that they outlive the system that sends to them.
    let (_sink, sink) = rig.start_sink(&folder).await?;
    let elsewhere = rig.folder()?;
    let (_far, far) = rig.start_sink(&elsewhere).await?;
    let plan = Plan { foresight: false, ..rig.plan(&folder, sink) };
    let mut system = System::start(Mode::Services, &plan).await?;
    let (caller, key) = (system.make_tenant()?, system.make_key(false)?);
    let callers = system.make_key_of(&caller, false)?;
    let shapes = Case::Scale.shapes(quick);
    let load = async |shape: &Shape| {
        let before = system.timing("registry", FAN_OUT).await?;
        let report = rig.load_on(&system, shape, &key, sink, &folder).await?;
        let fan_out_p99_ms = system.timing("registry", FAN_OUT).await?.since(&before).quantile_ms(0.99);
        anyhow::Ok(Report { fan_out_p99_ms, ..report })
    };

    let warm_up = Shape { label: "warm-up", rate: None, events: 2_000, ..shapes[0].clone() };
    load(&warm_up).await?;
    let few = load(&shapes[0]).await?;
    let before = system.rss_bytes("registry")?;
    crowd.insert(&system.database_url, &folder, far, &caller)?;
    // What the database still has to do about so many new rows is not what they cost.
    psql(&system.database_url, "vacuum analyze subscriptions")?;
    // The next event tells the registry, and the deliverer, of all of them.
    load(&Shape { label: "warm-up", events: 300, ..shapes[0].clone() }).await?;
    let mut many = load(&shapes[1]).await?;
    let grown = system.rss_bytes("registry")?.saturating_sub(before);
    many.bytes_per_subscription = Some(grown as f64 / crowd.len() as f64);

    let call = async {
        tokio::time::sleep(INTO_THE_LOAD).await;
        let event = post(&system.api.to_string(), &callers).await?;
        crowd::arrived(&system.database_url, &event, crowd.called, PATIENCE).await
    };
    let (beside, called) = tokio::join!(load(&shapes[2]), call);
    let mut beside = beside?;
    beside.crowd_s = Some(called?.as_secs_f64());
    system.check()?;
    Ok(vec![few, many, beside])
}

/// Posts the event that all of the crowd wants; returns its id.
async fn post(api: &str, key: &str) -> Result<String> {
    let body = json!({"event_type": crowd::CALL, "payload": {"call": true}}).to_string();
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let request = http::request("POST", api, "/events", &headers, body.as_bytes());
    let mut conn = http::Conn::connect(api).await?;
    let answer = conn.call(&request).await?;
    let text = String::from_utf8_lossy(answer.body).into_owned();
    ensure!(answer.status == 202, "the event for the crowd is answered {}: {text}", answer.status);
    let json: Value = serde_json::from_str(&text)?;
    Ok(json["event_id"].as_str().context("no event_id")?.to_owned())
}
