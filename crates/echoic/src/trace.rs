//! What the libraries have to say, on standard error: an event is a line, in which a terminal finds nothing to obey, and
//! there are no more of them than somebody reads, whatever peers do.

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

use crate::term::{self, sanitize};

/// Warnings and errors of one kind that are said within [`WINDOW`]; the others are counted. What is asked for with
/// `ECHOIC_LOG` is said in full.
const SAID_MAX: u32 = 10;

/// See [`SAID_MAX`].
const WINDOW: Duration = Duration::from_secs(10);

/// The longest line, in characters.
const CHARS_MAX: usize = 4096;

static STORM: OnceLock<Storm> = OnceLock::new();

/// Has warnings and errors of the libraries said; `ECHOIC_LOG` asks for more, in the words of tracing's filters
/// (`debug`, `echoic_server=trace`).
pub(crate) fn start() {
    let filter = EnvFilter::builder()
        .with_env_var("ECHOIC_LOG")
        .with_default_directive(Level::WARN.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .event_format(Line)
        .init();
    panic::set_hook(Box::new(tell_bug));
}

/// Says how much was not said. To be called before the last word.
pub(crate) fn end() {
    for line in STORM.get_or_init(Storm::default).rest() {
        term::say(&line);
    }
}

/// What tokio and std panic with where there is no thread to be had: too many processes (`ulimit -u`), no memory.
const NO_THREAD: [&str; 2] = ["OS can't spawn worker thread", "failed to spawn thread"];

/// A panic is an event like another one: its message may hold a peer's bytes, and a peer may cause many.
fn tell_bug(bug: &PanicHookInfo<'_>) {
    let why = bug.payload_as_str().unwrap_or("no reason given");
    if NO_THREAD.iter().any(|words| why.starts_with(words)) && is_main() {
        end_without_threads(why);
    }
    let at = bug.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!("a bug in echoic, at {at}: {why}");
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        term::say(&trace.to_string());
    }
}

fn is_main() -> bool {
    thread::current().name() == Some("main")
}

/// The system has no thread for what is being started, which is no bug. It ends here and not with the unwinding, in which
/// a runtime that has some of its threads waits for them for ever.
#[expect(clippy::exit, reason = "see above")]
fn end_without_threads(why: &str) -> ! {
    term::say(&format!(
        "echoic: cannot start a thread: {why}; limits of the system are shown by `ulimit -a`"
    ));
    process::exit(1)
}

/// How an event looks.
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
            let storm = STORM.get_or_init(Storm::default);
            match storm.may_say(event.metadata().callsite(), Instant::now(), &line) {
                Some(0) => {}
                Some(unsaid) => line += &format!(" ({unsaid} more like it before)"),
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

/// How often the same was to be said lately.
#[derive(Debug, Default)]
struct Storm(Mutex<HashMap<Identifier, Heard>>);

#[derive(Debug)]
struct Heard {
    since: Instant,
    said: u32,
    unsaid: u64,
    last: String,
}

impl Storm {
    /// Whether `line`, which comes from this place in the code, is to be said, and how many like it were not before.
    fn may_say(&self, address: Identifier, now: Instant, line: &str) -> Option<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = all.entry(address).or_insert_with(|| Heard {
            since: now,
            said: 0,
            unsaid: 0,
            last: String::new(),
        });
        if now.saturating_duration_since(heard.since) >= WINDOW {
            (heard.since, heard.said) = (now, 0);
        }
        if heard.said < SAID_MAX {
            heard.said += 1;
            return Some(mem::take(&mut heard.unsaid));
        }
        heard.unsaid += 1;
        line.clone_into(&mut heard.last);
        None
    }

    /// What was never said, which then counts as said: of each kind how often, and the last.
    fn rest(&self) -> Vec<String> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let unsaid = all
            .values_mut()
            .map(|heard| (mem::take(&mut heard.unsaid), heard));
        unsaid
            .filter(|(unsaid, _)| *unsaid > 0)
            .map(|(unsaid, heard)| match unsaid {
                1 => heard.last.clone(),
                n => format!("{} ({} more like it before)", heard.last, n - 1),
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
        let (storm, began) = (Storm::default(), Instant::now());
        let say =
            |after: u64| storm.may_say(of(address), began + Duration::from_millis(after), "line");
        let said: Vec<_> = (0..10_000).filter_map(|i| say(i / 10)).collect();
        assert_eq!(said, [0; SAID_MAX as usize]);
        assert_eq!(storm.may_say(of(other), began, "another"), Some(0));
        assert_eq!(say(10_000), Some(9990));
        let said = (0..11).filter_map(|_| say(10_001)).count();
        assert_eq!(said, SAID_MAX as usize - 1);
        assert_eq!(storm.rest(), ["line (1 more like it before)"]);
        assert!(storm.rest().is_empty());
    }

    #[test]
    fn log_event_is_one_bounded_escaped_line() {
        assert_eq!(one_line("a\n\x1b[2J\u{9b}é"), "a\\n\\x1b[2J\\u{9b}é");
        assert_eq!(one_line(&"x".repeat(5000)).chars().count(), CHARS_MAX + 1);
    }
}
