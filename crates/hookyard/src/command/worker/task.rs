//! One task: its command, from start to end, and what the gateway hears of it.

use std::{
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use hookyard_egress::HeaderValue;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    api::{Api, Trouble},
    kept::{Kept, take_text},
    template::Template,
};

/// `EX_TEMPFAIL` of sysexits.h: the command says that another attempt may succeed.
const TRY_AGAIN: i32 = 75;
/// Bytes that are handed in together at most. As text they may be three times as many, which the protocol still takes.
const CHUNK: usize = 16 << 10;
/// How long bytes wait for more.
const FLUSH_AFTER: Duration = Duration::from_millis(300);
/// Between two attempts to report.
const PAUSE: Duration = Duration::from_millis(500);
/// The time for one report.
const REPORT: Duration = Duration::from_secs(15);
/// How long what a command has left running may hold its pipes.
const LEFTOVERS: Duration = Duration::from_secs(1);
/// Bytes of a line on standard error that are logged.
const LINE: usize = 2_000;

/// What all tasks of a worker share.
pub(super) struct Job {
    pub(super) api: Api,
    pub(super) template: Template,
    pub(super) grace: Duration,
    /// Cancelled when commands that still run have to end, and their tasks are given back.
    pub(super) give_up: CancellationToken,
}

/// How a command came to its end.
enum End {
    Exited(ExitStatus),
    /// The run is not ours any more.
    Lost,
    /// It took too long.
    TimedOut,
    /// The worker stops.
    GivenUp,
}

/// A run that is held.
#[derive(Clone)]
struct Held {
    run: String,
    lease: HeaderValue,
    /// Cancelled when the run is not ours any more.
    lost: CancellationToken,
}

impl Job {
    /// Does a task, whatever comes of it.
    pub(super) async fn run(self: Arc<Self>, mut task: Value) {
        let text = |name: &str| task[name].as_str().unwrap_or_default().to_owned();
        let (run, lease) = (text("run_id"), HeaderValue::from_str(&text("lease_token")));
        let Ok(lease) = lease else { return };
        let seconds =
            |name: &str| Duration::from_secs_f64(task[name].as_f64().unwrap_or(60.0).clamp(0.0, 1e7));
        let (lease_lasts, time) = (seconds("lease_seconds"), seconds("timeout_seconds"));
        let until = Instant::now() + time;
        // The command needs no fence: it reports through us.
        if let Some(members) = task.as_object_mut() {
            members.remove("lease_token");
        }
        let held = Held { run, lease, lost: CancellationToken::new() };
        tracing::info!(run.id = held.run, "task taken");
        let heart = tokio::spawn(Arc::clone(&self).beat(held.clone(), lease_lasts));
        Box::pin(self.execute(&task, &held, until, time)).await;
        heart.abort();
    }

