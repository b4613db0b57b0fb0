//! Log events of the libraries (tracing) on standard error: one sanitized line each, limited in rate, since peers can cause
//! any number of them.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    collections::HashMap,
    fmt,
    io::{self, IsTerminal},
    mem,
    panic::{self, PanicHookInfo},
    process,
    sync::{Mutex, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anstyle::{AnsiColor, Style};
use tracing::{Event, Level, Subscriber, callsite::Identifier};
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::{
    status_line::Above,
    stdio,
    term::{self, sanitize},
};

/// Warnings and errors from one call site that are printed within [`WINDOW`]; further ones are counted. Lower levels, which
/// `ECHOIC_LOG` enables, are not limited.
const PRINTED_MAX: u32 = 10;

/// The period of the limit [`PRINTED_MAX`].
const WINDOW: Duration = Duration::from_secs(10);

/// Longest line, in characters.
const CHARS_MAX: usize = 4096;

static LIMITER: OnceLock<RateLimiter> = OnceLock::new();

/// Starts logging: warnings and errors, or what `ECHOIC_LOG` selects in the syntax of tracing's `EnvFilter` (`debug`,
/// `echoic_server=trace`). Installs the panic hook.
pub(crate) fn start() {
    let given = std::env::var("ECHOIC_LOG").unwrap_or_default();
    let filter = || EnvFilter::builder().with_default_directive(Level::WARN.into());
    let filter = filter().parse(&given).unwrap_or_else(|error| {
        let given = sanitize(&given);
        term::note(&format!(
            "echoic: ECHOIC_LOG: invalid filter {given}: {error}; expected a level, or MODULE=LEVEL,…"
        ));
        filter().parse_lossy("")
    });
    // The client of NATS logs what it also returns as an error.
    let filter = match "async_nats=off".parse() {
        Ok(off) if !given.contains("async_nats") => filter.add_directive(off),
        _ => filter,
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Above(stdio::errors()))
        // Otherwise a failed write is reported by `eprintln!`, which panics where standard error cannot be written.
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .event_format(Line)
        .init();
    panic::set_hook(Box::new(log_panic));
}

/// Prints how many events were not printed. Call it before the program's last message.
pub(crate) fn end() {
    for line in LIMITER.get_or_init(RateLimiter::default).take_rest() {
        term::note(&line);
    }
}

/// The panic messages of tokio and std if no thread can be created: too many processes (`ulimit -u`) or no memory.
const NO_THREAD: [&str; 2] = ["OS can't spawn worker thread", "failed to spawn thread"];

/// Logs a panic as an event, since its message may contain bytes of a peer, and a peer may cause many.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let why = panic.payload_as_str().unwrap_or("no reason given");
    if NO_THREAD.iter().any(|words| why.starts_with(words)) && is_main() {
        end_without_threads(why);
    }
    let at = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    tracing::error!("a bug in echoic, at {at}: {why}");
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        term::note(&trace.to_string());
    }
}

fn is_main() -> bool {
    thread::current().name() == Some("main")
}

/// Ends the process with an error, since a lack of threads is not a bug. Unwinding would not do: a runtime with some of its
/// threads would wait for them without end.
#[expect(clippy::exit, reason = "see above")]
fn end_without_threads(why: &str) -> ! {
    term::note(&format!(
        "echoic: cannot start a thread: {why}; check the limits of the system with `ulimit -a`"
    ));
    process::exit(1)
}

/// Formats an event as a line.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        context.format_fields(Writer::new(&mut text), event)?;
        let level = *event.metadata().level();
        let mut line = format!("{level:>5} {}", one_line(&text));
        if level <= Level::WARN {
            let limiter = LIMITER.get_or_init(RateLimiter::default);
            match limiter.admit(event.metadata().callsite(), Instant::now(), &line) {
                Some(0) => {}
                Some(skipped) => line += &format!(" ({skipped} more like it before)"),
                None => return Ok(()),
            }
        }
        let style = match level {
            Level::ERROR => AnsiColor::Red.on_default(),
            Level::WARN => AnsiColor::Yellow.on_default(),
            _ => Style::new().dimmed(),
        };
        let (word, rest) = line.split_at(5);
        if writer.has_ansi_escapes() {
            writeln!(writer, "{style}{word}{style:#}{rest}")
        } else {
            writeln!(writer, "{line}")
        }
    }
}

fn one_line(text: &str) -> String {
    let mut line = sanitize(text).replace('\n', "\\n");
    if let Some((cut, _)) = line.char_indices().nth(CHARS_MAX) {
        line.truncate(cut);
        line.push('…');
    }
    line
}

/// Limits the rate of events by call site.
#[derive(Debug, Default)]
struct RateLimiter(Mutex<HashMap<Identifier, CallSite>>);

#[derive(Debug)]
struct CallSite {
    /// The start of the current window.
    since: Instant,
    printed: u32,
    skipped: u64,
    /// The last skipped line.
    last: String,
}

impl RateLimiter {
    /// Decides whether to print `line` from this call site. Returns the number of lines skipped before it; `None` to skip it.
    fn admit(&self, call_site: Identifier, now: Instant, line: &str) -> Option<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let site = all.entry(call_site).or_insert_with(|| CallSite {
            since: now,
            printed: 0,
            skipped: 0,
            last: String::new(),
        });
        if now.saturating_duration_since(site.since) >= WINDOW {
            (site.since, site.printed) = (now, 0);
        }
        if site.printed < PRINTED_MAX {
            site.printed += 1;
            return Some(mem::take(&mut site.skipped));
        }
        site.skipped += 1;
        line.clone_into(&mut site.last);
        None
    }

    /// Takes the skipped lines: for each call site the last one, with the number of the others.
    fn take_rest(&self) -> Vec<String> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let skipped = all
            .values_mut()
            .map(|site| (mem::take(&mut site.skipped), site));
        skipped
            .filter(|(skipped, _)| *skipped > 0)
            .map(|(skipped, site)| match skipped {
                1 => site.last.clone(),
                n => format!("{} ({} more like it before)", site.last, n - 1),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use tracing::callsite::Callsite;

    use super::*;

    #[test]
    fn repeated_log_events_are_printed_or_counted() {
        let address =
            tracing::callsite!(name: "test", kind: tracing::metadata::Kind::EVENT, fields: message);
        let other = tracing::callsite!(name: "other", kind: tracing::metadata::Kind::EVENT, fields: message);
        let of = |callsite: &'static dyn Callsite| callsite.metadata().callsite();
        let (limiter, began) = (RateLimiter::default(), Instant::now());
        let admit_at =
            |after: u64| limiter.admit(of(address), began + Duration::from_millis(after), "line");
        let printed: Vec<_> = (0..10_000).filter_map(|i| admit_at(i / 10)).collect();
        assert_eq!(printed, [0; PRINTED_MAX as usize]);
        assert_eq!(limiter.admit(of(other), began, "another"), Some(0));
        assert_eq!(admit_at(10_000), Some(9990));
        let printed = (0..11).filter_map(|_| admit_at(10_001)).count();
        assert_eq!(printed, PRINTED_MAX as usize - 1);
        assert_eq!(limiter.take_rest(), ["line (1 more like it before)"]);
        assert!(limiter.take_rest().is_empty());
    }

    #[test]
    fn log_event_is_one_bounded_escaped_line() {
        assert_eq!(one_line("a\n\x1b[2J\u{9b}é"), "a\\n\\x1b[2J\\u{9b}é");
        assert_eq!(one_line(&"x".repeat(5000)).chars().count(), CHARS_MAX + 1);
    }
}
