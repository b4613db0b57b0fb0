//! The output of `echoic serve`: its listeners on standard error; addresses and events on standard output.

mod choice;
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
    endpoint::Host,
    event::{Address as At, EndpointInfo, Protocol},
    framing::{Framing, FramingPair},
    service::Service,
    view::EventJson,
};
use echoic_recorder::{Seen, Watcher};
use echoic_server::{EndpointConfig, Listening};
use tokio::{
    select,
    time::{Instant, sleep_until},
};

use self::{json::JsonPrinter, lines::LinePrinter};
use super::{
    plan::{Events, Plan, Showing},
    terminal::Activity,
    tls::Certificates,
};
use crate::{
    status_line::Above,
    stdio,
    store_url::StoreUrl,
    term::{self, DIMMED, sanitize},
};

/// Prints what a watcher sees. An error ends the printing.
trait Printer {
    fn print(&mut self, seen: &Seen) -> io::Result<()>;

    /// The time at which [`Self::on_deadline`] is due if no event comes before.
    fn deadline(&self) -> Option<Instant>;

    /// Does what is due at the deadline.
    fn on_deadline(&mut self) -> io::Result<()>;

    /// Writes buffered output; called when no event is waiting.
    fn flush(&mut self) -> io::Result<()>;

    /// Prints what is left; no event follows.
    fn finish(&mut self) -> io::Result<()>;
}

/// Prints addresses and events until the watcher ends. `written` counts the bytes written to standard output.
pub(super) async fn run(
    showing: Showing,
    listening: &[Listening],
    certificates: &[Certificates],
    console: Option<EventJson<'_>>,
    activity: Option<Arc<Activity>>,
    watcher: Option<Watcher>,
    written: Arc<AtomicU64>,
) -> io::Result<()> {
    let mut out = Progress {
        out: stdio::output(),
        written,
    };
    if showing.print {
        out.write_all(addresses(listening).as_bytes())?;
    }
    let Some(watcher) = watcher else {
        return Ok(());
    };
    match showing.events {
        Events::None => Ok(()),
        Events::Json => {
            let mut printer = JsonPrinter::new(out, term::note);
            printer.listening(listening, certificates)?;
            if let Some(console) = console {
                printer.console(&console)?;
            }
            follow(&mut printer, watcher).await
        }
        Events::Lines => {
            let Progress { written, .. } = out;
            let out = term::coloured_stdout();
            let out = Above(Progress { out, written });
            let mut printer = LinePrinter::new(out, activity);
            follow(&mut printer, watcher).await
        }
    }
}

