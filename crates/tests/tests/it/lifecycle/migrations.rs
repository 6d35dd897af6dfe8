//! `hookyard migrate`: several at once, and down and up again.

use hookyard_domain::{
    clock::Clock,
    db::{Db, Settings, Url, migrate},
};
use hookyard_tests::{
    postgres::Postgres,
    processes::{Environment, run},
};

#[tokio::test(flavor = "multi_thread")]
async fn several_at_once_are_safe_and_one_of_them_does_it() {
    let postgres = Postgres::running();
    let environment = Environment::from([("DATABASE_URL".to_owned(), postgres.url())]);
    let started = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..5).map(|_| scope.spawn(|| run(&["migrate"], &environment))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect::<Vec<_>>()
    });
    let said: Vec<String> = started
        .iter()
        .map(|output| String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned())
        .collect();
    assert!(started.iter().all(|output| output.status.success()), "{said:?}");
    let ran = said.iter().filter(|said| said.contains("ran ")).count();
    let idle = said.iter().filter(|said| said.contains("the schema is up to date")).count();
    assert_eq!((ran, idle), (1, 4), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn up_down_and_up_again() {
    let postgres = Postgres::running();
    let db = Db::new(&Url::new(postgres.url()), &Settings::default()).unwrap();
    let clock = Clock::system();
    assert!(!migrate::is_current(&db).await.unwrap(), "an empty database");
    let first = migrate::run(&db, &clock).await.unwrap();
    assert!(!first.is_empty() && migrate::is_current(&db).await.unwrap());
    migrate::revert_all(&db).await.unwrap();
    assert!(!migrate::is_current(&db).await.unwrap());
    assert_eq!(migrate::run(&db, &clock).await.unwrap(), first);
    assert!(migrate::is_current(&db).await.unwrap());
    assert_eq!(migrate::run(&db, &clock).await.unwrap(), Vec::<String>::new());
}
