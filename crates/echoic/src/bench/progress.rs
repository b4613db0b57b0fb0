//! The progress of a run on standard error: a few lines redrawn on a terminal, or one JSON line a second.

use std::{
    io::{self, IsTerminal},
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::Duration,
};

use echoic_client::bench::{
    Attempt, Length, Load, Observer, Plan, Progress as Snapshot, ProgressReader, Run, percentile,
};
use echoic_plot::terminal::{self, Height};
use serde_json::json;

use super::text;
use crate::{pretty, term};

/// Time between two redraws on a terminal.
const REDRAW: Duration = Duration::from_millis(250);
const SECOND: Duration = Duration::from_secs(1);
/// Width of the bar, in characters.
const BAR: usize = 30;
/// Number of seconds whose p99 the sparkline shows.
const SPARKS: usize = 24;

/// Prints progress in one of three ways.
#[derive(Debug)]
pub(super) struct Progress {
    mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Quiet,
    Redrawn,
    Lines,
}

impl Progress {
    pub(super) fn new(quiet: bool) -> Self {
        let mode = match (quiet, io::stderr().is_terminal()) {
            (true, _) => Mode::Quiet,
            (false, true) => Mode::Redrawn,
            (false, false) => Mode::Lines,
        };
        Self { mode }
    }

    /// Prints a note between the lines of progress.
    pub(super) fn note(&self, text: &str) {
        match self.mode {
            Mode::Quiet => {}
            Mode::Redrawn => term::note(text),
            Mode::Lines => term::note(&json!({"ev": "note", "text": text}).to_string()),
        }
    }
}

impl Observer for Progress {
    fn first_look(&self, done_per_s: f64, connections: u32) {
        self.note(&format!(
            "one connection, closed loop: {done_per_s:.0} replies a second; next: {connections} connections at half that rate"
        ));
    }

    fn attempt_finished(&self, number: usize, attempt: &Attempt) {
        match self.mode {
            Mode::Quiet => {}
            Mode::Redrawn => {
                if number == 1 {
                    term::note(text::RUNS_HEADER);
                }
                term::note(&text::run_row(number, attempt));
            }
            Mode::Lines => term::note(
                &json!({
                    "ev": attempt.purpose.word(), "n": number, "asked_per_s": attempt.asked_per_s,
                    "done_per_s": attempt.done_per_s.round(), "p50_ms": attempt.p50_ms, "p99_ms": attempt.p99_ms,
                    "kept": attempt.passed, "verdict": attempt.verdict.limit.word(),
                })
                .to_string(),
            ),
        }
    }

    fn follow_run(&self, plan: &Plan, run: &Run, watch: &ProgressReader, is_done: &Receiver<()>) {
        let every = match self.mode {
            Mode::Quiet => return,
            Mode::Redrawn => REDRAW,
            Mode::Lines => SECOND,
        };
        let mut drawn = 0;
        let mut sparks = Vec::new();
        while let Err(RecvTimeoutError::Timeout) = is_done.recv_timeout(every) {
            let progress = watch.progress();
            if self.mode == Mode::Lines {
                term::note(&line(run, &progress));
                continue;
            }
            if progress.seconds > sparks.len()
                && let Some(recent) = &progress.recent
            {
                // Seconds that ended between two redraws are gaps.
                sparks.resize(progress.seconds - 1, f64::NAN);
                let p99 = Some(&recent.due).filter(|due| !due.is_empty());
                sparks.push(p99.map_or(f64::NAN, |due| due.value_at_quantile(0.99) as f64));
            }
            erase(drawn);
            let lines = lines(plan, run, &progress, &sparks);
            drawn = lines.len();
            // Turn wrapping off: a line wider than the terminal would take two rows, and `erase` would miss one.
            term::draw(&format!("\x1b[?7l{}\n\x1b[?7h", lines.join("\n")));
        }
        erase(drawn);
    }
}

fn erase(lines: usize) {
    if lines > 0 {
        term::draw(&format!("\x1b[{lines}A\x1b[J"));
    }
}

fn line(run: &Run, progress: &Snapshot) -> String {
    let recent = progress.recent.as_ref();
    let at = |q| {
        let found = recent.and_then(|second| percentile(&second.due, q));
        found.map(|time| (time.as_secs_f64() * 1e7).round() / 10.0)
    };
    json!({
        "ev": "progress", "s": (progress.now as f64 / 1e8).round() / 10.0,
        "warmup": progress.now < run.warmup.as_nanos() as u64,
        "asked": progress.asked, "sent": progress.sent, "ok": progress.ok, "wrong": progress.wrong,
        "lost": progress.lost, "in_flight": progress.in_flight,
        "done_per_s": recent.map(|second| second.ok + second.wrong), "p50_us": at(0.5), "p99_us": at(0.99),
    })
    .to_string()
}

fn lines(plan: &Plan, run: &Run, progress: &Snapshot, sparks: &[f64]) -> Vec<String> {
    let now = progress.now as f64 / 1e9;
    let warmup = run.warmup.as_secs_f64();
    let load = match &run.load {
        Load::Closed => "closed loop".to_owned(),
        Load::Open { rate, .. } => format!("open loop {}/s", text::count(*rate)),
        Load::Recorded(_) => "as recorded".to_owned(),
    };
    let (share, of) = match run.length {
        Length::For(time) => {
            let window = time.as_secs_f64();
            let into = (now - warmup).clamp(0.0, window);
            (into / window, format!("{into:.1} / {window:.1} s"))
        }
        Length::Count(count) => {
            let done = progress.ok + progress.wrong + progress.lost;
            (done as f64 / count as f64, format!("{done} / {count}"))
        }
    };
    let filled = (0..BAR).map(|at| {
        if (at as f64) < share * BAR as f64 {
            '█'
        } else {
            ' '
        }
    });
    let bar: String = filled.collect();
    let phase = if now < warmup { "warm-up" } else { "       " };
    let recent = progress.recent.as_ref();
    let at = |q| {
        recent
            .and_then(|second| percentile(&second.due, q))
            .map_or_else(|| "–".to_owned(), text::ms)
    };
    let per_second = recent.map_or(0, |second| second.ok + second.wrong);
    vec![
        format!(
            "{} · {} · {} · {load}",
            plan.endpoint,
            plan.expect,
            pretty::count(plan.connections.into(), "connection")
        ),
        format!("{phase} [{bar}] {of}   Ctrl-C stops"),
        format!(
            " sent {}  ok {}  wrong {}  lost {}  in flight {}   done {}/s",
            text::count(progress.sent as f64),
            text::count(progress.ok as f64),
            progress.wrong,
            progress.lost,
            progress.in_flight,
            text::count(per_second as f64),
        ),
        format!(
            " now  p50 {}  p90 {}  p99 {} ms   p99 a second: {}",
            at(0.5),
            at(0.9),
            at(0.99),
            terminal::sparkline(sparks, SPARKS, Height::Log)
        ),
        format!(
            " generator  lag p99 {} ms",
            text::ms(Duration::from_nanos(progress.lag_p99))
        ),
    ]
}
