//! How a console ends with its server.

use std::{
    io::{BufRead, Read},
    time::Duration,
};

use crate::{first, harness::Talk, with_console};

#[test]
fn stream_of_events_ends_with_bye_after_the_last_exchange() {
    let (mut serve, console) = with_console(&["upper=:0", "--frame", "line"]);
    let mut events = console.events();
    let mut talk = Talk::to(first(&serve));
    talk.ask("hello\n", "HELLO\n");
    talk.send("last\n");
    serve.signal(rustix::process::Signal::TERM);
    let stopped = serve.ends();
    assert_eq!((stopped.code, stopped.recorded), (Some(0), 2));
    let mut text = String::new();
    events.read_to_string(&mut text).unwrap();
    let (last, bye) = (text.find("last\\n"), text.find("event: bye"));
    assert!(last.is_some() && bye.is_some() && last < bye, "{text}");
}

#[test]
fn reader_that_reads_nothing_does_not_hold_up_a_stop() {
    let (serve, console) = with_console(&["upper=:0", "--frame", "line"]);
    let readers: Vec<_> = (0..3).map(|_| console.events()).collect();
    let mut talk = Talk::to(first(&serve));
    for _ in 0..200 {
        talk.ask(
            format!("{}\n", "x".repeat(1000)),
            format!("{}\n", "X".repeat(1000)),
        );
    }
    drop(talk);
    let stopped = serve.stop();
    // A reader that holds it up does so for the whole drain: 10 s.
    assert!(stopped.took < Duration::from_secs(9), "{stopped:?}");
    drop(readers);
}

#[test]
fn second_request_to_stop_does_not_wait_for_the_console() {
    let (mut serve, console) = with_console(&[
        "echo=:0",
        "--drain-timeout",
        "60s",
        "--write-timeout",
        "60s",
    ]);
    let mut events = console.events();
    let mut line = String::new();
    events.read_line(&mut line).unwrap();
    let mut talk = Talk::to(first(&serve));
    talk.0.set_nonblocking(true).unwrap();
    // A peer that reads nothing, so that the drain waits.
    let bytes = vec![b'x'; 65536];
    let mut write = || std::io::Write::write(&mut talk.0, &bytes).is_ok();
    while write() || {
        std::thread::sleep(Duration::from_millis(300));
        write()
    } {}
    serve.signal(rustix::process::Signal::INT);
    serve.err.wait_for("stopping");
    std::thread::sleep(Duration::from_millis(200));
    serve.signal(rustix::process::Signal::INT);
    assert_eq!(serve.ends_somehow(), Some(130));
}
