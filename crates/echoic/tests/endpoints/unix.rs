//! Unix sockets: how clients connect, the permissions of the file, and when it is removed.

use std::{
    fs,
    io::{Read, Write},
    net::Shutdown,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
            net::{SocketAddr, UnixDatagram, UnixListener, UnixStream},
        },
    },
    path::Path,
    process::Command,
    sync::Arc,
};

use crate::harness::{Home, Ran, SOON, Serve, run, tool};

/// A conversation over a Unix socket.
#[derive(Debug)]
pub(crate) struct Talk(UnixStream);

impl Talk {
    #[track_caller]
    pub(crate) fn to(path: impl AsRef<Path>) -> Self {
        Self::over(UnixStream::connect(path).unwrap())
    }

    #[track_caller]
    pub(crate) fn to_abstract(name: &str) -> Self {
        let at = SocketAddr::from_abstract_name(name).unwrap();
        Self::over(UnixStream::connect_addr(&at).unwrap())
    }

    fn over(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        Self(stream)
    }

    /// Sends a request and expects a reply.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: &str, reply: &str) {
        self.0.write_all(request.as_bytes()).unwrap();
        let mut received = vec![0; reply.len()];
        self.0.read_exact(&mut received).unwrap();
        assert_eq!(String::from_utf8_lossy(&received), reply);
    }

    /// Shuts down our half, and reads the rest to a clean end.
    #[track_caller]
    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.shutdown(Shutdown::Write).unwrap();
        self.rest()
    }

    /// Reads to a clean end.
    #[track_caller]
    pub(crate) fn rest(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        rest
    }
}

/// Returns the mode of a socket's file.
#[track_caller]
fn mode(path: &Path) -> u32 {
    let file = fs::symlink_metadata(path).unwrap();
    assert!(file.file_type().is_socket());
    file.permissions().mode() & 0o7777
}

/// Returns the command `echoic ARGS` in `home`, with a umask of 0.
fn with_umask_zero(home: &Home, args: &[&str]) -> Command {
    let program = home.echoic(&[]);
    let mut shell = Command::new("sh");
    home.settle(&mut shell);
    shell
        .args(["-c", "umask 000; exec \"$@\"", "sh"])
        .arg(program.get_program())
        .args(args);
    shell
}

const PYTHON: &str = "
import socket, sys
name, request = sys.argv[1], sys.argv[2].encode()
with socket.socket(socket.AF_UNIX) as peer:
    peer.connect('\\0' + name[1:] if name.startswith('@') else name)
    peer.sendall(request)
    peer.shutdown(socket.SHUT_WR)
    while received := peer.recv(1024):
        sys.stdout.write(received.decode())
";

#[test]
fn python_socat_and_nc_connect_by_path_and_abstract_name() {
    let home = Arc::new(Home::new());
    let long = format!("unix:{}", home.path().join("long.sock").display());
    let name = format!("@echoic-test-{}", std::process::id());
    let serve = Serve::start_in(
        &home,
        &[
            &format!("lower={long}"),
            "./x.sock",
            &format!("echo=unix:{name}"),
        ],
    );
    assert_eq!(
        serve.addresses,
        [&*long, "unix:./x.sock", &format!("unix:{name}")]
    );
    let path = long.strip_prefix("unix:").unwrap();
    for (at, request, reply) in [
        (path, "Hi Ö", "hi ö"),
        ("./x.sock", "Hi ß", "HI SS"),
        (&name, "Hi ß", "Hi ß"),
    ] {
        let mut python = tool("python3", "python3");
        python.args(["-c", PYTHON, at, request]);
        let mut socat = tool("socat", "socat");
        socat.args(["-t30", "-"]);
        socat.arg(match at.strip_prefix('@') {
            Some(name) => format!("ABSTRACT-CONNECT:{name}"),
            None => format!("UNIX-CONNECT:{at}"),
        });
        let mut nc = tool("nc", "netcat-openbsd");
        nc.args(["-N", "-U", at]);
        for mut peer in [python, socat, nc] {
            home.settle(&mut peer);
            assert_eq!(run(&mut peer, request.as_bytes()).good(), reply, "{peer:?}");
        }
    }
    assert_eq!(serve.stop().served, 9);
    let ended = home.sql("SELECT reason, count(*) FROM conversation GROUP BY reason");
    assert_eq!(ended, ["peer-closed|9"]);
    let logged = home.log(&["proto:unix", &format!("ep:unix:{name}")]);
    assert_eq!(logged.len(), 3);
    assert_eq!(
        logged[0]["peer"], "unix:",
        "an unnamed client has no address"
    );
}

#[test]
fn socket_file_is_private_unless_mode_is_given() {
    let home = Arc::new(Home::new());
    let args = ["./own.sock", "./group.sock?mode=660", "./all.sock?mode=666"];
    let command = with_umask_zero(&home, &[&["serve"], &args[..], &["--print"]].concat());
    let serve = Serve::from(&home, &args, command);
    let at = |name: &str| mode(&home.path().join(name));
    assert_eq!(
        (at("own.sock"), at("group.sock"), at("all.sock")),
        (0o600, 0o660, 0o666)
    );
    drop(serve);
    let serve = Serve::start_in(
        &home,
        &["./own.sock", "./own-too.sock?mode=600", "--mode", "640"],
    );
    assert_eq!((at("own.sock"), at("own-too.sock")), (0o640, 0o600));
    // The umask was changed for the socket's file only.
    let record = fs::metadata(home.store()).unwrap().permissions().mode();
    assert_eq!(record & 0o077, 0, "{record:o}");
    drop(serve);
}

