//! What recording costs: CPU microseconds an exchange, as runs of 1 and of 16, over few conversations and many;
//! and how long it takes to find something in the half million of them.
//!
//! `cargo run --release -p parts --bin append_speed`

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement, read by a person"
)]

use std::{sync::Arc, time::Instant};

use echoic_core::{
    event::{Address, Batch, EndpointInfo, Event, Opened, Protocol, Role, RunMeta},
    filter::Filter,
    framing::{Framing, Splitter},
    message::{Replies, Run},
    store::{Durability, Order, Page, Store},
};
use echoic_store::{SqliteReader, SqliteStore};

const EXCHANGES: u64 = 480_000;

/// A commit's worth: what 50 ms bring at 100,000 exchanges a second.
const EXCHANGES_PER_APPEND: u64 = 4_800;

/// CPU time of this process in seconds, both threads and the kernel's part.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    // utime and stime, in ticks of 10 ms (proc_pid_stat(5)).
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Appends ready to be made: only the store's work is to be measured.
fn appends(conversations: u64, depth: u64) -> Vec<Arc<Batch>> {
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
    let (mut id, mut batches) = (1, Vec::new());
    for number in 0..EXCHANGES / EXCHANGES_PER_APPEND {
        let mut batch = Batch::default();
        batch.number = 2 + number;
        for i in 0..EXCHANGES_PER_APPEND / depth {
            let told = RunMeta {
                conversation: 1 + i % conversations,
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

fn opened(conversations: u64) -> Arc<Batch> {
    let endpoint_info = Arc::new(EndpointInfo {
        name: "tcp:5000".into(),
        proto: Protocol::Tcp,
        service: "upper".into(),
        framing: Framing::Line.into(),
    });
    let mut batch = Batch::default();
    batch.number = 1;
    batch.events.extend((1..=conversations).map(|conversation| {
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

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for (depth, conversations) in [(1, 64), (1, 1_000), (16, 64)] {
        let dir =
            tempfile::tempdir_in(std::env::args().nth(1).unwrap_or_else(|| ".".into())).unwrap();
        let store = SqliteStore::open(&dir.path().join("echoic.db"), Durability::Normal).unwrap();
        runtime
            .block_on(store.append(vec![opened(conversations)]))
            .unwrap();
        let batches = appends(conversations, depth);
        let (before, start) = (cpu(), Instant::now());
        for batch in batches {
            runtime.block_on(store.append(vec![batch])).unwrap();
        }
        runtime.block_on(store.close()).unwrap();
        let (cpu, wall) = (cpu() - before, start.elapsed().as_secs_f64());
        let each = 1e6 / EXCHANGES as f64;
        println!(
            "runs of {depth:>2}, {conversations:>4} conversations: {:.2} us CPU an exchange, {:.2} a row; {:.2} us wall; {} bytes on disk an exchange",
            cpu * each,
            cpu * each * depth as f64,
            wall * each,
            std::fs::metadata(dir.path().join("echoic.db"))
                .unwrap()
                .len()
                / EXCHANGES,
        );
        let reader = SqliteReader::open(&dir.path().join("echoic.db")).unwrap();
        for question in ["", "is:unsent", "svc:nobody", "conv:7", "nowhere", "XxX"] {
            let (filter, start) = (Filter::parse(question).unwrap(), Instant::now());
            let count = runtime.block_on(reader.count(&filter, 0)).unwrap();
            let counted = start.elapsed();
            let page = Page {
                order: Order::NewestFirst,
                beyond: None,
                until: None,
                limit: 50,
                now: 0,
            };
            let start = Instant::now();
            let found = runtime
                .block_on(reader.find(&filter, page))
                .unwrap()
                .exchanges
                .len();
            let found_in = start.elapsed();
            println!(
                "    {question:?}: {count} counted in {counted:.1?}, newest {found} in {found_in:.1?}"
            );
        }
    }
}
