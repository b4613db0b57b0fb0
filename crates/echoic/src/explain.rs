//! `--explain`: each socket call as it happens, the way the reader's own program would write it.

use std::{
    fmt,
    io::{self, Write},
    time::{Duration, Instant},
};

use echoic_core::{endpoint::Shape, escape, event::Address};
use echoic_wire::{Call, Explain};

/// Tells of each call on standard error, one line each, with the time since now.
pub(crate) fn on_stderr() -> Explain {
    through(|line| {
        // A reader of standard error that has gone is no reason to stop.
        let _ = writeln!(io::stderr().lock(), "{line}");
    })
}

/// The same, printed by `print`: where a prompt owns the terminal.
pub(crate) fn through(print: impl Fn(&str) + Send + Sync + 'static) -> Explain {
    let started = Instant::now();
    Explain::new(move |who, call| print(&line(started.elapsed(), who, &call)))
}

/// Bytes of a message that are shown; the rest is counted.
const BYTES_MAX: usize = 64;

fn line(at: Duration, who: Option<&Address>, call: &Call<'_>) -> String {
    let ms = at.as_secs_f64() * 1000.0;
    match who {
        Some(who) => format!("{ms:>9.3} ms  {}  {}", show(who), Told(call)),
        None => format!("{ms:>9.3} ms  {}", Told(call)),
    }
}

struct Told<'a>(&'a Call<'a>);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Call::Resolve { host, result } => {
                write!(f, "getaddrinfo({host:?})")?;
                gave(f, *result, |f, addrs| {
                    let addrs: Vec<_> = addrs.iter().map(ToString::to_string).collect();
                    write!(f, " = {}", addrs.join(", "))
                })
            }
            Call::Socket {
                address,
                shape,
                result,
            } => {
                write!(f, "socket({}, {})", family(address), kind(*shape))?;
                gave(f, *result, |_, ()| Ok(()))
            }
            Call::Bind { address, result } => {
                write!(f, "bind({})", show(address))?;
                gave(f, *result, |_, ()| Ok(()))
            }
            Call::Listen { backlog, result } => {
                write!(f, "listen({backlog})")?;
                gave(f, *result, |_, ()| Ok(()))
            }
            Call::Accept { result } => {
                write!(f, "accept()")?;
                gave(f, result.as_ref().map_err(|error| *error), |f, peer| {
                    write!(f, " = {}", show(peer))
                })
            }
            Call::Connect { address, result } => {
                write!(f, "connect({})", show(address))?;
                gave(f, *result, |_, ()| Ok(()))
            }
            Call::Recv { capacity, result } => {
                write!(f, "recv({capacity})")?;
                gave(f, *result, |f, bytes| {
                    write!(f, " = {}", escape::python_up_to(bytes, BYTES_MAX))
                })
            }
            Call::Send { bytes, result } => {
                write!(f, "send({})", escape::python_up_to(bytes, BYTES_MAX))?;
                gave(f, *result, |f, n| write!(f, " = {n}"))
            }
            Call::RecvFrom {
                from,
                capacity,
                bytes,
            } => {
                let bytes = escape::python_up_to(bytes, BYTES_MAX);
                write!(f, "recvfrom({capacity}) = {bytes}, {}", show(from))
            }
            Call::SendTo { to, bytes, result } => {
                let bytes = escape::python_up_to(bytes, BYTES_MAX);
                write!(f, "sendto({bytes}, {})", show(to))?;
                gave(f, *result, |f, n| write!(f, " = {n}"))
            }
            Call::Shutdown { result } => {
                write!(f, "shutdown(SHUT_WR)")?;
                gave(f, *result, |_, ()| Ok(()))
            }
            Call::Close => f.write_str("close()"),
            // A call this version of the program does not know; its Debug form shows bytes as numbers.
            other => write!(f, "{other:?}"),
        }
    }
}

fn family(address: &Address) -> &'static str {
    match address {
        Address::Net(addr) if addr.is_ipv4() => "AF_INET",
        Address::Net(_) => "AF_INET6",
        Address::Unix(_) => "AF_UNIX",
    }
}

fn kind(shape: Shape) -> &'static str {
    match shape {
        Shape::Stream | Shape::Messages => "SOCK_STREAM",
        Shape::Datagrams => "SOCK_DGRAM",
    }
}

/// A place, with nothing in it that a terminal would obey.
fn show(address: &Address) -> String {
    escape::text(address.to_string().as_bytes()).to_string()
}

fn gave<T>(
    f: &mut fmt::Formatter<'_>,
    result: Result<T, &io::Error>,
    show: impl FnOnce(&mut fmt::Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    match result {
        Ok(value) => show(f, value),
        Err(error) => write!(f, " ! {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn socket_call_prints_as_python() {
        let told = |call: Call<'_>| Told(&call).to_string();
        let sent = Call::Send {
            bytes: b"hello\n",
            result: Ok(6),
        };
        assert_eq!(told(sent), r"send(b'hello\n') = 6");
        let got = Call::Recv {
            capacity: 65536,
            result: Ok(b""),
        };
        assert_eq!(told(got), "recv(65536) = b''");
        let datagrams = Call::Socket {
            address: SocketAddr::from(([127, 0, 0, 1], 5000)).into(),
            shape: Shape::Datagrams,
            result: Ok(()),
        };
        assert_eq!(told(datagrams), "socket(AF_INET, SOCK_DGRAM)");
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let connect = Call::Connect {
            address: SocketAddr::from(([127, 0, 0, 1], 5000)).into(),
            result: Err(&refused),
        };
        assert_eq!(
            told(connect),
            "connect(127.0.0.1:5000) ! connection refused"
        );
    }

    #[test]
    fn trace_line_has_time_and_peer_and_truncates_messages() {
        let peer = SocketAddr::from(([127, 0, 0, 1], 5000)).into();
        let call = Call::Send {
            bytes: &[b'x'; 2000],
            result: Ok(2000),
        };
        let line = line(Duration::from_micros(1500), Some(&peer), &call);
        assert!(
            line.starts_with("    1.500 ms  127.0.0.1:5000  send(b'xxx"),
            "{line}"
        );
        assert!(line.ends_with("x'…(+1.9 KiB)) = 2000"), "{line}");
    }
}
