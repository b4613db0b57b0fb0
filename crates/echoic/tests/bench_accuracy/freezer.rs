//! A server that answers at once, except during freezes at times fixed beforehand. Each message contains the time when
//! it was due; the server records when it answered.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A line echo server that handles one line at a time over all its connections.
pub(crate) struct Freezer {
    pub(crate) addr: SocketAddr,
    desk: Arc<Mutex<Desk>>,
}

struct Desk {
    /// The freezes: start (from the first message) and length.
    freezes: Vec<(Duration, Duration)>,
    began: Option<Instant>,
    /// When each message was due, and how long its reply took, in microseconds.
    answered: Vec<(f64, f64)>,
}

impl Freezer {
    pub(crate) fn start(freezes: &[(Duration, Duration)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let desk = Arc::new(Mutex::new(Desk {
            freezes: freezes.to_vec(),
            began: None,
            answered: Vec::new(),
        }));
        let desks = Arc::clone(&desk);
        thread::spawn(move || {
            for caller in listener.incoming().map_while(Result::ok) {
                let desk = Arc::clone(&desks);
                thread::spawn(move || serve(&caller, &desk));
            }
        });
        Self { addr, desk }
    }

    /// Returns when each message was due, from its text, and how long its reply took from then on; ascending by due
    /// time. Both in microseconds.
    pub(crate) fn truth(&self) -> Vec<(f64, f64)> {
        let mut truth = self.desk.lock().unwrap().answered.clone();
        truth.sort_by(|a, b| a.0.total_cmp(&b.0));
        truth
    }
}

fn serve(caller: &TcpStream, desk: &Mutex<Desk>) {
    caller.set_nodelay(true).unwrap();
    let mut line = String::new();
    let mut lines = BufReader::new(caller);
    while lines.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
        let mut desk = desk.lock().unwrap();
        let began = *desk.began.get_or_insert_with(Instant::now);
        for (start, length) in &desk.freezes {
            let (from, until) = (began + *start, began + *start + *length);
            if (from..until).contains(&Instant::now()) {
                thread::sleep(until - Instant::now());
            }
        }
        if (&*caller).write_all(line.as_bytes()).is_err() {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let due: u64 = line.trim_end().parse().unwrap_or_default();
        let took = now.as_nanos() as f64 - due as f64;
        desk.answered.push((due as f64 / 1e3, took / 1e3));
        line.clear();
    }
}
