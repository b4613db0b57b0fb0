//! The list of processes for a terminal.

use std::fmt::Write as _;

use echoic_core::{
    event::Micros,
    process::{
        ListeningAt, Process, ProcessRole, ProcessState, RecordLag, RunsInHand, SeenProcess,
        StreamLag,
    },
    units::Bytes,
};

use super::processes::{Found, StoreState};
use crate::pretty;

/// Endpoints of a server that are named; the others are counted.
const NAMED_MAX: usize = 3;

/// Columns before the last one, which is as long as it is.
const COLUMNS: usize = 5;

/// Returns the lines of the table.
pub(super) fn lines(found: &Found, now: Micros) -> Vec<String> {
    let head = [
        "ROLE",
        "PROCESS",
        "STATE",
        "VERSION",
        "UP",
        "SERVES, AND HOW FAR IT IS BEHIND",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(found.processes.iter().map(|seen| row(seen, found, now)));
    let widths: Vec<_> = (0..COLUMNS)
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max())
        .map(Option::unwrap_or_default)
        .collect();
    let mut lines = Vec::new();
    if !found.processes.is_empty() {
        lines.extend(rows.iter().map(|row| {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, "{cell:<width$}  ");
            }
            line.push_str(&row[COLUMNS]);
            line.trim_end().to_owned()
        }));
    }
    lines.extend(found.store.as_ref().map(|store| of_store(store, now)));
    lines
}

fn row(seen: &SeenProcess, found: &Found, now: Micros) -> [String; COLUMNS + 1] {
    let process = &seen.process;
    let version = if process.version.is_empty() {
        "?"
    } else {
        &process.version
    };
    [
        role(process.role).to_owned(),
        process.name(),
        state(seen.state).to_owned(),
        version.to_owned(),
        age(process.started_us, now),
        details(seen, found, now).join(", "),
    ]
}

fn role(role: ProcessRole) -> &'static str {
    match role {
        ProcessRole::Serve => "serve",
        ProcessRole::Work => "work",
        ProcessRole::Keeper => "keep",
        ProcessRole::Console => "console",
        ProcessRole::Other => "other",
    }
}

fn state(state: ProcessState) -> &'static str {
    match state {
        ProcessState::Running => "running",
        ProcessState::Stopping => "stopping",
        ProcessState::Silent => "silent",
        ProcessState::Recorded => "recorded",
    }
}

/// What a process serves, and how far it is behind.
fn details(seen: &SeenProcess, found: &Found, now: Micros) -> Vec<String> {
    let Process {
        role,
        listening,
        svc,
        subjects,
        store,
        console,
        runs,
        record,
        stream,
        failing,
        ..
    } = &seen.process;
    let mut details = Vec::new();
    let named = listening.iter().take(NAMED_MAX);
    details.extend(named.map(|ListeningAt { addr, svc }| format!("{svc} on {addr}")));
    if listening.len() > NAMED_MAX {
        details.push(format!("{} more", listening.len() - NAMED_MAX));
    }
    match (role, svc) {
        (ProcessRole::Work, Some(svc)) => details.push(format!("{svc} at {}", subjects.join(" "))),
        _ if subjects.is_empty() => {}
        _ => details.push(format!("workers at {}", subjects.join(" "))),
    }
    if let Some(url) = console.as_ref().filter(|_| *role == ProcessRole::Console) {
        details.push(url.clone());
    }
    details.extend(store.as_ref().map(|store| match role {
        ProcessRole::Console => format!("of {store}"),
        _ => format!("into {store}"),
    }));
    details.extend(runs.as_ref().map(|RunsInHand { pending, in_flight }| {
        format!("{pending} pending, {in_flight} in flight")
    }));
    details.extend(record.as_ref().map(|lag| of_record(lag, now)));
    // Of a server only where no keeper tells the same.
    let of_keeper = |lag: &&StreamLag| *role == ProcessRole::Serve && has_keeper(found, &lag.name);
    let stream = stream.as_ref().filter(|lag| !of_keeper(lag));
    details.extend(stream.map(|lag| of_stream(lag, now)));
    details.extend(failing.as_ref().map(|why| format!("not recording: {why}")));
    match (seen.state, seen.seen_us) {
        (ProcessState::Recorded | ProcessState::Silent, Some(at)) => {
            details.push(format!("last seen in the record {} ago", age(at, now)));
        }
        (ProcessState::Recorded, None) => details.push("nothing in the record yet".to_owned()),
        _ => {}
    }
    details
}

fn has_keeper(found: &Found, stream: &str) -> bool {
    found.processes.iter().any(|seen| {
        let Process {
            role, stream: of, ..
        } = &seen.process;
        let answers = seen.state != ProcessState::Silent;
        answers && *role == ProcessRole::Keeper && of.as_ref().is_some_and(|of| of.name == stream)
    })
}

fn of_record(lag: &RecordLag, now: Micros) -> String {
    let RecordLag {
        waiting,
        waiting_bytes,
        lost,
        committed_us,
    } = *lag;
    let committed = match committed_us {
        Some(at) => format!("committed {} ago", age(at, now)),
        None => "nothing committed yet".to_owned(),
    };
    let lost = if lost > 0 {
        format!(", {lost} lost")
    } else {
        String::new()
    };
    let exchanges = pretty::count(waiting, "exchange");
    let bytes = Bytes(waiting_bytes);
    format!("{exchanges} ({bytes}) unacknowledged{lost}, {committed}")
}

fn of_stream(lag: &StreamLag, now: Micros) -> String {
    let name = &lag.name;
    match (lag.pending, lag.oldest_us) {
        (None, _) => format!("stream {name}: not known"),
        (Some(0), _) => format!("stream {name}: all stored"),
        (Some(pending), oldest) => {
            let word = if pending == 1 { "batch" } else { "batches" };
            let since = oldest.map(|at| format!(", the oldest for {}", age(at, now)));
            format!(
                "stream {name}: {pending} {word} not stored{}",
                since.unwrap_or_default()
            )
        }
    }
}

fn of_store(store: &StoreState, now: Micros) -> String {
    let StoreState {
        url, last, stats, ..
    } = store;
    let newest = match stats.newest {
        Some(at) => format!("newest exchange {}, {} ago", last.exchange, age(at, now)),
        None => "no exchange".to_owned(),
    };
    format!("store {url}: {newest}")
}

/// The time since a moment: `3s`, `2h 5m`. A clock that is ahead of ours counts as now.
fn age(at: Micros, now: Micros) -> String {
    if at == 0 {
        return "?".to_owned();
    }
    let seconds = now.saturating_sub(at).max(0) / 1_000_000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_has_two_units_at_most() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (61, "1m 1s"),
            (3_600, "1h 0m"),
            (90_061, "1d 1h"),
        ] {
            assert_eq!(age(7, 7 + seconds * 1_000_000), text);
        }
        assert_eq!(age(9, 7), "0s");
    }
}
