//! `deploy/`: every command line in it is run, with a real nats-server and a real PostgreSQL, so that none goes stale.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and may print what it saw"
)]

#[path = "deploy/files.rs"]
mod files;
mod harness;

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixDatagram,
    process::Command,
};

use self::{
    files::{Compose, Unit, instruction, list, path, read},
    harness::{
        Background, ConsoleAt, Home, Nats, Ran, SOON, Talk, free_port, kill, run, tool, until,
    },
};

/// The database as the compose file names it.
const DATABASE: &str = "postgres://echoic@postgres/echoic";

const TOKEN: &str = "a-token-of-the-tests";

const UNITS: [&str; 4] = [
    "echoic-serve.service",
    "echoic-work@.service",
    "echoic-keep.service",
    "echoic-console.service",
];

/// Runs the health check of a container, `CMD` and all, against the routes of a process.
#[track_caller]
fn check(home: &Home, check: &[String], at: &ConsoleAt) -> Ran {
    let words: Vec<&str> = check.iter().map(String::as_str).collect();
    let ["CMD", "echoic", args @ ..] = &words[..] else {
        panic!("{check:?}");
    };
    assert!(args.contains(&"127.0.0.1:8008"), "{args:?}");
    let at = format!("127.0.0.1:{}", at.address.port());
    let args: Vec<&str> = args
        .iter()
        .map(|arg| if *arg == "127.0.0.1:8008" { &at } else { *arg })
        .collect();
    home.run(&args)
}

/// Starts the commands of the compose file, as far as a machine without containers can.
struct Stack<'a> {
    compose: Compose,
    home: Home,
    nats: &'a Nats,
    database: &'a trials_postgres::Database,
}

impl Stack<'_> {
    #[track_caller]
    fn start(&self, service: &str, ready: &str) -> Background {
        let nats = self.nats.url("");
        let database = self.database.url();
        let database = database.replace(&format!(":{}", trials_postgres::PASSWORD), "");
        let args: Vec<String> = self
            .compose
            .list(service, "command")
            .iter()
            .map(|arg| {
                arg.replace("nats://nats:4222", nats.trim_end_matches('/'))
                    .replace(DATABASE, &database)
                    .replace("*:5000", "127.0.0.1:0")
            })
            .collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut command = self.home.echoic(&args);
        let health = instruction("ENV ECHOIC_HEALTH=").replace("8008", "0");
        command.env("ECHOIC_HEALTH", health);
        if self.compose.value(service, "PGPASSWORD").is_some() {
            command.env("PGPASSWORD", trials_postgres::PASSWORD);
        }
        if self.compose.value(service, "ECHOIC_TOKEN").is_some() {
            command.env("ECHOIC_TOKEN", TOKEN);
            command.env("ECHOIC_CONSOLE", "127.0.0.1:0");
        }
        let started = Background::of(&mut command, ready);
        let test = self.compose.list(service, "test");
        let (at, args) = (started.health(), format!("{args:?}"));
        until(&format!("{service} is healthy: {args}"), || {
            check(&self.home, &test, &at).code == Some(0)
        });
        started
    }
}

