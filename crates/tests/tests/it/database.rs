//! The door to Postgres, from either kind of runtime.

use diesel::{RunQueryDsl, sql_query};
use futures_util::future::join_all;
use hookyard_domain::{Error, db::Conn};
use hookyard_tests::system::System;

/// Rows of a statement that takes its time.
fn one(conn: &mut Conn) -> hookyard_domain::Result<usize> {
    Ok(sql_query("SELECT pg_sleep(0.01)").execute(conn)?)
}

/// More panics than there are connections: none of them may keep its place, or a connection in whatever state it was.
async fn panics_end_their_statements_only() {
    let system = System::start().await;
    for _ in 0..20 {
        let panicked = system
            .db
            .in_place(|conn| {
                sql_query("BEGIN").execute(conn)?;
                panic!("on purpose")
            })
            .await;
        let result: hookyard_domain::Result<()> = panicked;
        assert!(matches!(result, Err(Error::Database(_))), "{result:?}");
    }
    let asked = join_all((0..40).map(|_| {
        let db = system.db.clone();
        async move { tokio::spawn(async move { db.in_place(one).await }).await.unwrap() }
    }));
    for answered in asked.await {
        assert_eq!(answered.unwrap(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_panic_ends_the_statement_and_not_its_task() {
    panics_end_their_statements_only().await;
}

#[tokio::test]
async fn so_it_does_where_there_is_one_thread_only() {
    panics_end_their_statements_only().await;
}
