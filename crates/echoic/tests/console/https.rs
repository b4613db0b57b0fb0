//! The console over TLS and with a password, as the program serves it, with curl and Python as clients.

use std::{
    fs,
    net::UdpSocket,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    certs::{Ca, Valid},
    serve_in,
};
use crate::harness::{
    Home, Lines, Ran, SOON, Serve, free_port, kill, repeat_while, run, signal, tool, until,
    wait_for_end,
};

const PASSWORD: &str = "größer: als acht";
const FILES: &str = "cert=server.pem&key=server.key";

/// A directory with a root in `ca.pem`, and a certificate of localhost and 127.0.0.1 by it.
fn home() -> Arc<Home> {
    let home = Arc::new(Home::new());
    write_certificate(home.path(), &["localhost", "127.0.0.1"]);
    home
}

fn write_certificate(folder: &Path, names: &[&str]) {
    let ca = Ca::new("test root");
    fs::write(folder.join("ca.pem"), &ca.pem).unwrap();
    ca.server(names, Valid::Now).write(folder, "server");
}

/// A server with a console at this address, over TLS.
#[track_caller]
fn serve(home: &Arc<Home>, at: &str, variables: &[(&str, &str)]) -> Serve {
    let at = format!("{at}?{FILES}");
    serve_in(home, &["upper=:0", "--json", "--console", &at], variables)
}

/// The URL in the event of `--json`.
#[track_caller]
fn url_of(serve: &Serve) -> String {
    let line = serve.out.wait_for(r#""ev":"console""#);
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event.get("token_file"), None);
    event["url"].as_str().unwrap().to_owned()
}

/// The port of a URL of a console.
fn port_of(url: &str) -> u16 {
    let authority = url.split('/').nth(2).unwrap();
    authority.rsplit(':').next().unwrap().parse().unwrap()
}

/// Time in which a connection must have done the handshake, and then shown the password.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);

/// Runs curl, again if it was so slow that the console has cut its connection.
#[track_caller]
fn curl(home: &Home, args: &[&str], config: &str) -> Ran {
    let attempt = || {
        let since = Instant::now();
        let ran = curl_once(home, args, config);
        (ran, since.elapsed())
    };
    let is_spoilt = |(ran, took): &(Ran, Duration)| ran.code != Some(0) && *took >= SHOWN_WITHIN;
    repeat_while(5, is_spoilt, attempt).0
}

/// Runs curl, which verifies by `ca.pem`. The options of `config` come from standard input, so that `ps` shows no secret.
#[track_caller]
fn curl_once(home: &Home, args: &[&str], config: &str) -> Ran {
    let mut curl = tool("curl", "curl");
    curl.current_dir(home.path())
        .args([
            "-sS",
            "--cacert",
            "ca.pem",
            "-w",
            "\n%{http_code}",
            "-K",
            "-",
        ])
        .args(args);
    run(&mut curl, config.as_bytes())
}

/// Returns the body and the status that curl got.
#[track_caller]
fn fetched(ran: Ran) -> (String, u16) {
    let text = ran.good();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (body.to_owned(), status.parse().unwrap())
}

#[test]
fn console_beyond_loopback_without_certificate_and_password_is_refused() {
    let home = home();
    let password = ("ECHOIC_PASSWORD", PASSWORD);
    let tunnel = "ssh -L 9443:127.0.0.1:9443 HOST";
    for (at, variables, parts) in [
        (
            "*:9443".to_owned(),
            vec![password],
            vec!["?cert=FILE&key=FILE", "ECHOIC_PASSWORD", tunnel],
        ),
        (
            format!("*:9443?{FILES}"),
            vec![],
            vec!["needs a password: set ECHOIC_PASSWORD", tunnel],
        ),
        (
            format!("[::]:9443?{FILES}"),
            vec![("ECHOIC_TOKEN", "sixteen-letters-")],
            vec!["needs a password: set ECHOIC_PASSWORD", tunnel],
        ),
        (
            "*:9443?cert=server.pem".to_owned(),
            vec![password],
            vec!["?cert= is given and ?key= is not"],
        ),
        (
            ":0?key=server.key".to_owned(),
            vec![],
            vec!["?key= is given and ?cert= is not"],
        ),
        (
            format!("*:9443?{FILES}"),
            vec![("ECHOIC_PASSWORD", "seven77")],
            vec!["ECHOIC_PASSWORD: invalid password: expected 8 characters or more"],
        ),
        (
            ":0?cert=server.pem&key=none.key".to_owned(),
            vec![],
            vec!["--console: cannot read none.key"],
        ),
        (
            ":0?cert=server.pem&key=server.pem".to_owned(),
            vec![],
            vec!["--console: server.pem has no private key"],
        ),
    ] {
        for command in [&["serve", "upper=:0"][..], &["console"]] {
            let mut command = home.echoic(&[command, &["--console", &at]].concat());
            let ran = run(command.envs(variables.clone()), b"");
            assert_eq!(ran.code, Some(2), "{ran:?}");
            for part in &parts {
                assert!(ran.err.contains(part), "{part}: {ran:?}");
            }
            assert!(!ran.err.contains("seven77"), "{ran:?}");
        }
        assert!(!home.store().exists(), "a database is left");
    }
}