/// Returns the address that a server prints.
#[track_caller]
fn listening(serve: &Background) -> SocketAddr {
    let line = serve.err.wait_for("listening on tcp://");
    let rest = line.strip_prefix("listening on tcp://").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn tiers_of_the_compose_file_answer_record_and_show() {
    let Some(database) = trials_postgres::database() else {
        return;
    };
    let mut nats = Nats::with_jetstream();
    let stack = Stack {
        compose: Compose::read(),
        home: Home::new(),
        nats: &nats,
        database: &database,
    };
    let all = ["console", "keep", "serve-1", "serve-2", "work"];
    assert_eq!(stack.compose.ours(), all);
    assert_eq!(
        stack.compose.value("work", "deploy"),
        Some("{ replicas: 2 }")
    );
    // In the order of depends_on.
    let workers = [0; 2].map(|_| stack.start("work", "working: "));
    let keeper = stack.start("keep", "keeping: ");
    let servers = ["serve-1", "serve-2"].map(|name| stack.start(name, "recording in"));
    let console = stack.start("console", "reading ");
    let at = console.err.wait_for("console on http://");
    let at = ConsoleAt::of(at.strip_prefix("console on ").unwrap());
    assert_eq!(at.token, TOKEN);
    for serve in &servers {
        Talk::to(listening(serve)).ask("hello\n", "HELLO\n");
    }
    until("the console shows both exchanges", || {
        let exchanges = at.get("/api/v1/exchanges");
        exchanges.body.matches("HELLO").count() == 2
    });
    until("the console lists both servers", || {
        let endpoints = at.get("/api/v1/endpoints").json();
        endpoints["endpoints"].as_array().map(Vec::len) == Some(2)
    });
    assert_proxy_leads_to(&stack.compose, &at);
    for process in servers.into_iter().chain([console, keeper]) {
        process.stop();
    }
    // A check that cannot fail would be none.
    let (test, of_worker) = (stack.compose.list("work", "test"), workers[0].health());
    let home = stack.home;
    nats.kill();
    until("the worker is unhealthy", || {
        check(&home, &test, &of_worker).code == Some(7)
    });
    drop(workers);
}

/// The console answers under its own address only, so the published port is the one that it has.
#[track_caller]
fn assert_proxy_leads_to(compose: &Compose, console: &ConsoleAt) {
    assert_eq!(compose.list("console", "ports"), ["127.0.0.1:8007:8080"]);
    let mode = compose.value("console-proxy", "network_mode");
    assert_eq!(mode, Some("\"service:console\""));
    let command = compose.list("console-proxy", "command");
    let (from, to) = (free_port(), console.address.to_string());
    let args = command.iter().map(|arg| {
        let arg = arg.replace(
            "TCP-LISTEN:8080",
            &format!("TCP-LISTEN:{from},bind=127.0.0.1"),
        );
        arg.replace("127.0.0.1:8007", &to)
    });
    let args: Vec<String> = args.collect();
    assert!(args[1].ends_with(&to), "{args:?}");
    let mut socat = tool("socat", "socat").args(&args).spawn().unwrap();
    let asked = || {
        let mut stream = TcpStream::connect(("127.0.0.1", from)).ok()?;
        stream.set_read_timeout(Some(SOON)).ok()?;
        let request = format!(
            "GET /api/v1/info HTTP/1.1\r\nHost: {to}\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    };
    until("the proxy leads to the console", || {
        asked().is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    });
    kill(&mut socat);
}

#[test]
fn compose_file_publishes_on_loopback_and_names_its_secrets() {
    let compose = Compose::read();
    let text = read("deploy/compose.yaml");
    for line in text
        .lines()
        .filter(|line| line.trim_start().starts_with("ports:"))
    {
        let ports = list(line.trim_start().strip_prefix("ports: ").unwrap());
        assert!(
            ports.iter().all(|port| port.starts_with("127.0.0.1:")),
            "{line}"
        );
    }
    assert_eq!(
        compose.value("serve-1", "ports"),
        Some("[\"127.0.0.1:5001:5000\"]")
    );
    // Each variable that it takes is in the example, without a value.
    let variables = text.split("${").skip(1);
    let mut taken: Vec<_> = variables
        .map(|rest| rest.split([':', '}']).next().unwrap())
        .collect();
    taken.sort_unstable();
    taken.dedup();
    let example = read("deploy/env.example");
    let mut given: Vec<_> = example
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.strip_suffix('=').expect("no value"))
        .collect();
    given.sort_unstable();
    assert_eq!(taken, given);
    for service in compose.ours() {
        for (key, value) in [
            ("read_only", "true"),
            ("cap_drop", "[ALL]"),
            ("security_opt", "[\"no-new-privileges:true\"]"),
            ("dockerfile", "deploy/Containerfile"),
        ] {
            assert_eq!(compose.value(service, key), Some(value), "{service}: {key}");
        }
    }
}

#[test]
fn image_runs_its_command_as_a_user_and_is_healthy() {
    let toolchain = read("rust-toolchain.toml");
    let version = toolchain.split('"').nth(1).unwrap();
    let built = instruction("FROM docker.io/library/rust:");
    let image = built.split('-').next().unwrap();
    assert!(
        version.starts_with(&format!("{image}.")),
        "{version} {built}"
    );
    let user = instruction("USER ");
    assert!(
        user.split(':').all(|id| id.parse::<u32>().unwrap() > 0),
        "{user}"
    );
    assert_eq!(instruction("ENTRYPOINT "), "[\"echoic\"]");
    let ignored = read(".containerignore");
    assert!(
        ignored.lines().any(|line| line == "/deploy/.env"),
        "{ignored}"
    );
    assert_eq!(ignored, read(".dockerignore"));

    let args = list(&instruction("CMD "));
    let exposed = instruction("EXPOSE ");
    for port in ["5000/tcp", "5000/udp", "12345/tcp", "8008/tcp"] {
        assert!(exposed.split(' ').any(|one| one == port), "{exposed}");
    }
    let args: Vec<String> = args
        .iter()
        .map(|arg| {
            arg.replace("*:5000", "127.0.0.1:0")
                .replace("*:12345", "127.0.0.1:0")
        })
        .collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let home = Home::new();
    let mut command = home.echoic(&args);
    command.env_remove("ECHOIC_CONSOLE");
    command.env(
        "ECHOIC_HEALTH",
        instruction("ENV ECHOIC_HEALTH=").replace("8008", "0"),
    );
    let serve = Background::of(&mut command, "recording in");
    Talk::to(listening(&serve)).ask("hello", "HELLO");
    let healthcheck = instruction("HEALTHCHECK ");
    let (_, test) = healthcheck.split_once("CMD ").unwrap();
    let test = [vec!["CMD".to_owned()], list(test)].concat();
    let health = serve.health();
    until("it is healthy", || {
        check(&home, &test, &health).code == Some(0)
    });
    // The same check as in the compose file.
    assert_eq!(test, Compose::read().list("work", "test"));
    serve.stop();
}

/// Starts what a unit starts, as systemd would, and waits until it says that it is ready.
#[track_caller]
fn start_unit(name: &str, home: &Home, nats: &Nats) -> (Background, UnixDatagram) {
    let unit = Unit::read(name);
    let mut environment = Vec::new();
    for (key, value) in unit.environment() {
        let value = value
            .replace("nats://127.0.0.1:4222", nats.url("").trim_end_matches('/'))
            .replace("/var/lib/echoic", home.path().to_str().unwrap());
        let value = if key == "ECHOIC_HEALTH" {
            "127.0.0.1:0".to_owned()
        } else {
            value
        };
        environment.push((key, value));
    }
    let mut line = unit.value("ExecStart").replace(":5000", ":0");
    for (key, value) in &environment {
        line = line.replace(&format!("${{{key}}}"), value);
    }
    let words: Vec<&str> = line.split(' ').collect();
    let ["/usr/local/bin/echoic", args @ ..] = &words[..] else {
        panic!("{name}: {line}");
    };
    let mut command = home.echoic(args);
    command.env_remove("ECHOIC_CONSOLE").envs(environment);
    if ["serve", "console"].contains(&args[0]) {
        command.env("ECHOIC_CONSOLE", "127.0.0.1:0");
    }
    let socket = home.path().join(format!("notify-{name}"));
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(SOON)).unwrap();
    command.env("NOTIFY_SOCKET", &socket);
    let started = Background::of(&mut command, "health on ");
    let mut told = vec![0; 4096];
    let length = manager.recv(&mut told).unwrap();
    assert!(told[..length].starts_with(b"READY=1\n"), "{name}");
    (started, manager)
}

/// `serve` makes the record that `console` shows; `keep` has one of its own.
#[test]
fn units_of_systemd_start_and_stop() {
    let nats = Nats::with_jetstream();
    let homes = [Home::new(), Home::new(), Home::new()];
    let started = [
        start_unit("echoic-serve.service", &homes[0], &nats),
        start_unit("echoic-console.service", &homes[0], &nats),
        start_unit("echoic-keep.service", &homes[1], &nats),
        start_unit("echoic-work@.service", &homes[2], &nats),
    ];
    for (process, _manager) in started {
        let at = process.health();
        until("it is ready", || at.get("/readyz").status == 200);
        process.stop();
    }
}

#[test]
fn units_of_systemd_are_confined_and_have_ports_of_their_own() {
    let mut ports = Vec::new();
    for name in UNITS {
        let unit = Unit::read(name);
        for (key, value) in [
            ("Type", "notify"),
            ("DynamicUser", "yes"),
            ("ProtectSystem", "strict"),
            ("ProtectHome", "yes"),
            ("NoNewPrivileges", "yes"),
            ("CapabilityBoundingSet", ""),
            ("RestartPreventExitStatus", "2"),
        ] {
            assert_eq!(unit.value(key), value, "{name}: {key}");
        }
        // Optional, so that a unit starts without.
        assert!(
            unit.value("EnvironmentFile").starts_with("-/etc/echoic/"),
            "{name}"
        );
        let health = unit
            .environment()
            .into_iter()
            .find(|(key, _)| *key == "ECHOIC_HEALTH");
        ports.push(health.unwrap().1.to_owned());
        for secret in ["PASSWORD=", "TOKEN=", "@127"] {
            assert!(!unit.text().contains(secret), "{name} has a secret");
        }
    }
    ports.sort();
    ports.dedup();
    assert_eq!(ports.len(), UNITS.len(), "{ports:?}");
}

#[test]
fn systemd_accepts_the_units() {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&paths).any(|folder| folder.join("systemd-analyze").exists()) {
        trials_skip::skip(format_args!("there is no systemd-analyze"));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let copies = UNITS.map(|name| {
        // It looks for the program.
        let text = read(&format!("deploy/systemd/{name}"));
        let text = text.replace("/usr/local/bin/echoic", env!("CARGO_BIN_EXE_echoic"));
        let copy = folder.path().join(name);
        fs::write(&copy, text).unwrap();
        copy
    });
    let mut verify = Command::new("systemd-analyze");
    let Ran { code, err, .. } = run(verify.args(["verify", "--man=no"]).args(&copies), b"");
    assert!(code == Some(0) && err.is_empty(), "{err}");
    for copy in &copies {
        let mut security = Command::new("systemd-analyze");
        let options = ["security", "--offline=true", "--no-pager", "--threshold=20"];
        let Ran { code, out, err } = run(security.args(options).arg(copy), b"");
        // 2.0 of 10: what is left is the network.
        assert_eq!(code, Some(0), "{err}{}", String::from_utf8_lossy(&out));
    }
}

/// What the pages say about the folder is there.
#[test]
fn pages_name_every_file_of_the_folder() {
    let page = read("docs/scale-out.md");
    let files = ["compose.yaml", "Containerfile", "env.example"].map(str::to_owned);
    let units = UNITS.map(|name| format!("systemd/{name}"));
    for file in files.into_iter().chain(units) {
        let _ = path(&format!("deploy/{file}"));
        assert!(
            page.contains(&format!("deploy/{file}")),
            "docs/scale-out.md: deploy/{file}"
        );
    }
}