#[test]
fn d29_socket_file_of_a_dead_server_is_replaced() {
    let home = Arc::new(Home::new());
    let path = home.path().join("left.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "its end does not remove it");
    let serve = Serve::start_in(&home, &["upper=./left.sock"]);
    let mut talk = Talk::to(&path);
    talk.ask("new", "NEW");
    drop(talk.finish());
    assert_eq!(serve.addresses, ["unix:./left.sock"]);
    serve.stop();
    assert!(!path.exists(), "it goes with its server");

    // A killed server leaves its file, and the next one starts all the same.
    Serve::start_in(&home, &["upper=./left.sock"]).kill();
    assert!(path.exists(), "a killed server cannot remove it");
    let again = Serve::start_in(&home, &["upper=./left.sock"]);
    Talk::to(&path).ask("again", "AGAIN");
    drop(again);
    assert!(!path.exists());
}

#[test]
fn file_that_is_not_a_stale_socket_is_not_touched() {
    let home = Home::new();
    let at = |name: &str| home.path().join(name);
    let live = UnixListener::bind(at("live")).unwrap();
    // A full backlog does not mean that the server is dead.
    let _waiting = UnixStream::connect(at("live")).unwrap();
    let _messages = UnixDatagram::bind(at("messages")).unwrap();
    fs::write(at("file"), "mine").unwrap();
    fs::create_dir(at("folder")).unwrap();
    symlink("nowhere", at("link")).unwrap();
    let names = ["live", "messages", "file", "folder", "link"];
    let before = names.map(|name| fs::symlink_metadata(at(name)).unwrap().ino());
    for name in names {
        let Ran { code, out, err } = home.run(&["serve", &format!("unix:./{name}"), "--print"]);
        assert_eq!((code, &*out), (Some(1), &b""[..]), "{name}: {err}");
        let why = match name {
            "live" | "messages" => "the address is in use",
            _ => "a file of that name exists and is not a socket",
        };
        assert!(err.contains(why) && err.contains(name), "{err}");
        assert!(err.contains("another name"), "{err}");
    }
    let after = names.map(|name| fs::symlink_metadata(at(name)).unwrap().ino());
    assert_eq!(before, after);
    assert_eq!(fs::read(at("file")).unwrap(), b"mine");
    drop(live);

    let Ran { code, err, .. } = home.run(&["serve", "unix:./no/such/folder.sock"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(
        err.contains("folder.sock") && err.contains("no such directory; create it"),
        "{err}"
    );
}

#[test]
fn file_replaced_by_another_process_stays() {
    let serve = Serve::start(&["upper=./shared.sock", "echo=./own.sock"]);
    let home = serve.home.clone();
    let (shared, own) = (
        home.path().join("shared.sock"),
        home.path().join("own.sock"),
    );
    fs::remove_file(&shared).unwrap();
    let other = UnixListener::bind(&shared).unwrap();
    serve.stop();
    assert!(shared.exists() && !own.exists());
    let _caller = UnixStream::connect(&shared).unwrap();
    other.accept().unwrap();
}

#[test]
fn held_name_is_reported_with_its_owner_and_freed_after() {
    let name = format!("unix:@echoic-test-held-{}", std::process::id());
    let serve = Serve::start(&[&name, "unix:held.sock", "unixgram:held.messages"]);
    let owner = format!("in use by echoic (pid {})", serve.id());
    // Whatever path to the file is used.
    let folder = serve.home.path();
    fs::create_dir(folder.join("below")).unwrap();
    let absolute = format!("unix:{}/held.sock", folder.display());
    for called in [
        &*name,
        "unix:../held.sock",
        "unixgram:../held.messages",
        &absolute,
    ] {
        let mut other = serve.home.echoic(&["serve", called, "--store", "none"]);
        let Ran { code, err, .. } = run(other.current_dir(folder.join("below")), b"");
        assert_eq!(code, Some(1), "{err}");
        let (_, written) = called.split_once(':').unwrap();
        assert!(err.contains(&owner) && err.contains(written), "{err}");
    }
    // A file of the same name in another directory is a different socket.
    drop(Serve::start(&["unix:held.sock"]));
    serve.stop();
    let next = Serve::start(&[&name]);
    assert_eq!(next.addresses, [name]);
}

const NAMELESS: &str = "
import socket, sys
u = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
u.sendto(b'nameless', 'g')
n = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); n.settimeout(20); n.bind('named')
n.sendto(b'named', 'g'); print(n.recv(99))
";

/// With strict durability the run is written before it is known that the reply will not be sent.
#[test]
fn reply_the_system_refuses_is_never_recorded_as_sent() {
    for durability in ["normal", "strict"] {
        let serve = Serve::start(&["unixgram:./g", "--durability", durability]);
        let mut python = tool("python3", "python3");
        serve.home.settle(&mut python);
        let received = run(python.args(["-c", NAMELESS]), b"").good();
        assert_eq!(received, "b'NAMED'\n");
        let home = serve.home.clone();
        serve.stop();
        assert_eq!(
            home.count(&["is:unsent", "req:nameless"]),
            1,
            "{durability}"
        );
        assert_eq!(home.count(&["is:ok", "req:named"]), 1, "{durability}");
    }
}
