//! The web console of the program: where it is, who gets its token, what it may do, and how it ends.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

#[path = "console/beside.rs"]
mod beside;
#[path = "console/calls.rs"]
mod calls;
#[allow(dead_code, reason = "made for the tests of TLS, which use all of it")]
#[path = "tls/certs.rs"]
mod certs;
mod harness;
#[path = "console/https.rs"]
mod https;
#[path = "console/keys.rs"]
mod keys;
#[path = "console/stop.rs"]
mod stop;

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use self::harness::{ConsoleAt, Home, Lines, Ran, SOON, Serve, free_port, run};

/// Starts `serve ARGS --print` with the console that the arguments ask for.
#[track_caller]
fn serve_in(home: &Arc<Home>, args: &[&str], variables: &[(&str, &str)]) -> Serve {
    let mut command = home.echoic(&[&["serve"], args, &["--print"]].concat());
    command.env_remove("ECHOIC_CONSOLE");
    command.envs(variables.iter().copied());
    Serve::from(home, args, command)
}

#[track_caller]
fn serve(args: &[&str]) -> Serve {
    serve_in(&Arc::new(Home::new()), args, &[])
}

/// Waits for the URL with the token on standard error.
#[track_caller]
fn console_of(err: &Lines) -> ConsoleAt {
    let line = err.wait_for("console on http://");
    let url = line.strip_prefix("console on ").unwrap();
    ConsoleAt::of(url.split(' ').next().unwrap())
}

/// A server with a console at a free port.
#[track_caller]
fn with_console(args: &[&str]) -> (Serve, ConsoleAt) {
    let serve = serve(&[args, &["--console", "127.0.0.1:0"]].concat());
    let console = console_of(&serve.err);
    (serve, console)
}

/// Runs `serve ARGS`, which fails.
#[track_caller]
fn fails(home: &Home, args: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = home.echoic(&[&["serve"], args].concat());
    command.env_remove("ECHOIC_CONSOLE");
    command.envs(variables.iter().copied());
    let ran = run(&mut command, b"");
    assert!(ran.out.is_empty(), "{ran:?}");
    ran
}

#[test]
fn default_console_is_on_loopback_with_its_token_in_a_file() {
    let serve = serve(&["upper=:0"]);
    let line = serve.err.wait_for("console on http://127.0.0.1:");
    let file = serve.home.path().join("echoic.db-token");
    assert!(
        line.contains(&format!("/, its token is in {}", file.display())),
        "{line}"
    );
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let token = fs::read_to_string(&file).unwrap();
    let token = token.strip_suffix('\n').unwrap();
    assert_eq!(token.len(), 32, "128 bits in hex");
    let address = line["console on http://".len()..]
        .split('/')
        .next()
        .unwrap();
    let console = ConsoleAt {
        address: address.parse().unwrap(),
        token: token.to_owned(),
    };
    assert!((8007..=8106).contains(&console.address.port()), "{line}");
    let info = console.get("/api/v1/info").json();
    assert_eq!(info["pid"], serve.id());
    let flags = info["limits"].as_array().unwrap();
    assert!(
        flags
            .iter()
            .any(|limit| limit["flag"] == "--idle-timeout" && limit["value"] == "10m")
    );

    let wrong = ConsoleAt {
        token: "0".repeat(32),
        ..console
    };
    assert_eq!(wrong.get("/api/v1/info").status, 403);
    assert_eq!(wrong.get("/api/v1/nothing").status, 403);

    let status = serve.home.run(&["status"]).good();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["console"], format!("http://{address}/"));

    let (out, err, token) = (serve.out.clone(), serve.err.clone(), token.to_owned());
    serve.stop();
    assert!(!file.exists(), "the file is left");
    let printed = [out.all(), err.all()].concat();
    assert!(
        printed.iter().all(|line| !line.contains(&token)),
        "{printed:?}"
    );
}

