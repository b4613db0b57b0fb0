//! How fast runs are kept, beside the least that SQLite can do with the same bytes in the same run: one row of an id
//! and a blob for each. Read the ratios, not the megabytes.
//!
//! `cargo run --release -p parts --bin keeping_speed -- [--json] [DIR [MIB]]`
#![allow(clippy::print_stdout, reason = "the figures are the payload")]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use echoic_core::{
    event::{Batch, Event, RunMeta},
    framing::{Framing, Splitter},
    message::{Replies, Run},
    store::{Durability, Store},
};
use echoic_store::SqliteStore;
use nix::time::{ClockId, clock_gettime};
use rusqlite::Connection;

/// Bytes of a batch that the recorder does not wait to fill further.
const ROUND_BYTES: usize = 512 << 10;

/// What is kept: so many lines of so many bytes in a run.
const SHAPES: [(&str, usize, usize); 6] = [
    ("depth 1", 1, 64),
    ("depth 4", 4, 64),
    ("depth 16", 16, 64),
    ("depth 64", 64, 64),
    ("depth 256", 256, 64),
    ("8 x 64 KiB", 1, 64 << 10),
];

type Failure = Box<dyn std::error::Error>;

/// What keeping took.
struct Taken {
    seconds: f64,
    cpu: f64,
    bytes: usize,
    messages: usize,
}

fn main() -> Result<(), Failure> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let json = words.first().is_some_and(|word| word == "--json");
    words.drain(..usize::from(json));
    let dir = words.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let mib: usize = words.get(1).map_or(Ok(192), |word| word.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    if !json {
        println!(
            "{:<12} {:<7} {:>8} {:>12} {:>12}",
            "runs of", "kept by", "MB/s", "messages/s", "us CPU each"
        );
    }
    for (name, lines, size) in SHAPES {
        let batch = batch(lines, size);
        let rounds = ((mib << 20) / batch.size()).max(1);
        for kept_by in ["blob", "record"] {
            let home = tempfile::tempdir_in(&dir)?;
            let path = home.path().join("echoic.db");
            let taken = match kept_by {
                "blob" => as_blobs(&path, &batch, rounds)?,
                _ => runtime.block_on(as_record(&path, &batch, rounds))?,
            };
            let Taken {
                seconds,
                cpu,
                bytes,
                messages,
            } = taken;
            let (mb, each) = (bytes as f64 / seconds / 1e6, cpu / messages as f64 * 1e6);
            let rate = messages as f64 / seconds;
            if json {
                println!(
                    "{{\"load\":\"{name}\",\"server\":\"{kept_by}\",\"per_second\":{rate:.0},\"bytes_per_second\":{:.0},\"cpu_us_per_message\":{each:.4}}}",
                    mb * 1e6
                );
            } else {
                println!("{name:<12} {kept_by:<7} {mb:>8.0} {rate:>12.0} {each:>12.3}");
            }
        }
    }
    Ok(())
}

/// Runs as conversations tell them, until the recorder would come by.
fn batch(lines: usize, size: usize) -> Batch {
    let mut line = vec![b'a'; size - 1];
    line.push(b'\n');
    let (bytes, mut spans) = (line.repeat(lines), Vec::new());
    Splitter::new(Framing::Line, 1 << 20).split(&bytes, &mut spans);
    let run = Run::new(&bytes, &spans, 0);
    let mut replies = Replies::default();
    replies.clear(Framing::Line.into());
    for message in run.messages() {
        replies.reply(&message, |out| {
            out.extend(message.body.to_ascii_uppercase());
        });
    }
    let mut batch = Batch::default();
    while batch.size() < ROUND_BYTES {
        let told = RunMeta {
            conversation: 1,
            n: 1,
            at: 1_767_268_800_000_000,
            latency_ns: 30_000,
            reads: 1,
            reply_offset: 0,
        };
        batch.push_run(told, &run, &replies);
    }
    batch
}

/// Bytes heard and said in a batch.
fn payload(batch: &Batch) -> usize {
    let of = |event: &Event| match event {
        Event::Run(run) => run.request.len() + run.reply.len(),
        _ => 0,
    };
    batch.events.iter().map(of).sum()
}

fn since(begun: (Instant, Duration), batch: &Batch, rounds: usize) -> Result<Taken, Failure> {
    Ok(Taken {
        seconds: begun.0.elapsed().as_secs_f64(),
        cpu: cpu()?.saturating_sub(begun.1).as_secs_f64(),
        bytes: payload(batch) * rounds,
        messages: batch.exchanges() as usize * rounds,
    })
}

/// What all threads of this process have used of the processor.
fn cpu() -> Result<Duration, Failure> {
    Ok(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into())
}

/// As a serve keeps it, until all of it is in one file.
async fn as_record(path: &Path, batch: &Batch, rounds: usize) -> Result<Taken, Failure> {
    let store = SqliteStore::open(path, Durability::Normal)?;
    let begun = (Instant::now(), cpu()?);
    for number in 1..=rounds {
        // The recorder's part: a batch of its own.
        let mut told = batch.clone();
        told.number = number as u64;
        store.append(vec![Arc::new(told)]).await?;
    }
    store.close().await?;
    since(begun, batch, rounds)
}

/// As the least there is: an id and a blob, the same bytes in the same transactions, as SQLite comes.
fn as_blobs(path: &Path, batch: &Batch, rounds: usize) -> Result<Taken, Failure> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.execute("CREATE TABLE run (id INTEGER PRIMARY KEY, bytes BLOB)", [])?;
    let begun = (Instant::now(), cpu()?);
    let (mut next, mut joined) = (1, Vec::new());
    for _ in 0..rounds {
        let transaction = connection.unchecked_transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO run VALUES (?, ?)")?;
            for event in &batch.events {
                if let Event::Run(run) = event {
                    joined.clear();
                    joined.extend_from_slice(batch.bytes(run.request));
                    joined.extend_from_slice(batch.bytes(run.reply));
                    insert.execute((next, &joined))?;
                    next += u64::from(run.count);
                }
            }
        }
        transaction.commit()?;
    }
    connection.close().map_err(|(_, why)| why)?;
    since(begun, batch, rounds)
}
