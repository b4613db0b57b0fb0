//! What a serve prints: on standard error what it listens on, on standard output addresses and events.

mod json;
mod lines;

use std::{
    future::ready,
    io::{self, ErrorKind, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use echoic_core::{
    endpoint::{Endpoint, Host},
    event::{Address as At, EndpointInfo, Protocol},
    framing::{Framing, FramingPair},
};
use echoic_recorder::{Seen, Watcher};
use echoic_server::{EndpointConfig, Listening};
use tokio::{
    select,
    time::{Instant, sleep_until},
};

use self::{json::JsonPrinter, lines::LinePrinter};
use super::plan::{Events, Plan, Showing};
use crate::{
    store_url::StoreUrl,
    term::{self, ASIDE, sanitize},
};

/// Prints what a watcher sees. An error ends it.
trait Printer {
    fn print(&mut self, seen: &Seen) -> io::Result<()>;

    /// When there is something to do even if nothing follows.
    fn deadline(&self) -> Option<Instant>;

    /// Does it.
    fn on_deadline(&mut self) -> io::Result<()>;

    /// Writes what is buffered: nothing more is waiting.
    fn flush(&mut self) -> io::Result<()>;

    /// Says what is left to say: nothing more comes.
    fn finish(&mut self) -> io::Result<()>;
}

/// Prints addresses and events until nothing more comes. `written` counts the bytes that standard output has taken.
pub(super) async fn run(
    showing: Showing,
    doors: &[Listening],
    watcher: Option<Watcher>,
    written: Arc<AtomicU64>,
) -> io::Result<()> {
    let out = term::raw_stdout()?;
    let mut out = Progress { out, written };
    if showing.print {
        out.write_all(addresses(doors).as_bytes())?;
    }
    let Some(watcher) = watcher else {
        return Ok(());
    };
    match showing.events {
        Events::None => Ok(()),
        Events::Json => {
            let mut printer = JsonPrinter::new(out, term::say);
            printer.listening(doors)?;
            follow(&mut printer, watcher).await
        }
        Events::Lines => {
            let Progress { written, .. } = out;
            let out = term::coloured_stdout();
            let mut printer = LinePrinter::new(Progress { out, written });
            follow(&mut printer, watcher).await
        }
    }
}

/// Tells that standard output takes nothing any more.
pub(super) fn give_up(why: &io::Error) {
    if why.kind() == ErrorKind::BrokenPipe {
        term::say("nobody reads standard output any more: nothing more is printed there");
    } else {
        term::say(&format!(
            "cannot write to standard output: {why}: nothing more is printed there"
        ));
    }
}

async fn follow(printer: &mut impl Printer, mut watcher: Watcher) -> io::Result<()> {
    let mut buffered = true;
    loop {
        let deadline = printer.deadline();
        select! {
            biased;
            seen = watcher.next() => match seen {
                Some(seen) => {
                    printer.print(&seen)?;
                    buffered = true;
                }
                None => break,
            },
            () = ready(()), if buffered => {
                printer.flush()?;
                buffered = false;
            }
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                printer.on_deadline()?;
                buffered = true;
            }
        }
    }
    printer.finish()
}

/// Counts what is taken, so that somebody else sees whether anything still is.
struct Progress<W> {
    out: W,
    written: Arc<AtomicU64>,
}

impl<W: Write> Write for Progress<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.written.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// One line an endpoint, also where it is open in two families: an address alone, as scripts want it; the others say
/// what they are.
fn addresses(doors: &[Listening]) -> String {
    let mut text = String::new();
    let mut said: Option<&Listening> = None;
    for door in doors {
        if said.is_none_or(|last| !Arc::ptr_eq(&last.endpoint_info, &door.endpoint_info)) {
            match &door.address {
                At::Net(addr) => text += &format!("{addr}\n"),
                unix @ At::Unix(_) => text += &format!("{}\n", unix.url(door.endpoint_info.proto)),
            }
        }
        said = Some(door);
    }
    text
}

/// Says what is open, once it is.
pub(super) fn announce(plan: &Plan, doors: &[Listening]) {
    let longest =
        |cell: fn(&Listening) -> usize, least| doors.iter().map(cell).max().unwrap_or(0).max(least);
    let at_width = longest(
        |door| sanitize(door.address.url(door.endpoint_info.proto)).len(),
        22,
    );
    let service_width = longest(|door| door.endpoint_info.service.len(), 8);
    let messages_width = longest(|door| door.endpoint_info.messages().len(), 8);
    for Listening {
        address,
        endpoint_info,
    } in doors
    {
        let at = sanitize(address.url(endpoint_info.proto));
        term::say_in_colour(&format!(
            "listening on {at:<at_width$} {:<service_width$} {:<messages_width$} {ASIDE}try: echoic connect {}{ASIDE:#}",
            endpoint_info.service,
            endpoint_info.messages(),
            call(address, endpoint_info)
        ));
    }
    for EndpointConfig { endpoint, .. } in &plan.endpoints {
        let (Endpoint::Tcp(at) | Endpoint::Udp(at)) = endpoint else {
            continue;
        };
        let meant = |door: &&Listening| {
            door.endpoint_info.proto.word() == endpoint.scheme()
                && (at.port == 0 || door.address.port() == Some(at.port))
        };
        let families = doors.iter().filter(meant).count();
        if matches!(at.host, Host::Loopback | Host::Any) && families == 1 {
            term::say(&format!(
                "{endpoint}: this machine has only one address family, so it is open in that one"
            ));
        }
    }
    match &plan.store {
        StoreUrl::Sqlite(path) => term::say(&format!(
            "recording in {} (durability {}, keeping {})",
            path.display(),
            plan.durability,
            plan.retention_text
        )),
        StoreUrl::Memory => term::say("recording in memory: gone when this process ends"),
        StoreUrl::None => term::say("recording nothing"),
    }
}

/// What to type after `echoic connect` to talk to it, at a prompt.
fn call(address: &At, endpoint_info: &EndpointInfo) -> String {
    let target = match address {
        At::Net(addr) if addr.ip().is_loopback() && endpoint_info.proto == Protocol::Tcp => {
            format!(":{}", addr.port())
        }
        // Where everybody is listened to, we are too; as an address to call, it is none.
        At::Net(addr) if addr.ip().is_unspecified() && endpoint_info.proto == Protocol::Tcp => {
            format!(":{}", addr.port())
        }
        At::Net(addr) if addr.ip().is_unspecified() => {
            format!("{}://:{}", endpoint_info.proto, addr.port())
        }
        _ => shell_word(&sanitize(address.url(endpoint_info.proto))),
    };
    // A prompt says lines, and shows what comes as it comes: that is right for both.
    let prompts = [Framing::Line, Framing::Chunk];
    let FramingPair { inbound, outbound } = endpoint_info.framing;
    if inbound == outbound && prompts.contains(&inbound) {
        return target;
    }
    // What is said here is heard there.
    let frames = FramingPair {
        inbound: outbound,
        outbound: inbound,
    };
    format!("{target} --frame {frames}")
}

/// As it can be typed: a shell takes brackets for a pattern.
fn shell_word(text: &str) -> String {
    if text.contains(|c: char| !(c.is_alphanumeric() || "/:@.-_".contains(c))) {
        format!("'{text}'")
    } else {
        text.to_owned()
    }
}