#[test]
fn default_console_takes_the_next_port_and_reports_it() {
    // Another test may have it, and soon gives it up; another program may keep it.
    let deadline = Instant::now() + SOON;
    let mut taken = TcpListener::bind("127.0.0.1:8007");
    while taken.is_err() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
        taken = TcpListener::bind("127.0.0.1:8007");
    }
    let serve = serve(&["upper=:0"]);
    let line = serve.err.wait_for("console on http://");
    assert!(!line.contains("http://127.0.0.1:8007/"), "{line}");
    assert!(line.ends_with("(port 8007 is in use)"), "{line}");
}

#[test]
fn explicit_console_prints_its_url_with_the_token() {
    for (args, listening) in [(&["--quiet"][..], false), (&[], true)] {
        let home = Arc::new(Home::new());
        let mut command = home.echoic(&["serve", "upper=:0", "--console", ":0"]);
        command
            .args(args)
            .env_remove("ECHOIC_CONSOLE")
            .stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let err = Lines::of(child.stderr.take().unwrap());
        let console = console_of(&err);
        assert_eq!(console.get("/api/v1/info").json()["pid"], child.id());
        assert!(!home.path().join("echoic.db-token").exists());
        harness::signal(&child, rustix::process::Signal::TERM);
        child.wait().unwrap();
        let all = err.all();
        assert_eq!(
            all.iter().any(|line| line.starts_with("listening")),
            listening,
            "{all:?}"
        );
    }
}

#[test]
fn json_has_a_console_event() {
    let event = |args: &[&str]| {
        let serve = serve(&[&["upper=:0", "--json"], args].concat());
        let line = serve.out.wait_for(r#""ev":"console""#);
        let printed = serve.err.wait_for("console on http://");
        (
            serve,
            serde_json::from_str::<Value>(&line).unwrap(),
            printed,
        )
    };
    let (_serve, explicit, printed) = event(&["--console", "127.0.0.1:0"]);
    let url = explicit["url"].as_str().unwrap();
    assert_eq!(printed, format!("console on {url}"));
    assert_eq!(explicit["v"], 1);
    assert_eq!(ConsoleAt::of(url).get("/api/v1/info").status, 200);
    // Standard output may be a log, so by default the event has no token.
    let (serve, default, _) = event(&[]);
    let url = default["url"].as_str().unwrap();
    assert!(url.ends_with('/') && !url.contains('#'), "{url}");
    let file = serve.home.path().join("echoic.db-token");
    assert_eq!(default["token_file"], file.to_str().unwrap());
}

#[test]
fn taken_explicit_address_is_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let home = Home::new();
    let ran = fails(&home, &["upper=:0", "--console", &at], &[]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.err
            .contains(&format!("cannot open the console at {at}")),
        "{ran:?}"
    );
    assert!(!home.store().exists(), "a database is left");
}

#[test]
fn console_beyond_loopback_is_refused_with_a_tunnel_named() {
    for at in ["0.0.0.0:9001", "*:9001", "192.168.1.7:9001"] {
        let ran = fails(&Home::new(), &["upper=:0", "--console", at], &[]);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.err.contains("ssh -L 9001:127.0.0.1:9001"), "{ran:?}");
    }
}

#[test]
fn variable_fixes_the_token() {
    let home = Arc::new(Home::new());
    let token = [("ECHOIC_TOKEN", "sixteen-letters-")];
    let serve = serve_in(&home, &["upper=:0"], &token);
    let line = serve.err.wait_for("console on http://");
    assert!(line.contains("/, with the token of ECHOIC_TOKEN"), "{line}");
    assert!(!home.path().join("echoic.db-token").exists());
    let address = line["console on http://".len()..]
        .split('/')
        .next()
        .unwrap();
    let console = ConsoleAt {
        address: address.parse().unwrap(),
        token: token[0].1.to_owned(),
    };
    assert_eq!(console.get("/api/v1/info").status, 200);
    drop(serve);
    for short in [
        "",
        "fifteen-letters",
        "not safe in a cookie; so it is refused",
    ] {
        let ran = fails(&home, &["upper=:0"], &[("ECHOIC_TOKEN", short)]);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.err.contains("ECHOIC_TOKEN: invalid token"), "{ran:?}");
        assert!(short.is_empty() || !ran.err.contains(short), "{ran:?}");
    }
}

