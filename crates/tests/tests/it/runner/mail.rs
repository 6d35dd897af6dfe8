//! Mail from the outbox, to a server that speaks SMTP and does what a test tells it.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use chrono::TimeDelta;
use diesel::{QueryableByName, RunQueryDsl as _, sql_types};
use hookyard_domain::email::{self, Email, Tls, store};
use hookyard_tests::{runner::Runner, secrets::vault};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use super::Yard;

/// A mail server: every mail it took, and how it answers to the next ones after `DATA`.
#[derive(Clone, Default)]
pub(super) struct Smtp {
    pub(super) taken: Arc<Mutex<Vec<String>>>,
    answers: Arc<Mutex<Vec<&'static str>>>,
}

impl Smtp {
    pub(super) async fn start() -> (Self, email::Settings) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let smtp = Self::default();
        let served = smtp.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(served.clone().serve(stream));
            }
        });
        let settings = email::Settings {
            host: Some("127.0.0.1".to_owned()),
            port,
            tls: Tls::None,
            from: Some("hookyard@example.com".to_owned()),
            ..email::Settings::default()
        };
        (smtp, settings)
    }

    async fn serve(self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 test ESMTP\r\n").await?;
        let mut line = String::new();
        let (mut mail, mut in_data) = (String::new(), false);
        while stream.read_line(&mut line).await? > 0 {
            let text = std::mem::take(&mut line);
            let answer: &str = match text.trim_end() {
                "." if in_data => {
                    in_data = false;
                    let answer = self.answers.lock().unwrap().pop().unwrap_or("250 2.0.0 taken");
                    if answer.starts_with('2') {
                        self.taken.lock().unwrap().push(std::mem::take(&mut mail));
                    }
                    answer
                }
                _ if in_data => {
                    mail.push_str(&text);
                    continue;
                }
                "DATA" => {
                    (mail, in_data) = (String::new(), true);
                    "354 go on"
                }
                "QUIT" => "221 bye",
                "RSET" | "NOOP" => "250 fine",
                other if other.starts_with("EHLO") => "250-test\r\n250 8BITMIME",
                _ => "250 fine",
            };
            stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
        }
        Ok(())
    }
}

#[derive(Debug, QueryableByName)]
pub(super) struct Row {
    #[diesel(sql_type = sql_types::SmallInt)]
    pub(super) state: i16,
    #[diesel(sql_type = sql_types::SmallInt)]
    pub(super) tries: i16,
    #[diesel(sql_type = sql_types::Nullable<sql_types::Text>)]
    pub(super) last_error: Option<String>,
}

pub(super) async fn write(yard: &Yard, to: &str) {
    let email = Email::new(to, "Prêt — done", "Bonjour,\nit is done.\n");
    let (tenant, now) = (yard.tenant, yard.clock.now());
    yard.db.run(move |conn| store::enqueue(conn, &vault(), Some(tenant), &email, now)).await.unwrap();
}

pub(super) async fn wait(yard: &Yard, holds: impl Fn(&Row) -> bool) -> Row {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let query = "SELECT state, tries, last_error FROM emails";
        let row: Row =
            yard.db.once(move |conn| Ok(diesel::sql_query(query).get_result(conn)?)).await.unwrap();
        if holds(&row) {
            return row;
        }
        assert!(Instant::now() < end, "{row:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_mail_is_sent_once_with_all_that_it_says() {
    let (smtp, mail) = Smtp::start().await;
    let yard = Yard::new().await;
    let runner = Runner { mail, ..Runner::default() };
    write(&yard, "ada@example.com").await;
    let running = [yard.start(&runner), yard.start(&runner)];
    wait(&yard, |row| row.state == 1).await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let taken = smtp.taken.lock().unwrap().clone();
    assert_eq!(taken.len(), 1, "{taken:?}");
    for part in [
        "From: hookyard@example.com",
        "To: ada@example.com",
        "Message-ID: <",
        "Subject: =?utf-8?",
        "it is done.",
    ] {
        assert!(taken[0].contains(part), "no {part} in {}", taken[0]);
    }
    for running in running {
        running.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_is_busy_is_asked_again_and_one_that_refuses_is_not() {
    let (smtp, mail) = Smtp::start().await;
    let yard = Yard::new().await;
    let runner = Runner { mail, ..Runner::default() };
    smtp.answers.lock().unwrap().extend(["550 5.1.1 no such person", "451 4.7.1 later"]);
    write(&yard, "ada@example.com").await;
    let running = yard.start(&runner);
    let row = wait(&yard, |row| row.tries == 1).await;
    assert_eq!(row.state, 0, "{row:?}");
    assert!(row.last_error.unwrap().contains("later"));
    yard.clock.advance(TimeDelta::seconds(31));
    let row = wait(&yard, |row| row.state == 2).await;
    assert_eq!(row.tries, 2);
    assert!(row.last_error.unwrap().contains("no such person"));
    assert!(smtp.taken.lock().unwrap().is_empty());
    running.stop().await;
}
