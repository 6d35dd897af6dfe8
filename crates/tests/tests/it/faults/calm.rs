//! The same load without a fault: what the others are compared with.

use hookyard_tests::{
    broker::Broker,
    load::{Load, Plan},
    postgres::Postgres,
    sink::Sink,
};

use super::Services;

#[tokio::test(flavor = "multi_thread")]
async fn without_a_fault_nothing_is_sent_twice() {
    let sink = Sink::start().await;
    let (postgres, broker) = (Postgres::running(), Broker::running());
    let mut services = Services::start(&sink, &postgres, &broker, &[]);
    services.wait_until_ready();
    let load = Load::start(&sink, services.api, &services.environment, Plan::default()).await;
    for _ in 0..40 {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let m = services.delivery.probe("/metrics").unwrap().1;
        let pick = ["waiting", "parked_total", "swept_total", "loaded_total", "settled_total", "lease_too_short", "lag_seconds_sum", "try_seconds_sum"];
        let line: Vec<String> = m.lines().filter(|l| !l.starts_with('#') && pick.iter().any(|p| l.contains(p))).map(|l| l.replace("hookyard_delivery_", "")).collect();
        println!("{} acc {} req {} {:?}", std::fs::read_to_string("/proc/loadavg").unwrap().trim(), load.accepted(), sink.requests(), line);
    }
    let report = load.settle("no fault", &postgres.url()).await;
    assert_eq!(report.duplicates, 0);
    services.stop();
}