    async fn execute(&self, task: &Value, held: &Held, until: Instant, time: Duration) {
        let (program, arguments) = self.template.fill(task);
        let mut command = Command::new(program);
        command
            .args(arguments)
            // The token is not the command's.
            .env_remove("HOOKYARD_WORKER_TOKEN")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                let message = format!("the command `{program}` cannot be started: {error}");
                let body = json!({"message": message, "code": "cannot_start", "retryable": true});
                return self.last_word(held, "fail", &body).await;
            }
        };
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(stdin) = child.stdin.take() {
            tokio::spawn(feed(stdin, task.to_string()));
        }
        let enough = CancellationToken::new();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let hear = self.hear(stdout, held, &enough);
        let complain = complaints(stderr, &held.run, &enough);
        let wait = async {
            let end = self.wait(&mut child, group, held, until).await;
            // Whatever the command has left behind holds its pipes, and must not hold the task.
            tokio::time::sleep(Duration::from_millis(50)).await;
            signal(group, Signal::KILL);
            let late = enough.clone();
            tokio::spawn(async move {
                tokio::time::sleep(LEFTOVERS).await;
                late.cancel();
            });
            end
        };
        let (end, kept, last_line) = tokio::join!(wait, hear, complain);
        self.tell(held, end, &kept, &last_line, time).await;
    }

    async fn wait(&self, child: &mut Child, group: Option<Pid>, held: &Held, until: Instant) -> End {
        let end = tokio::select! {
            biased;
            () = held.lost.cancelled() => End::Lost,
            status = child.wait() => return status.map_or(End::Lost, End::Exited),
            () = tokio::time::sleep_until(until) => End::TimedOut,
            () = self.give_up.cancelled() => End::GivenUp,
        };
        signal(group, Signal::TERM);
        if tokio::time::timeout(self.grace, child.wait()).await.is_err() {
            signal(group, Signal::KILL);
            let _gone = child.wait().await;
        }
        end
    }

    /// Tells the gateway what came of it.
    async fn tell(&self, held: &Held, end: End, kept: &Kept, last_line: &str, time: Duration) {
        let status = match end {
            End::Lost => {
                tracing::info!(run.id = held.run, "task left, it is not this worker's any more");
                return;
            }
            End::TimedOut => {
                let message = format!("the command did not end within {} s", time.as_secs());
                return self.last_word(held, "fail", &json!({"message": message, "code": "timed_out"})).await;
            }
            End::GivenUp => return self.last_word(held, "release", &json!({})).await,
            End::Exited(status) => status,
        };
        if status.success() {
            return self.last_word(held, "complete", &json!({"result": kept.result()})).await;
        }
        let why = if last_line.is_empty() { String::new() } else { format!(": {last_line}") };
        let (message, code) = match status.code() {
            Some(code) => (format!("the command ended with exit code {code}{why}"), format!("exit_{code}")),
            None => (format!("a signal ended the command{why}"), "killed".to_owned()),
        };
        let retryable = status.code() == Some(TRY_AGAIN);
        self.last_word(held, "fail", &json!({"message": message, "code": code, "retryable": retryable}))
            .await;
    }

    /// A report that ends the run, again and again until it is heard or the run is not ours any more.
    async fn last_word(&self, held: &Held, how: &str, body: &Value) {
        loop {
            let told = tokio::select! {
                told = self.report(held, how, body) => told,
                () = held.lost.cancelled() => Err(Trouble::Unreachable("the lease is over".to_owned())),
            };
            match told {
                Ok(answer) => {
                    tracing::info!(run.id = held.run, status = answer["status"].as_str(), "task done with");
                    return;
                }
                Err(trouble) if trouble.may_pass() && !held.lost.is_cancelled() => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(trouble) => {
                    tracing::warn!(run.id = held.run, error = %trouble, "what came of a task is not taken");
                    return;
                }
            }
        }
    }

    async fn report(&self, held: &Held, how: &str, body: &Value) -> Result<Value, Trouble> {
        self.api.post(&format!("runs/{}/{how}", held.run), Some(&held.lease), body, REPORT).await
    }

    /// Keeps the lease, and sees when it is lost.
    async fn beat(self: Arc<Self>, held: Held, lasts: Duration) {
        let mut lasts = lasts;
        let mut until = Instant::now() + lasts;
        loop {
            tokio::time::sleep((lasts / 3).clamp(Duration::from_millis(300), Duration::from_secs(10))).await;
            match self.report(&held, "heartbeat", &json!({})).await {
                Ok(answer) if answer["cancel_requested"] == true => {
                    tracing::info!(run.id = held.run, "task cancelled");
                    break;
                }
                Ok(answer) => {
                    lasts = Duration::from_secs_f64(
                        answer["lease_seconds"].as_f64().unwrap_or(60.0).clamp(0.0, 1e7),
                    );
                    until = Instant::now() + lasts;
                }
                Err(trouble) if trouble.is_lost() => break,
                Err(_) if Instant::now() >= until => break,
                Err(trouble) => {
                    tracing::info!(run.id = held.run, error = %trouble, "a heartbeat was not heard");
                    // Sooner than usual.
                    lasts = lasts.min(Duration::from_secs(6));
                }
            }
        }
        held.lost.cancel();
    }

    /// Hands in what the command prints, and keeps it.
    async fn hear(&self, stdout: Option<ChildStdout>, held: &Held, enough: &CancellationToken) -> Kept {
        let (mut kept, mut pending) = (Kept::default(), Vec::with_capacity(CHUNK));
        let Some(mut stdout) = stdout else { return kept };
        let mut muted = false;
        let mut flush_at = Instant::now();
        loop {
            let mut buffer = [0; CHUNK];
            let room = CHUNK - pending.len();
            let read = tokio::select! {
                read = stdout.read(&mut buffer[..room]), if room > 0 => Some(read.unwrap_or(0)),
                () = tokio::time::sleep_until(flush_at), if !pending.is_empty() => None,
                () = enough.cancelled() => Some(0),
            };
            match read {
                Some(0) => break,
                Some(read) => {
                    if pending.is_empty() {
                        flush_at = Instant::now() + FLUSH_AFTER;
                    }
                    kept.push(&buffer[..read]);
                    pending.extend_from_slice(&buffer[..read]);
                    if pending.len() < CHUNK {
                        continue;
                    }
                }
                None => {}
            }
            let text = take_text(&mut pending);
            self.hand_in(held, text, &mut muted).await;
            flush_at = Instant::now() + FLUSH_AFTER;
        }
        let rest = String::from_utf8_lossy(&pending).into_owned();
        self.hand_in(held, rest, &mut muted).await;
        kept
    }

    /// A piece of output. What cannot be handed in is still part of the result.
    async fn hand_in(&self, held: &Held, text: String, muted: &mut bool) {
        if text.is_empty() || *muted || held.lost.is_cancelled() {
            return;
        }
        let body = json!({ "text": text });
        let told = tokio::select! {
            told = self.report(held, "output", &body) => told,
            () = held.lost.cancelled() => return,
        };
        match told {
            Ok(_) => {}
            Err(trouble) if trouble.is_lost() => held.lost.cancel(),
            Err(trouble) => {
                // Too much of it: nobody who follows gets more.
                *muted = !trouble.may_pass();
                tracing::info!(run.id = held.run, error = %trouble, "a piece of output was not taken");
            }
        }
    }
}

