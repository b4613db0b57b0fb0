//! A server of known capacity: it takes a fixed time for each request, one after the other.
//!
//! Its clock is computed, not slept: a reply that is sent late because the machine was busy does not delay the next
//! one. So the capacity is exactly one over the service time, on any machine that keeps up with it.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

/// A line echo server with a fixed service time.
pub(crate) struct Queue {
    pub(crate) addr: SocketAddr,
}

#[derive(Default)]
struct Line {
    /// When the last queued request will have been served.
    free: Option<Instant>,
    waiting: VecDeque<(Instant, Arc<TcpStream>, String)>,
}

impl Queue {
    pub(crate) fn start(each: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let line = Arc::new((Mutex::new(Line::default()), Condvar::new()));
        let desk = Arc::clone(&line);
        thread::spawn(move || answer(&desk));
        thread::spawn(move || {
            for caller in listener.incoming().map_while(Result::ok) {
                let line = Arc::clone(&line);
                thread::spawn(move || enqueue_requests(caller, &line, each));
            }
        });
        Self { addr }
    }
}

fn enqueue_requests(caller: TcpStream, line: &(Mutex<Line>, Condvar), each: Duration) {
    caller.set_nodelay(true).unwrap();
    let caller = Arc::new(caller);
    let mut lines = BufReader::new(&*caller).lines().map_while(Result::ok);
    for text in &mut lines {
        let mut waiting = line.0.lock().unwrap();
        let now = Instant::now();
        let free = waiting.free.map_or(now, |free| free.max(now)) + each;
        waiting.free = Some(free);
        waiting.waiting.push_back((free, Arc::clone(&caller), text));
        line.1.notify_one();
    }
}

fn answer(line: &(Mutex<Line>, Condvar)) {
    loop {
        let mut waiting = line.0.lock().unwrap();
        let (at, caller, text) = loop {
            match waiting.waiting.pop_front() {
                Some(next) => break next,
                None => waiting = line.1.wait(waiting).unwrap(),
            }
        };
        drop(waiting);
        thread::sleep(at.saturating_duration_since(Instant::now()));
        // A client that has gone needs no reply.
        let _ = (&*caller).write_all(format!("{text}\n").as_bytes());
    }
}
