//! `--explain`: prints each socket call with its result, in the notation of Python's socket module.

use std::{
    fmt, io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use echoic_core::{endpoint::Shape, escape, event::Address};
use echoic_wire::{Call, Explain};

use crate::term;

/// Prints each call as a line on standard error, with the time since this call.
pub(crate) fn on_stderr() -> Explain {
    through(term::note_in_colour)
}

/// Like [`on_stderr`], but prints with `print`: for a prompt, which owns the terminal.
pub(crate) fn through(print: impl Fn(&str) + Send + Sync + 'static) -> Explain {
    let started = Instant::now();
    Explain::new(move |peer, call| print(&line(started.elapsed(), peer, &call)))
}

/// Bytes of a message that are printed; the rest is counted.
const BYTES_MAX: usize = 64;

fn line(at: Duration, peer: Option<&Address>, call: &Call<'_>) -> String {
    let ms = at.as_secs_f64() * 1000.0;
    match peer {
        Some(peer) => format!("{ms:>9.3} ms  {}  {}", show(peer), CallText(call)),
        None => format!("{ms:>9.3} ms  {}", CallText(call)),
    }
}

struct CallText<'a>(&'a Call<'a>);

impl fmt::Display for CallText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Call::Resolve { host, result } => {
                write!(f, "getaddrinfo({host:?})")?;
                write_result(f, *result, write_addresses)
            }
            Call::Socket {
                address,
                shape,
                result,
            } => plain(
                f,
                *result,
                format_args!("socket({}, {})", family(address), kind(*shape)),
            ),
            Call::SetOption {
                name,
                value,
                result,
            } => plain(
                f,
                *result,
                format_args!("setsockopt({}, {name}, {value})", level(name)),
            ),
            Call::Bind { address, result } => {
                plain(f, *result, format_args!("bind({})", show(address)))
            }
            Call::Listen { backlog, result } => {
                plain(f, *result, format_args!("listen({backlog})"))
            }
            Call::Accept { result } => {
                write!(f, "accept()")?;
                write_result(f, result.as_ref().map_err(|error| *error), |f, peer| {
                    write!(f, " = {}", show(peer))
                })
            }
            Call::Connect { address, result } => {
                plain(f, *result, format_args!("connect({})", show(address)))
            }
            Call::Recv { capacity, result } => {
                write!(f, "recv({capacity})")?;
                write_result(f, *result, |f, bytes| {
                    write!(f, " = {}", escape::python_up_to(bytes, BYTES_MAX))
                })
            }
            Call::Send { bytes, result } => {
                write!(f, "send({})", escape::python_up_to(bytes, BYTES_MAX))?;
                write_result(f, *result, |f, n| write!(f, " = {n}"))
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
                write_result(f, *result, |f, n| write!(f, " = {n}"))
            }
            Call::Shutdown { result } => plain(f, *result, format_args!("shutdown(SHUT_WR)")),
            Call::ShutdownRead { result } => plain(f, *result, format_args!("shutdown(SHUT_RD)")),
            Call::Remark(text) | Call::Step(text) => remark(f, text),
            Call::Close => f.write_str("close()"),
            // `Call` is non-exhaustive. Debug prints bytes as numbers, which is safe on a terminal.
            other => write!(f, "{other:?}"),
        }
    }
}

/// Writes what is no call.
fn remark(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    write!(f, "# {}", escape::text(text.as_bytes()))
}

fn family(address: &Address) -> &'static str {
    match address {
        Address::Net(addr) if addr.is_ipv4() => "AF_INET",
        Address::Net(_) => "AF_INET6",
        Address::Unix(_) => "AF_UNIX",
    }
}

/// Returns the level of a socket option, which its name begins with.
fn level(option: &str) -> &'static str {
    match option.split('_').next() {
        Some("TCP") => "IPPROTO_TCP",
        Some("IP") => "IPPROTO_IP",
        Some("IPV6") => "IPPROTO_IPV6",
        _ => "SOL_SOCKET",
    }
}

fn kind(shape: Shape) -> &'static str {
    match shape {
        Shape::Stream | Shape::Messages => "SOCK_STREAM",
        Shape::Datagrams => "SOCK_DGRAM",
    }
}

/// Formats an address, escaped: the path of a Unix socket may contain anything.
fn show(address: &Address) -> String {
    escape::text(address.to_string().as_bytes()).to_string()
}

fn write_addresses(f: &mut fmt::Formatter<'_>, addrs: &[SocketAddr]) -> fmt::Result {
    let addrs: Vec<_> = addrs.iter().map(ToString::to_string).collect();
    write!(f, " = {}", addrs.join(", "))
}

/// Writes a call that returns nothing.
fn plain(
    f: &mut fmt::Formatter<'_>,
    result: Result<(), &io::Error>,
    call: fmt::Arguments<'_>,
) -> fmt::Result {
    f.write_fmt(call)?;
    write_result(f, result, |_, ()| Ok(()))
}

/// Writes an error as ` ! error`, or a value with `show`.
fn write_result<T>(
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
    use super::*;

    #[test]
    fn socket_call_prints_as_python() {
        let text = |call: Call<'_>| CallText(&call).to_string();
        let sent = Call::Send {
            bytes: b"hello\n",
            result: Ok(6),
        };
        assert_eq!(text(sent), r"send(b'hello\n') = 6");
        let got = Call::Recv {
            capacity: 65536,
            result: Ok(b""),
        };
        assert_eq!(text(got), "recv(65536) = b''");
        let datagrams = Call::Socket {
            address: SocketAddr::from(([127, 0, 0, 1], 5000)).into(),
            shape: Shape::Datagrams,
            result: Ok(()),
        };
        assert_eq!(text(datagrams), "socket(AF_INET, SOCK_DGRAM)");
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let connect = Call::Connect {
            address: SocketAddr::from(([127, 0, 0, 1], 5000)).into(),
            result: Err(&refused),
        };
        assert_eq!(
            text(connect),
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