/// Reports that standard output failed.
pub(super) fn give_up(why: &io::Error) {
    if why.kind() == ErrorKind::BrokenPipe {
        term::note("standard output was closed: nothing more is printed there");
    } else {
        term::note(&format!(
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

/// Counts the bytes written, so that a stalled reader is noticed at shutdown.
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

/// Returns the position of each listener's endpoint in the plan: the listeners of an endpoint share its description.
pub(super) fn positions(listening: &[Listening]) -> Vec<usize> {
    let mut positions: Vec<usize> = Vec::with_capacity(listening.len());
    for (i, one) in listening.iter().enumerate() {
        let before = i.checked_sub(1).map(|i| (&listening[i], positions[i]));
        positions.push(match before {
            Some((last, at)) if Arc::ptr_eq(&last.endpoint_info, &one.endpoint_info) => at,
            Some((_, at)) => at + 1,
            None => 0,
        });
    }
    positions
}

/// Formats one line per endpoint, also if it is open in two address families: TCP and UDP as a bare address, for scripts,
/// Unix sockets as a URL.
fn addresses(listening: &[Listening]) -> String {
    let mut text = String::new();
    let mut last: Option<&Listening> = None;
    for one in listening {
        if last.is_none_or(|last| !Arc::ptr_eq(&last.endpoint_info, &one.endpoint_info)) {
            match &one.address {
                At::Net(addr) => text += &format!("{addr}\n"),
                unix @ At::Unix(_) => text += &format!("{}\n", unix.url(one.endpoint_info.proto)),
            }
        }
        last = Some(one);
    }
    text
}

/// Reports the open listeners and the store on standard error.
pub(super) fn announce(plan: &Plan, listening: &[Listening]) {
    let longest = |cell: fn(&Listening) -> usize, least| {
        listening.iter().map(cell).max().unwrap_or(0).max(least)
    };
    let at_width = longest(
        |one| sanitize(one.address.url(one.endpoint_info.proto)).len(),
        22,
    );
    let service_width = longest(|one| one.endpoint_info.service.len(), 8);
    let messages_width = longest(|one| one.endpoint_info.messages().len(), 8);
    let positions = positions(listening);
    for (
        Listening {
            address,
            endpoint_info,
        },
        position,
    ) in listening.iter().zip(&positions)
    {
        let at = sanitize(address.url(endpoint_info.proto));
        term::note_in_colour(&format!(
            "listening on {at:<at_width$} {:<service_width$} {:<messages_width$} {DIMMED}try: echoic connect {}{DIMMED:#}",
            endpoint_info.service,
            endpoint_info.messages(),
            connect_arguments(plan, address, endpoint_info, *position)
        ));
    }
    for (position, EndpointConfig { endpoint, .. }) in plan.endpoints.iter().enumerate() {
        let Some(at) = endpoint.host_port() else {
            continue;
        };
        let families = positions.iter().filter(|of| **of == position).count();
        if matches!(at.host, Host::Loopback | Host::Any) && families == 1 {
            term::note(&format!(
                "{endpoint}: this machine has only one address family, so it is open in that one"
            ));
        }
    }
    for service in plan.remote_services.iter() {
        let (name, url) = (service.name(), service.url());
        term::note(&format!("{name} is answered by the workers of {url}"));
    }
    plan.tls.announce();
    match &plan.store {
        StoreUrl::Sqlite(path) => term::note(&format!(
            "recording in {} (durability {}, retention {})",
            path.display(),
            plan.durability,
            plan.retention_text
        )),
        StoreUrl::Postgres(url) => term::note(&format!(
            "recording in {url} (durability {}, retention {})",
            plan.durability, plan.retention_text
        )),
        StoreUrl::Nats(url) => term::note(&format!(
            "recording in {url} (durability {}), for `echoic keep --from {url}`",
            plan.durability
        )),
        StoreUrl::Memory => term::note("recording in memory: gone when this process ends"),
        StoreUrl::None => term::note("recording nothing"),
    }
}

/// Returns the arguments of `echoic connect` for this listener of the endpoint at a position of the plan.
fn connect_arguments(
    plan: &Plan,
    address: &At,
    endpoint_info: &EndpointInfo,
    position: usize,
) -> String {
    let target = match address {
        At::Net(addr) if addr.ip().is_loopback() && endpoint_info.proto == Protocol::Tcp => {
            format!(":{}", addr.port())
        }
        // An unspecified address is no address to connect to; loopback is.
        At::Net(addr) if addr.ip().is_unspecified() && endpoint_info.proto == Protocol::Tcp => {
            format!(":{}", addr.port())
        }
        At::Net(addr) if addr.ip().is_unspecified() => {
            format!("{}://:{}", endpoint_info.proto, addr.port())
        }
        _ => shell_word(&sanitize(address.url(endpoint_info.proto))),
    };
    let target = match plan.tls.ca_of(position) {
        Some(made) => format!("{target} --ca {}", shell_word(&sanitize(made.ca.display()))),
        None => target,
    };
    // A prompt sends lines and displays bytes as they come, which is right for both framings.
    let prompts = [Framing::Line, Framing::Chunk];
    let FramingPair { inbound, outbound } = endpoint_info.framing;
    if inbound == outbound && prompts.contains(&inbound) {
        return target;
    }
    // The client's inbound direction is the server's outbound.
    let frames = FramingPair {
        inbound: outbound,
        outbound: inbound,
    };
    format!("{target} --frame {frames}")
}

/// Quotes a word for a shell, which would take brackets for a pattern.
fn shell_word(text: &str) -> String {
    if text.contains(|c: char| !(c.is_alphanumeric() || "/:@.-_".contains(c))) {
        format!("'{text}'")
    } else {
        text.to_owned()
    }
}
