//! Rows 16 and 17: clients at the moment of the stop, and a restart under load.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use trials_peers::{
    Serve,
    naive::{Naive, STOPS_WITHOUT_ACCEPTING},
    namespace::alone,
};
use trials_report::{Row, Scale, program};

/// The results of clients.
#[derive(Clone, Copy, Debug, Default)]
struct Met {
    answered: u64,
    /// Connected, and closed in order without a reply: its message came after the stop.
    ended: u64,
    refused: u64,
    reset: u64,
}

impl Met {
    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.ended += other.ended;
        self.refused += other.refused;
        self.reset += other.reset;
    }

    /// Connects, sends a request, and counts the result.
    fn call(&mut self, at: SocketAddr) {
        let patience = Duration::from_secs(20);
        let Ok(mut stream) = TcpStream::connect_timeout(&at, patience) else {
            self.refused += 1;
            return;
        };
        stream.set_read_timeout(Some(patience)).unwrap();
        let mut received: Vec<u8> = Vec::new();
        let asked = stream.write_all(b"hello\n").and_then(|()| {
            let mut reply = [0; 6];
            let n = stream.read(&mut reply)?;
            received.extend(&reply[..n]);
            Ok(())
        });
        match asked {
            Ok(()) if received == b"HELLO\n" => self.answered += 1,
            Ok(()) => self.ended += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.ended += 1,
            Err(_) => self.reset += 1,
        }
    }
}

/// Clients one after the other, four at a time, until they are stopped or, with `once_refused`, a connection is
/// refused.
fn callers(
    at: SocketAddr,
    stop: &Arc<AtomicBool>,
    once_refused: bool,
) -> Vec<thread::JoinHandle<Met>> {
    let caller = |_| {
        let stop = Arc::clone(stop);
        thread::spawn(move || {
            let mut met = Met::default();
            while !stop.load(Ordering::Relaxed) && (met.refused == 0 || !once_refused) {
                met.call(at);
            }
            met
        })
    };
    (0..4).map(caller).collect()
}

fn sum(callers: Vec<thread::JoinHandle<Met>>) -> Met {
    let mut all = Met::default();
    for caller in callers {
        all.add(caller.join().unwrap());
    }
    all
}

#[test]
fn callers_at_the_stop_are_answered_or_refused() {
    alone(
        "stop::callers_at_the_stop_are_answered_or_refused",
        last_moment,
    );
}

fn last_moment() {
    let scale = Scale::asked();
    let rounds = scale.pick(5, 50);
    let (mut met, mut in_order, mut recorded) = (Met::default(), true, 0);
    for _ in 0..rounds {
        let serve = Serve::start(&["upper=:0", "--frame", "line"]);
        let calling = callers(serve.at[0], &Arc::default(), true);
        thread::sleep(Duration::from_millis(fastrand::u64(50..250)));
        let (stopped, _home) = serve.stop();
        in_order &= stopped.in_order && stopped.lost == 0;
        recorded += stopped.recorded;
        met.add(sum(calling));
    }
    let naive = Naive::start(STOPS_WITHOUT_ACCEPTING);
    let at = naive.at;
    let calling = (0..8).map(|_| {
        thread::spawn(move || {
            let mut met = Met::default();
            met.call(at);
            met
        })
    });
    let naive = sum(calling.collect());
    Row {
        row: 16,
        hazard: "clients at the moment of the stop".into(),
        load: format!("{rounds} × TERM at a random moment, 4 clients one after the other all the time"),
        observed: format!(
            "{} answered and {recorded} recorded, {} refused, {} let in and ended in order before they sent a request, {} reset; \
             code 0 each time: {in_order}",
            met.answered, met.refused, met.ended, met.reset
        ),
        limit: "as many recorded as answered; none reset".into(),
        control: format!("a server that closes without accepting its queue: {} of 8 reset", naive.reset),
        pass: met.reset == 0 && recorded == met.answered && in_order && met.answered > 0 && naive.reset > 0,
        scale,
    }
    .hold();
}

/// Starts the server this many times, each after the last has stopped: with a listening socket that is handed over to
/// each, or without.
const RESTARTS: &str = "
import signal, socket, subprocess, sys, time
program, rounds, handed = sys.argv[1], int(sys.argv[2]), sys.argv[3] == 'handed'
own = socket.create_server(('127.0.0.1', 0), backlog=1024)
port = own.getsockname()[1]
endpoint = f'fd:{own.fileno()}' if handed else f'127.0.0.1:{port}'
if not handed:
    own.close()
for i in range(rounds):
    serve = subprocess.Popen([program, 'serve', endpoint, '--frame', 'line', '--store', 'none', '--print', '--quiet'],
        pass_fds=[own.fileno()] if handed else [], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    serve.stdout.readline()
    if i == 0:
        print(port, flush=True)
    time.sleep(0.2)
    serve.send_signal(signal.SIGTERM)
    assert serve.wait(30) == 0
";

fn restarts(rounds: usize, how: &str) -> Met {
    let mut child = Command::new("python3")
        .args(["-c", RESTARTS])
        .arg(program("echoic"))
        .args([&rounds.to_string(), how])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut port = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut port)
        .unwrap();
    let at = SocketAddr::from(([127, 0, 0, 1], port.trim().parse().unwrap()));
    let stop = Arc::<AtomicBool>::default();
    let calling = callers(at, &stop, false);
    // After the last stop nothing listens; clients stop a little before.
    thread::sleep(Duration::from_millis(220 * (rounds as u64 - 1)));
    stop.store(true, Ordering::Relaxed);
    let met = sum(calling);
    assert!(child.wait().unwrap().success());
    met
}

#[test]
fn restart_with_inherited_socket_refuses_no_caller() {
    alone(
        "stop::restart_with_inherited_socket_refuses_no_caller",
        restart,
    );
}

fn restart() {
    let scale = Scale::asked();
    let rounds = scale.pick(5, 20);
    let (handed, own) = (restarts(rounds, "handed"), restarts(rounds, "own"));
    Row {
        row: 17,
        hazard: "a restart".into(),
        load: format!("{rounds} servers one after the other, 4 clients all the time"),
        observed: format!(
            "with a socket handed over (`fd:N`): {} answered, {} refused, {} reset, {} ended before they sent a request",
            handed.answered, handed.refused, handed.reset, handed.ended
        ),
        limit: "none refused, none reset".into(),
        control: format!("without one {} refused of {}", own.refused, own.refused + own.answered),
        pass: handed.refused == 0 && handed.reset == 0 && handed.answered > 0 && own.refused > 0,
        scale,
    }
    .hold();
}
