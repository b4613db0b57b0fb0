//! What `serve` tells a service manager (`sd_notify(3)`), over a real datagram socket.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

mod harness;

use std::{
    net::TcpStream,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    sync::Arc,
    time::Duration,
};

use self::harness::{Background, Home, Nats, SOON, Serve, Talk};

/// The socket of a service manager.
struct Manager(UnixDatagram);

impl Manager {
    /// Receives the next notification: its variables, one a line.
    #[track_caller]
    fn next(&self) -> String {
        let mut text = vec![0; 4096];
        self.0.set_read_timeout(Some(SOON)).unwrap();
        let n = self.0.recv(&mut text).unwrap();
        String::from_utf8(text[..n].to_vec()).unwrap()
    }
}

/// Starts a server with these variables.
fn start(home: &Arc<Home>, args: &[&str], variables: &[(&str, &str)]) -> Serve {
    let mut command = home.echoic(&[&["serve"], args, &["--print"]].concat());
    command.envs(variables.iter().copied());
    Serve::from(home, args, command)
}

#[test]
fn service_manager_is_told_of_ready_and_stopping() {
    let home = Arc::new(Home::new());
    let path = home.path().join("notify");
    let abstract_name = format!("echoic-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
    for (manager, name) in [
        (
            UnixDatagram::bind(&path).unwrap(),
            path.to_str().unwrap().to_owned(),
        ),
        (
            UnixDatagram::bind_addr(&address).unwrap(),
            format!("@{abstract_name}"),
        ),
    ] {
        let manager = Manager(manager);
        let args = ["upper=:0", "--frame", "line", "--drain-timeout", "5s"];
        let serve = start(&home, &args, &[("NOTIFY_SOCKET", &name)]);
        let ready = manager.next();
        let status = format!("STATUS=listening on tcp://{}", serve.at[0]);
        let mut lines = ready.lines();
        assert_eq!(lines.next(), Some("READY=1"));
        assert!(lines.next().unwrap().starts_with(&status), "{ready}");
        assert!(ready.contains("recording in echoic.db"), "{ready}");
        // It is true.
        TcpStream::connect(serve.at[0]).unwrap();
        serve.stop();
        let stopping = manager.next();
        assert!(
            stopping.starts_with("STOPPING=1\nSTATUS=answering and recording"),
            "{stopping}"
        );
        // The drain timeout, and twice the time that a store may take.
        assert!(
            stopping.ends_with("EXTEND_TIMEOUT_USEC=25000000"),
            "{stopping}"
        );
        manager.0.set_nonblocking(true).unwrap();
        assert!(manager.0.recv(&mut [0; 9]).is_err(), "nothing follows");
    }
}

/// Starts another command with this variable, and waits until it prints `ready`.
#[track_caller]
fn start_other(home: &Home, args: &[&str], variables: &[(&str, &str)], ready: &str) -> Background {
    let mut command = home.echoic(args);
    command.envs(variables.iter().copied());
    Background::of(&mut command, ready)
}

#[test]
fn service_manager_is_told_how_work_keep_and_console_do() {
    let nats = Nats::with_jetstream();
    let home = Home::new();
    let path = home.path().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let (subject, stream) = (nats.url("upper"), nats.url("record"));
    // The console shows what the keeper has made.
    for (args, printed, ready, stopping) in [
        (
            &["work", "upper", "--on", &subject][..],
            "working: ",
            "STATUS=working: upper for nats://127.0.0.1:",
            "STATUS=answering what has been received",
        ),
        (
            &["keep", "--from", &stream],
            "keeping: ",
            "STATUS=keeping: nats://127.0.0.1:",
            "STATUS=writing what has been received",
        ),
        (
            &["console", "--console", "127.0.0.1:0"],
            "reading echoic.db",
            "STATUS=console on http://127.0.0.1:",
            "STATUS=ending open requests",
        ),
    ] {
        let process = start_other(&home, args, &variables, printed);
        let told = manager.next();
        assert!(told.starts_with(&format!("READY=1\n{ready}")), "{told}");
        assert!(!told.contains("#t="), "the token is in {told}");
        process.stop();
        let told = manager.next();
        let expected = format!("STOPPING=1\n{stopping}\nEXTEND_TIMEOUT_USEC=");
        assert!(told.starts_with(&expected), "{told}");
    }
}

#[test]
fn watchdog_of_a_worker_is_fed() {
    let nats = Nats::start(&[]);
    let home = Home::new();
    let path = home.path().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    let variables = [
        ("NOTIFY_SOCKET", path.to_str().unwrap()),
        ("WATCHDOG_USEC", "400000"),
    ];
    let url = nats.url("upper");
    let args = ["work", "upper", "--on", &url];
    let worker = start_other(&home, &args, &variables, "working: ");
    let mut fed = 0;
    while fed < 3 {
        if manager.next() == "WATCHDOG=1" {
            fed += 1;
        }
    }
    worker.stop();
}

#[test]
fn watchdog_is_fed_at_half_its_interval() {
    let home = Arc::new(Home::new());
    let path = home.path().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    let variables = [
        ("NOTIFY_SOCKET", path.to_str().unwrap()),
        ("WATCHDOG_USEC", "400000"),
    ];
    let serve = start(&home, &["upper=:0", "--workers", "3"], &variables);
    let mut fed = 0;
    while fed < 4 {
        let text = manager.next();
        if text == "WATCHDOG=1" {
            fed += 1;
        } else {
            assert!(text.starts_with("READY=1"), "{text}");
        }
    }
    serve.stop();
    // Another process's watchdog is not ours.
    let variables = [&variables[..], &[("WATCHDOG_PID", "1")]].concat();
    let serve = start(&home, &["upper=:0"], &variables);
    while !manager.next().starts_with("READY=1") {}
    manager
        .0
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    assert!(manager.0.recv(&mut [0; 99]).is_err());
    serve.stop();
}

#[test]
fn unusable_notify_socket_stops_no_server() {
    let home = Arc::new(Home::new());
    for name in ["/nowhere/notify", "relative", ""] {
        let serve = start(
            &home,
            &["upper=:0", "--frame", "line"],
            &[("NOTIFY_SOCKET", name)],
        );
        Talk::to(serve.at[0]).ask("hello\n", "HELLO\n");
        let warned = !name.starts_with('/');
        let err = serve.err.clone();
        serve.stop();
        let said = err.all().iter().any(|line| line.contains("cannot notify"));
        assert_eq!(said, warned, "{name}: {:?}", err.all());
    }
}
