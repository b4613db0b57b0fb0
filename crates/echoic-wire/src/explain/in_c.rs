//! A socket call in the notation of C, with file descriptors, as strace(1) prints it without its buffers.

use std::{io, os::fd::RawFd};

use echoic_core::event::Address;
use nix::errno::Errno;

use super::Call;

/// A call in the notation of C.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallInC {
    /// The function's name.
    pub call: &'static str,
    /// Its arguments. For a buffer only the size is given.
    pub args: String,
    /// What it returned, or the name of the error.
    pub result: String,
}

impl Call<'_> {
    /// Returns the call in the notation of C, made on the socket `fd` if it has a descriptor. `None` for a remark.
    pub fn in_c(&self, fd: Option<RawFd>) -> Option<CallInC> {
        let fd = fd.map_or_else(|| "-".to_owned(), |fd| fd.to_string());
        let (call, args, result) = match self {
            Self::Resolve { host, result } => {
                ("getaddrinfo", format!("{host:?}"), done(result.map(|_| 0)))
            }
            Self::Socket { result, .. } => {
                ("socket", String::new(), result.map_or_else(name, |()| fd))
            }
            Self::SetOption {
                name,
                value,
                result,
            } => (
                "setsockopt",
                format!("{fd}, {name}, {value}"),
                zero(*result),
            ),
            Self::Bind { address, result } => {
                ("bind", format!("{fd}, {}", text(address)), zero(*result))
            }
            Self::Listen { backlog, result } => {
                ("listen", format!("{fd}, {backlog}"), zero(*result))
            }
            Self::Accept { result } => (
                "accept",
                fd,
                result.as_ref().map_or_else(|error| name(error), text),
            ),
            Self::Connect { address, result } => {
                ("connect", format!("{fd}, {}", text(address)), zero(*result))
            }
            Self::Recv { capacity, result } => (
                "recv",
                format!("{fd}, {capacity}"),
                done(result.map(<[u8]>::len)),
            ),
            Self::Send { bytes, result } => {
                ("send", format!("{fd}, {}", bytes.len()), done(*result))
            }
            Self::RecvFrom {
                from,
                capacity,
                bytes,
            } => (
                "recvfrom",
                format!("{fd}, {capacity}, {}", text(from)),
                bytes.len().to_string(),
            ),
            Self::SendTo { to, bytes, result } => (
                "sendto",
                format!("{fd}, {}, {}", bytes.len(), text(to)),
                done(*result),
            ),
            Self::Shutdown { result } => ("shutdown", format!("{fd}, SHUT_WR"), zero(*result)),
            Self::ShutdownRead { result } => ("shutdown", format!("{fd}, SHUT_RD"), zero(*result)),
            Self::Close => ("close", fd, "0".to_owned()),
            Self::Remark(_) | Self::Step(_) => return None,
        };
        Some(CallInC { call, args, result })
    }
}

/// The result of a call that returns 0.
fn zero(result: Result<(), &io::Error>) -> String {
    done(result.map(|()| 0))
}

fn done(result: Result<usize, &io::Error>) -> String {
    result.map_or_else(name, |n| n.to_string())
}

/// The name of an error: `ECONNRESET`. An error that a layer made has none, and its text stands for it.
fn name(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => format!("{:?}", Errno::from_raw(code)),
        None => error.to_string(),
    }
}

fn text(address: &Address) -> String {
    address.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_has_sizes_results_and_names_of_errors() {
        let shown = |call: Call<'_>| {
            let CallInC { call, args, result } = call.in_c(Some(11)).expect("a call");
            format!("{call}({args}) = {result}")
        };
        let recv = Call::Recv {
            capacity: 65_536,
            result: Ok(b"hello\n"),
        };
        assert_eq!(shown(recv), "recv(11, 65536) = 6");
        let reset = io::Error::from_raw_os_error(Errno::ECONNRESET as i32);
        let send = Call::Send {
            bytes: b"hello\n",
            result: Err(&reset),
        };
        assert_eq!(shown(send), "send(11, 6) = ECONNRESET");
        let linger = Call::SetOption {
            name: "SO_LINGER",
            value: 0,
            result: Ok(()),
        };
        assert_eq!(shown(linger), "setsockopt(11, SO_LINGER, 0) = 0");
        assert_eq!(shown(Call::Close), "close(11) = 0");
        assert_eq!(Call::Remark("why").in_c(Some(1)), None);
    }
}