#[test]
fn console_needs_a_store() {
    let serve = serve(&["upper=:0", "--store", "none"]);
    serve.err.wait_for("recording nothing");
    let err = serve.err.clone();
    serve.stop();
    assert!(
        err.all().iter().all(|line| !line.contains("console")),
        "{:?}",
        err.all()
    );
    let ran = fails(
        &Home::new(),
        &[":0", "--store", "none", "--console", ":0"],
        &[],
    );
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.err.contains("--store memory"), "{ran:?}");
    // A variable that does not apply is ignored.
    let home = Arc::new(Home::new());
    let _serve = serve_in(
        &home,
        &[":0", "--store", "none"],
        &[("ECHOIC_CONSOLE", ":0")],
    );
}

#[test]
fn options_without_a_console_are_refused() {
    for option in [
        &["--open"][..],
        &["--console-readonly"],
        &["--console-send", "localhost:1"],
    ] {
        let args = [&["upper=:0", "--console", "off"], option].concat();
        let ran = fails(&Home::new(), &args, &[]);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.err.contains(option[0]), "{ran:?}");
    }
}

#[test]
fn token_of_a_store_in_memory_is_in_the_runtime_directory() {
    let home = Arc::new(Home::new());
    let runtime = home.path().join("run");
    fs::create_dir(&runtime).unwrap();
    let variables = [("XDG_RUNTIME_DIR", runtime.to_str().unwrap())];
    let args = ["upper=:0", "--store", "memory"];
    let serve = serve_in(&home, &args, &variables);
    let line = serve.err.wait_for("console on http://");
    let file = runtime.join("echoic").join(format!("{}.token", serve.id()));
    assert!(line.contains(file.to_str().unwrap()), "{line}");
    assert!(file.exists());
    drop(serve);
    assert!(!file.exists());
    // Without a place for the file nobody could use the console.
    let serve = serve_in(&home, &args, &[]);
    let line = serve.err.wait_for("no console");
    assert!(line.contains("XDG_RUNTIME_DIR"), "{line}");
}

#[test]
fn open_runs_the_browser_without_a_shell() {
    let home = Arc::new(Home::new());
    let (script, seen) = (home.path().join("xdg-open"), home.path().join("seen"));
    fs::write(
        &script,
        format!(
            "#!/bin/sh\nprintf '%s' \"$#:$1\" > {0}.new; mv {0}.new {0}\n",
            seen.display()
        ),
    )
    .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", home.path().display());
    let args = ["upper=:0", "--console", ":0", "--open"];
    let serve = serve_in(&home, &args, &[("PATH", &path)]);
    let console = console_of(&serve.err);
    harness::until("the browser is opened", || seen.exists());
    let ConsoleAt { address, token } = &console;
    let expected = format!("1:http://{address}/#t={token}");
    assert_eq!(fs::read_to_string(&seen).unwrap(), expected);
    // Without a browser the console is served all the same.
    let home = Arc::new(Home::new());
    let serve = serve_in(&home, &args, &[("PATH", "/nowhere")]);
    serve.err.wait_for("xdg-open: ");
    assert_eq!(console_of(&serve.err).get("/api/v1/info").status, 200);
}

/// The address of the first endpoint.
fn first(serve: &Serve) -> SocketAddr {
    serve.at[0]
}

#[test]
fn endpoint_may_not_take_the_address_of_the_console() {
    let port = free_port().to_string();
    let at = format!("127.0.0.1:{port}");
    let ran = fails(&Home::new(), &[&at, "--console", &at], &[]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
}
