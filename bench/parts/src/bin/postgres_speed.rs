//! What recording into PostgreSQL costs: exchanges a second through the store, and the same bytes by `psql \copy`.
//!
//! `cargo run --release -p parts --bin postgres_speed`. It starts a server of its own, in a temporary folder.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement, read by a person"
)]

use std::{
    fs::File,
    process::{Command, Stdio},
    sync::Arc,
    time::Instant,
};

use echoic_core::{
    event::{Address, Batch, EndpointInfo, Event, Opened, Protocol, Role, RunMeta},
    framing::{Framing, Splitter},
    message::{Replies, Run},
    store::{Durability, Store},
};
use echoic_store::{PostgresMode, PostgresStore};
use trials_postgres::{Database, PASSWORD};

const EXCHANGES: u64 = 960_000;

/// A commit's worth: what 50 ms bring at 100,000 exchanges a second.
const EXCHANGES_PER_APPEND: u64 = 4_800;

const CONVERSATIONS: u64 = 64;

/// Appends ready to be made: only the store's work is to be measured.
fn appends(depth: u64) -> Vec<Arc<Batch>> {
    let line = [b"x".repeat(63), b"\n".to_vec()].concat();
    let bytes = line.repeat(depth as usize);
    let mut spans = Vec::new();
    Splitter::new(Framing::Line, 100).split(&bytes, &mut spans);
    let run = Run::new(&bytes, &spans, 0);
    let mut replies = Replies::default();
    for message in run.messages() {
        replies.reply(&message, |out| {
            out.extend(message.body.to_ascii_uppercase());
        });
    }
    let (mut id, mut batches) = (1, vec![opened()]);
    for number in 0..EXCHANGES / EXCHANGES_PER_APPEND {
        let mut batch = Batch::default();
        batch.number = 2 + number;
        for i in 0..EXCHANGES_PER_APPEND / depth {
            let told = RunMeta {
                conversation: 1 + i % CONVERSATIONS,
                n: 1,
                at: 1_767_268_800_000_000,
                latency_ns: 30_000,
                reads: 1,
                reply_offset: id * 64,
            };
            batch.push_run(told, &run, &replies);
            id += depth;
        }
        batches.push(Arc::new(batch));
    }
    batches
}

fn opened() -> Arc<Batch> {
    let endpoint_info = Arc::new(EndpointInfo {
        name: "tcp:5000".into(),
        proto: Protocol::Tcp,
        service: "upper".into(),
        framing: Framing::Line.into(),
    });
    let mut batch = Batch::default();
    batch.number = 1;
    batch.events.extend((1..=CONVERSATIONS).map(|conversation| {
        let address = Address::Net(([127, 0, 0, 1], conversation as u16).into());
        Event::Opened(Opened {
            conversation,
            at: 0,
            remote: address.clone(),
            local: address,
            role: Role::Server,
            endpoint_info: Arc::clone(&endpoint_info),
            tls: None,
        })
    }));
    Arc::new(batch)
}

/// Copies between the table and a file with psql. Returns the seconds.
fn copy(database: &Database, command: &str, file: Stdio, is_out: bool) -> f64 {
    let mut psql = Command::new("psql");
    psql.args(["-X", "-q", "-h", "127.0.0.1", "-U", trials_postgres::USER])
        .args(["-p", &database.port().to_string(), "-d", &database.name])
        .args(["-c", command])
        .env("PGPASSWORD", PASSWORD);
    if is_out {
        psql.stdout(file);
    } else {
        psql.stdin(file);
    }
    let start = Instant::now();
    assert!(psql.status().unwrap().success());
    start.elapsed().as_secs_f64()
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let server = trials_postgres::server("").expect("PostgreSQL is installed");
    let directory = tempfile::tempdir().unwrap();
    for depth in [1, 16] {
        for round in 1..=3 {
            let database = server.database();
            let mode = PostgresMode::Write(Durability::Normal);
            let store = PostgresStore::open(&database.url().parse().unwrap(), mode).unwrap();
            let batches = appends(depth);
            let start = Instant::now();
            for batch in batches {
                runtime.block_on(store.append(vec![batch])).unwrap();
            }
            let stored = start.elapsed().as_secs_f64();
            runtime.block_on(store.close()).unwrap();
            // The same rows into an empty table of the same form, with the same index.
            let path = directory.path().join("rows");
            let out = File::create(&path).unwrap();
            copy(
                &database,
                "COPY (SELECT * FROM echoic.run) TO STDOUT (FORMAT binary)",
                out.into(),
                true,
            );
            database.psql(
                "CREATE TABLE raw (LIKE echoic.run INCLUDING STORAGE); CREATE INDEX ON raw (id); CHECKPOINT",
            );
            let rows = File::open(&path).unwrap();
            let bytes = rows.metadata().unwrap().len();
            let raw = copy(
                &database,
                "COPY raw FROM STDIN (FORMAT binary)",
                rows.into(),
                false,
            );
            println!(
                "runs of {depth:>2}, round {round}: {:.0} exchanges/s stored, {:.0} by psql ({} MB): ratio {:.2}",
                EXCHANGES as f64 / stored,
                EXCHANGES as f64 / raw,
                bytes >> 20,
                raw / stored
            );
        }
    }
}
