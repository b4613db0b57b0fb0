//! Options after `?` apply to that endpoint only.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use crate::harness::{Home, Ran, Serve, Talk, until};

#[test]
fn each_option_applies_only_to_its_endpoint() {
    let serve = Serve::start(&[
        ":0",
        "upper=:0?frame=line&max-message=4",
        ":0?as=greet:hi%0A%26bye",
        ":0?as=echo&frame=u8/line",
        "--as",
        "lower",
    ]);
    let [plain, short, greet, echo] = serve.at[..] else {
        panic!("{:?}", serve.addresses)
    };
    Talk::to(plain).ask("NO LIMIT AND NO LINE", "no limit and no line");
    let mut talk = Talk::to(short);
    talk.send("four\nfives\n");
    assert_eq!(talk.rest(), b"FOUR\n");
    assert_eq!(Talk::to(greet).rest(), b"hi\n&bye");
    Talk::to(echo).ask(b"\x03abc\x00", b"abc\n\n");
    let home = serve.home.clone();
    serve.stop();
    let ep = format!("tcp:{}", short.port());
    let ends =
        home.sql("SELECT reason, count(*) FROM conversation GROUP BY reason ORDER BY reason");
    assert!(ends.contains(&"message-too-long|1".to_owned()), "{ends:?}");
    assert_eq!(home.count(&["end:limit"]), 1);
    assert_eq!(home.count(&["end:limit", &format!("ep:{ep}")]), 1);
}

#[test]
fn each_timeout_applies_only_to_its_endpoint() {
    let serve = Serve::start(&[
        "upper=:0?idle-timeout=300ms",
        "upper=:0?frame=line&message-timeout=300ms",
        "chargen=:0?write-timeout=300ms",
        "upper=:0?frame=line",
    ]);
    let mut patient = Talk::to(serve.at[3]);
    patient.send("not fini");
    let since = Instant::now();
    let mut idle = Talk::to(serve.at[0]);
    let mut partial = Talk::to(serve.at[1]);
    partial.send("not fini");
    let stalled = Talk::to(serve.at[2]);
    assert_eq!((idle.rest(), partial.rest()), (vec![], vec![]));
    let took = since.elapsed();
    assert!(took >= Duration::from_millis(250), "{took:?}");
    let home = serve.home.clone();
    let how =
        || home.sql("SELECT reason FROM conversation WHERE reason IS NOT NULL ORDER BY reason");
    until("all three have ended", || {
        how() == ["idle-timeout", "message-timeout", "write-timeout"]
    });
    patient.ask("shed\n", "NOT FINISHED\n");
    drop(stalled);
}

#[test]
fn backlog_and_send_buffer_reach_the_kernel() {
    let serve = Serve::start(&[
        "chargen=:0?backlog=7&sndbuf=8k&write-timeout=300ms",
        "chargen=:0?write-timeout=300ms",
        "--backlog",
        "9",
        "--explain",
    ]);
    serve.err.wait_for("listen(7)");
    serve.err.wait_for("listen(9)");
    // Neither is read: the amount the kernel took is the size of its buffers.
    let _unread = [Talk::to(serve.at[0]), Talk::to(serve.at[1])];
    let home = serve.home.clone();
    let sent = |port: u16| {
        let rows = home.sql(&format!(
            "SELECT sent FROM conversation WHERE reason = 'write-timeout' AND local LIKE '%:{port}'"
        ));
        rows.first().map(|sent| sent.parse::<u64>().unwrap())
    };
    let ports = (serve.at[0].port(), serve.at[1].port());
    until("both have ended", || {
        sent(ports.0).is_some() && sent(ports.1).is_some()
    });
    let (small, large) = (sent(ports.0).unwrap(), sent(ports.1).unwrap());
    assert!(
        small > 0 && small + (256 << 10) < large,
        "{small} and {large}"
    );
}

#[test]
fn unknown_endpoint_option_lists_the_known_ones() {
    let home = Home::new();
    for (endpoint, parts) in [
        (
            ":0?colour=red",
            &[
                "colour",
                "as, frame, max-message, idle-timeout, message-timeout",
            ][..],
        ),
        (
            "unix:./s?idle-timeout=soon",
            &["unix:./s", "?idle-timeout=soon", "250ms"],
        ),
        (
            ":0?max-message=0",
            &["max-message=0", "at least 1 and at most 1G"],
        ),
        (":0?frame=lines", &["lines", "netstring"]),
        (":0?as=shout", &["shout", "chargen"]),
        (":0?backlog=many", &["backlog=many"]),
        (":0?allow=host", &["host", "10.0.0.0/8"]),
        ("./s?mode=999", &["999", "660"]),
    ] {
        let Ran { code, out, err } = home.run(&["serve", endpoint]);
        assert_eq!((code, &*out), (Some(2), &b""[..]), "{endpoint}: {err}");
        for part in parts {
            assert!(err.contains(part), "{endpoint}: {part} is not in {err}");
        }
    }
    assert_eq!(
        fs::read_dir(home.path()).unwrap().count(),
        0,
        "nothing was made"
    );
}

/// Returns the CPU time in milliseconds that a server has used, all threads together: `utime` and `stime` of
/// `/proc/PID/stat`, in hundredths of a second (proc(5)).
fn used(serve: &Serve) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", serve.id())).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
    10 * (ticks(11) + ticks(12))
}

#[test]
fn busy_polling_worker_polls_after_a_message_then_sleeps() {
    const PATIENCE_MS: u64 = 100;
    const PAUSE: Duration = Duration::from_millis(150);
    let serve = |more: &[&str]| {
        let options = [
            "upper=:0",
            "--frame",
            "line",
            "--store",
            "none",
            "--workers",
            "1",
        ];
        Serve::start(&[&options[..], more].concat())
    };
    // CPU time for messages that arrive one at a time; fewer are sent once the result is clear.
    let each = |serve: &Serve| {
        let (mut talk, before) = (Talk::to(serve.at[0]), used(serve));
        let mut messages = 0;
        while messages < 20 && used(serve) - before < PATIENCE_MS {
            talk.ask("hello\n", "HELLO\n");
            thread::sleep(PAUSE);
            messages += 1;
        }
        (used(serve) - before) / messages
    };
    let (looking, sleeping) = (serve(&["--busy-poll", "100ms"]), serve(&[]));
    let (looks, sleeps) = (each(&looking), each(&sleeping));
    // Other processes may take its core for a part of the time.
    assert!(
        looks >= PATIENCE_MS / 10 && looks > 4 * sleeps,
        "a message costs {looks} ms and {sleeps} ms"
    );
    until("it sleeps", || {
        let before = used(&looking);
        thread::sleep(PAUSE);
        used(&looking) == before
    });
}
