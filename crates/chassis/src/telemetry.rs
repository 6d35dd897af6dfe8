//! Logs: one line per event on standard error, as text for people or as JSON for collectors, and panics among them.
//! Standard output stays free for what a command prints. Where a trace goes is not decided here.

use std::io::{self, IsTerminal};
use std::sync::Once;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::settings::SettingsError;

/// Section `[log]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// `text` or `json`. Default: `text`.
    pub format: LogFormat,
    /// What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`) or a list of `target=level` as
    /// `tracing_subscriber::EnvFilter` reads it, for example `info,hookyard::access=debug`. Default: `info`.
    pub level: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people; coloured on a terminal unless `NO_COLOR` is set.
    Text,
    /// One JSON object per line, the event's fields at its top level, the span's fields under `span`.
    Json,
}

/// Starts logging and makes panics log lines. The first call of a process wins; later ones (tests, several services in
/// one process) change nothing.
///
/// # Errors
/// `log.level` is not a filter.
pub fn init(settings: &LogSettings) -> Result<(), SettingsError> {
    let filter = EnvFilter::builder().parse(&settings.level).map_err(|error| {
        SettingsError::contradiction("log.level", format!("not a level or a list of target=level: {error}"))
    })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let first = match settings.format {
        LogFormat::Text => {
            let coloured = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            lines.with_ansi(coloured).finish().try_init()
        }
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(true).with_span_list(false).finish().try_init()
        }
    }
    .is_ok();
    if first {
        log_panics();
    }
    Ok(())
}

/// The default hook writes text of several lines, which no JSON collector can read.
fn log_panics() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let payload = panic.payload();
            let text = payload.downcast_ref::<&str>().copied();
            let text =
                text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let thread = std::thread::current();
            // Empty unless RUST_BACKTRACE asks for it.
            let backtrace = std::backtrace::Backtrace::capture();
            let backtrace = match backtrace.status() {
                std::backtrace::BacktraceStatus::Captured => backtrace.to_string(),
                _ => String::new(),
            };
            tracing::error!(
                panic.message = text,
                panic.place = place,
                panic.thread = thread.name().unwrap_or("unnamed"),
                panic.backtrace = backtrace,
                "panic"
            );
        }));
    });
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn it_can_be_started_twice() {
        for format in [LogFormat::Text, LogFormat::Json] {
            init(&LogSettings { format, level: "warn,hookyard=debug".to_owned() }).unwrap();
        }
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        let settings = LogSettings { level: "=loud=".to_owned(), ..LogSettings::default() };
        let told = init(&settings).unwrap_err().to_string();
        assert!(told.starts_with("invalid settings at `log.level`: not a level"), "{told}");
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn json_lines_have_the_fields_at_the_top() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let _inside = tracing::error_span!("request", request_id = "r-1").entered();
            tracing::info!(delivery.id = 7, "sent");
        });
        let written = lines.0.lock().unwrap().clone();
        let line: serde_json::Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(line["message"], "sent");
        assert_eq!(line["delivery.id"], 7);
        assert_eq!(line["span"]["request_id"], "r-1");
    }
}