const ASK: &str = "
import base64, json, ssl, sys, urllib.error, urllib.request
url, ca = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
def ask(password):
    pair = base64.b64encode(f'me:{password}'.encode()).decode()
    request = urllib.request.Request(url, headers={'Authorization': 'Basic ' + pair})
    try:
        with urllib.request.urlopen(request, context=context, timeout=20) as answer:
            return json.load(answer)['pid']
    except urllib.error.HTTPError as error:
        return error.code
print(*[ask(line.rstrip('\\n')) for line in sys.stdin])
";

#[test]
fn curl_and_python_log_in_with_the_password() {
    let home = home();
    let serve = serve(&home, "*:0", &[("ECHOIC_PASSWORD", PASSWORD)]);
    let url = url_of(&serve);
    let (port, pid) = (port_of(&url), serve.id());
    assert!(url.starts_with("https://") && url.ends_with('/'), "{url}");
    let printed = serve.err.wait_for("console on https://");
    assert_eq!(
        printed,
        format!("console on {url}, with the password of ECHOIC_PASSWORD")
    );
    let api = format!("https://localhost:{port}/api/v1");
    let info = format!("{api}/info");
    let user = |password: &str| format!("user = \"me:{password}\"\n");
    let (body, status) = fetched(curl(&home, &[&info], &user(PASSWORD)));
    assert_eq!(status, 200, "{body}");
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(told["pid"], pid);
    assert!(!body.contains(PASSWORD), "{body}");
    assert_eq!(
        fetched(curl(&home, &[&info], &user("wrong password"))).1,
        403
    );
    assert_eq!(fetched(curl(&home, &[&info], "")).1, 403);

    // A login, whose cookie curl sends back over TLS alone.
    let login = home.path().join("login.json");
    fs::write(&login, json!({ "password": PASSWORD }).to_string()).unwrap();
    let session = format!("{api}/session");
    let kind = "Content-Type: application/json";
    let jar = ["-b", "jar", "-c", "jar"];
    let posted = [&jar[..], &["-H", kind, "-d", "@login.json", &session]].concat();
    assert_eq!(fetched(curl(&home, &posted, "")).1, 204);
    let by_cookie = [&jar[..], &[&info]].concat();
    assert_eq!(fetched(curl(&home, &by_cookie, "")).1, 200);

    let ca = home.path().join("ca.pem");
    let asked = crate::harness::python(
        ASK,
        &[&info, &ca.display()],
        &format!("{PASSWORD}\nwrong password\n"),
    );
    assert_eq!(asked.good(), format!("{pid} 403\n"));

    let (body, status) = fetched(curl(&home, &[&format!("http://localhost:{port}/")], ""));
    assert_eq!(status, 400);
    assert!(body.contains("use https://"), "{body}");

    let status = home.run(&["status"]).good();
    let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    let (out, err) = (serve.out.clone(), serve.err.clone());
    serve.stop();
    let printed = [out.all(), err.all(), vec![status, arguments]].concat();
    assert!(
        printed.iter().all(|text| !text.contains(PASSWORD)),
        "{printed:?}"
    );
    assert!(!home.path().join("echoic.db-token").exists());
}

#[test]
fn console_on_loopback_may_have_tls_without_a_password() {
    let home = home();
    let serve = serve(&home, "127.0.0.1:0", &[]);
    let url = url_of(&serve);
    let (page, token) = url.split_once("#t=").unwrap();
    assert_eq!(page, format!("https://127.0.0.1:{}/", port_of(&url)));
    let bearer = format!("header = \"Authorization: Bearer {token}\"\n");
    let info = format!("{page}api/v1/info");
    assert_eq!(fetched(curl(&home, &[&info], &bearer)).1, 200);
    assert_eq!(fetched(curl(&home, &[&info], "user = \"me:\"\n")).1, 403);
}

