//! Memory used by a connection that is idle.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use crate::process::resident_kib;
use crate::text::Text;

/// Length in bytes of the line that each connection sends.
const SIZE: usize = 64;
/// Deadline for a reply on loopback.
pub(crate) const ANSWER: Duration = Duration::from_secs(5);

/// Resident memory of the server in KiB; sockets' own memory is the kernel's and not in it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    pub(crate) connections: u32,
    /// After one exchange on one connection, so that buffers made once are not counted.
    pub(crate) rss_before_kib: u64,
    /// With all connections open, before any has sent a message.
    pub(crate) rss_open_kib: u64,
    /// With all connections open and idle, after one exchange on each.
    pub(crate) rss_spoken_kib: u64,
    /// Growth per connection, the larger of the two.
    pub(crate) kib_per_connection: f64,
    /// Replies that were not the upper case of their line.
    pub(crate) wrong: u64,
}

/// Opens `connections`, holds them, does one exchange on each, and holds them again.
pub(crate) fn run(
    address: SocketAddr,
    connections: u32,
    hold: Duration,
    pid: i32,
) -> anyhow::Result<Report> {
    let text = Text::new(SIZE, 1);
    let mut wrong = u64::from(!exchange(&mut connect(address)?, 0, &text)?);
    let rss_before_kib = resident_kib(pid)?;

    let mut held = (0..connections)
        .map(|_| connect(address))
        .collect::<anyhow::Result<Vec<_>>>()?;
    thread::sleep(hold);
    let rss_open_kib = resident_kib(pid)?;

    for (number, stream) in held.iter_mut().enumerate() {
        wrong += u64::from(!exchange(stream, number, &text)?);
    }
    thread::sleep(hold);
    let rss_spoken_kib = resident_kib(pid)?;

    let grown = rss_open_kib
        .max(rss_spoken_kib)
        .saturating_sub(rss_before_kib);
    let kib_per_connection = (grown as f64 / f64::from(connections) * 100.0).round() / 100.0;
    Ok(Report {
        connections,
        rss_before_kib,
        rss_open_kib,
        rss_spoken_kib,
        kib_per_connection,
        wrong,
    })
}

/// A blocking connection with deadlines.
pub(crate) fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, ANSWER).with_context(|| {
        format!(
            "cannot connect to {address}; is the server running, and are ports and open files left?"
        )
    })?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    Ok(stream)
}

/// Sends one line and returns whether its reply was right.
fn exchange(stream: &mut TcpStream, number: usize, text: &Text) -> anyhow::Result<bool> {
    ask(stream, number, text)?;
    receive(stream, number, text)
}

/// Sends one line.
pub(crate) fn ask(stream: &mut TcpStream, number: usize, text: &Text) -> anyhow::Result<()> {
    let line = text.asked(text.start(number), text.size());
    stream
        .write_all(line)
        .context("the server did not take a line")
}

/// Receives one line and returns whether it is right.
pub(crate) fn receive(stream: &mut TcpStream, number: usize, text: &Text) -> anyhow::Result<bool> {
    let expected = text.answered(text.start(number), text.size());
    let mut reply = vec![0; expected.len()];
    stream
        .read_exact(&mut reply)
        .context("the server did not answer a whole line within 5 s")?;
    Ok(reply == expected)
}