/// A signal to the whole group of a command; it may have ended.
fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        let _gone = kill_process_group(group, signal);
    }
}

/// The task, for a command that may not want it.
async fn feed(mut stdin: ChildStdin, task: String) {
    let _not_read = stdin.write_all(task.as_bytes()).await;
    let _closed = stdin.write_all(b"\n").await;
}

/// Logs standard error line by line, and returns the last line.
async fn complaints(stderr: Option<ChildStderr>, run: &str, enough: &CancellationToken) -> String {
    let mut last = String::new();
    let Some(mut stderr) = stderr else { return last };
    let mut line = Vec::new();
    let mut log = |line: &mut Vec<u8>| {
        let text = String::from_utf8_lossy(line).trim().to_owned();
        line.clear();
        if !text.is_empty() {
            tracing::info!(run.id = run, line = text, "the command says");
            last = text;
        }
    };
    while let Some(piece) = piece(&mut stderr, enough).await {
        for byte in piece {
            if byte == b'\n' || line.len() >= LINE {
                log(&mut line);
            }
            if byte != b'\n' {
                line.push(byte);
            }
        }
    }
    log(&mut line);
    last
}

async fn piece(from: &mut (impl AsyncRead + Unpin), enough: &CancellationToken) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 4 << 10];
    let read = tokio::select! {
        read = from.read(&mut buffer) => read.unwrap_or(0),
        () = enough.cancelled() => 0,
    };
    buffer.truncate(read);
    (read > 0).then_some(buffer)
}