#[test]
fn certificate_of_the_console_is_read_again() {
    let home = home();
    let serve = serve(&home, "127.0.0.1:0", &[("ECHOIC_PASSWORD", PASSWORD)]);
    let live = format!("https://localhost:{}/livez", port_of(&url_of(&serve)));
    assert_eq!(fetched(curl(&home, &[&live], "")).1, 200);
    // First the old files are made useless, then new ones are written.
    fs::write(home.path().join("server.key"), "").unwrap();
    serve
        .err
        .wait_for("the console: the new certificate cannot be used, the old one stays");
    assert_eq!(fetched(curl(&home, &[&live], "")).1, 200);
    write_certificate(home.path(), &["localhost"]);
    serve
        .err
        .wait_for("the console: new certificate for new connections");
    until("the new certificate is presented", || {
        curl(&home, &[&live], "").code == Some(0)
    });
}

#[test]
fn call_never_goes_to_a_console_on_every_address() {
    let home = home();
    let port = free_port();
    let at = format!("*:{port}?{FILES}");
    let mut targets = ["localhost", "127.0.0.1", "127.0.0.9", "0.0.0.0"]
        .map(str::to_owned)
        .to_vec();
    // Another address of this machine, if it has one: that which packets to elsewhere would come from. None is sent.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    if socket.connect("192.0.2.1:9").is_ok() {
        targets.push(socket.local_addr().unwrap().ip().to_string());
    }
    for target in &mut targets {
        *target = format!("{target}:{port}");
    }
    let mut args = vec!["upper=:0", "--json", "--console", &at];
    for target in &targets {
        args.extend(["--console-send", target]);
    }
    let serve = serve_in(&home, &args, &[("ECHOIC_PASSWORD", PASSWORD)]);
    url_of(&serve);
    let user = format!("user = \"me:{PASSWORD}\"\n");
    for (number, target) in (1..).zip(&targets) {
        let call = json!({ "target": number, "messages": [{ "text": "GET / HTTP/1.1\r\n\r\n" }] });
        fs::write(home.path().join("call.json"), call.to_string()).unwrap();
        let url = format!("https://localhost:{port}/api/v1/send");
        let kind = "Content-Type: application/json";
        let (body, status) = fetched(curl(&home, &["-H", kind, "-d", "@call.json", &url], &user));
        assert_eq!(status, 400, "{target}: {body}");
        assert!(body.contains("the console itself"), "{target}: {body}");
    }
}

/// `echoic console`, killed at the end.
struct Beside(Child);

impl Drop for Beside {
    fn drop(&mut self) {
        kill(&mut self.0);
    }
}

#[test]
fn console_of_a_record_has_tls_and_a_password_too() {
    let home = home();
    let record = Serve::start_in(&home, &["upper=:0"]);
    let at = format!("*:0?{FILES}");
    let mut command = home.echoic(&["console", "--quiet", "--console", &at]);
    command
        .env("ECHOIC_PASSWORD", PASSWORD)
        .stderr(Stdio::piped());
    let mut console = Beside(command.spawn().unwrap());
    let err = Lines::of(console.0.stderr.take().unwrap());
    let line = err.wait_for("console on https://");
    let url = line.strip_prefix("console on ").unwrap();
    let url = url.split(',').next().unwrap();
    let info = format!("https://localhost:{}/api/v1/info", port_of(url));
    let user = format!("user = \"me:{PASSWORD}\"\n");
    let (body, status) = fetched(curl(&home, &[&info], &user));
    assert_eq!(status, 200, "{body}");
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(told["beside"], true);
    signal(&console.0, Signal::TERM);
    assert!(wait_for_end(&mut console.0, SOON).is_some(), "it stays");
    record.stop();
}

#[test]
fn browser_gets_no_secret_where_there_is_a_password() {
    let home = home();
    let (script, seen) = (home.path().join("xdg-open"), home.path().join("seen"));
    let text = format!(
        "#!/bin/sh\nprintf '%s' \"$1 $ECHOIC_PASSWORD\" > {0}.new; mv {0}.new {0}\n",
        seen.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", home.path().display());
    let args = ["upper=:0", "--open"];
    let variables = [("PATH", path.as_str()), ("ECHOIC_PASSWORD", PASSWORD)];
    let serve = serve_in(&home, &args, &variables);
    let line = serve.err.wait_for("console on http://");
    let url = line.strip_prefix("console on ").unwrap();
    let (url, with) = url.split_once(", ").unwrap();
    assert!(
        with.starts_with("with the password of ECHOIC_PASSWORD"),
        "{line}"
    );
    until("the browser is opened", || seen.exists());
    assert_eq!(fs::read_to_string(&seen).unwrap(), format!("{url} "));
}
