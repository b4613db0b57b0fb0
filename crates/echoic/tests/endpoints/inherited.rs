//! Sockets inherited from another process (socket activation).

use std::{os::unix::fs::FileTypeExt, process::Command, sync::Arc};

use super::unix;
use crate::harness::{Home, Ran, Serve, Talk, python, run, tool, tutorial_ports};

/// Opens sockets at descriptor 3 and up as systemd does, and executes the program: a TCP one, and with `both` a Unix
/// one.
const OPENER: &str = "
import os, socket, sys
pid, count, program = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
made = [socket.create_server(('127.0.0.1', 0))]
if count > 1:
    made.append(socket.socket(socket.AF_UNIX))
    made[1].bind('handed.sock')
    made[1].listen(5)
# Moved out of the way first: one may occupy the descriptor of another.
high = [os.dup(os.dup(os.dup(s.fileno()))) for s in made]
for i, fd in enumerate(high):
    os.dup2(fd, 50 + i)
for i in range(count):
    os.dup2(50 + i, 3 + i)
    os.set_inheritable(3 + i, True)
if pid != 'none':
    os.environ['LISTEN_PID'] = str(os.getpid()) if pid == 'own' else pid
    os.environ['LISTEN_FDS'] = str(count)
    os.environ['LISTEN_FDNAMES'] = ':'.join(['connection'] * count)
os.execv(program[0], program)
";

fn opened(home: &Home, pid: &str, count: usize, args: &[&str]) -> Command {
    let program = home.echoic(&[]);
    let mut python = tool("python3", "python3");
    home.settle(&mut python);
    python
        .args(["-c", OPENER, pid, &count.to_string()])
        .arg(program.get_program())
        .arg("serve")
        .args(args)
        .arg("--print");
    python
}

/// Listens, hands the socket to a server that serves one exchange, and connects to it.
const PARENT: &str = "
import os, socket, subprocess, sys
program, family = sys.argv[1], sys.argv[2]
if family == 'unix':
    own = socket.socket(socket.AF_UNIX)
    own.bind('parent.sock')
    own.listen(5)
else:
    own = socket.create_server(('127.0.0.1', 0))
number = own.fileno()
serve = subprocess.Popen([program, 'serve', f'upper=fd:{number}', '--once', '--quiet'], pass_fds=[number])
peer = socket.socket(own.family)
peer.settimeout(30)
# The connection is queued until the child accepts it, whether or not the child runs already.
peer.connect(own.getsockname())
own.close()
peer.sendall('straße'.encode())
peer.shutdown(socket.SHUT_WR)
received = b''
while part := peer.recv(1024):
    received += part
assert received == b'STRASSE', received
sys.exit(serve.wait(30))
";

#[test]
fn descriptor_inherited_from_python_is_served() {
    for family in ["tcp", "unix"] {
        let home = Home::new();
        let mut python = tool("python3", "python3");
        home.settle(&mut python);
        python
            .args(["-c", PARENT])
            .arg(home.echoic(&[]).get_program())
            .arg(family);
        let Ran { code, err, .. } = run(&mut python, b"");
        assert_eq!(code, Some(0), "{err}");
        assert_eq!(home.count(&[&format!("proto:{family}")]), 1, "{err}");
        let path = home.path().join("parent.sock");
        assert_eq!(path.exists(), family == "unix", "the file is its maker's");
    }
}

#[test]
fn systemd_sockets_are_served_without_arguments() {
    let home = Arc::new(Home::new());
    let args = ["--as", "lower"];
    let serve = Serve::from(&home, &args, opened(&home, "own", 2, &args));
    assert_eq!(serve.addresses[1], "unix:handed.sock");
    let mut net = Talk::to(serve.at[0]);
    net.ask("NET", "net");
    let path = home.path().join("handed.sock");
    let mut unix = unix::Talk::to(&path);
    unix.ask("UNIX", "unix");
    drop((net.finish(), unix.finish()));
    let port = serve.at[0].port();
    assert_eq!(serve.stop().served, 2);
    assert_eq!(home.count(&[&format!("ep:tcp:{port}")]), 1);
    assert_eq!(home.count(&["ep:unix:handed.sock"]), 1);
    let file = std::fs::symlink_metadata(&path).unwrap();
    assert!(file.file_type().is_socket(), "the file is its maker's");
}

#[test]
fn inherited_sockets_are_ignored_if_an_endpoint_is_named() {
    let home = Arc::new(Home::new());
    let args = ["upper=:0"];
    let serve = Serve::from(&home, &args, opened(&home, "own", 1, &args));
    assert_eq!(serve.addresses.len(), 1);
    let twice = ["upper=fd:3", "lower=fd:3"];
    let Ran { code, err, .. } = run(&mut opened(&home, "none", 1, &twice), b"");
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("fd:3 is given twice"), "{err}");
    let args = ["upper=fd:3", "--store", "none"];
    let named = Serve::from(&home, &args, opened(&home, "none", 1, &args));
    Talk::to(named.at[0]).ask("by number", "BY NUMBER");
}

#[test]
fn sockets_for_another_pid_are_ignored() {
    let Some(_held) = tutorial_ports() else {
        return;
    };
    let home = Arc::new(Home::new());
    let serve = Serve::from(&home, &[], opened(&home, "1", 1, &[]));
    let ports: Vec<u16> = serve.at.iter().map(std::net::SocketAddr::port).collect();
    assert_eq!(ports, [5000, 5000, 12345]);
}

/// Hands over a socket of the kind in the second argument, which cannot be served.
const HANDING: &str = "
import socket, subprocess, sys
own = eval(sys.argv[2])
ran = subprocess.run([sys.argv[1], 'serve', f'fd:{own.fileno()}', '--store', 'none'], pass_fds=[own.fileno()],
                     capture_output=True, timeout=30)
print(ran.returncode, ran.stderr.decode())
";

#[test]
fn descriptor_that_does_not_listen_is_rejected_with_a_reason() {
    let home = Home::new();
    for (number, why) in [
        ("99", "no descriptor of that number is open"),
        (
            "0",
            "is not a socket; pass a listening or a datagram socket",
        ),
        ("4294967295", "no descriptor of that number is open"),
    ] {
        let Ran { code, out, err } = home.run(&["serve", &format!("fd:{number}"), "--print"]);
        assert_eq!((code, &*out), (Some(1), &b""[..]), "{err}");
        assert!(
            err.contains(&format!("fd:{number}")) && err.contains(why),
            "{err}"
        );
    }
    for (made, why) in [
        (
            "socket.socket()",
            "a stream socket that does not listen; call listen() before",
        ),
        (
            "socket.socketpair()[0]",
            "a connection and not a listening socket; pass one that listens",
        ),
        (
            "socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)",
            "expected a stream or datagram socket, IP or Unix",
        ),
    ] {
        let program = home.echoic(&[]);
        let output = python(HANDING, &[&program.get_program().display(), &made], "").good();
        assert!(
            output.starts_with("1 ") && output.contains(why),
            "{made}: {output}"
        );
    }
}
