//! Probes of datagram sockets. Datagrams are not acknowledged, so only a reply proves that the endpoint is open.

use std::{future::poll_fn, io, net::SocketAddr, time::Duration};

use echoic_core::endpoint::{Endpoint, HostPort};
use echoic_wire::{DialError, DialOptions, Explain, dial};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    options::ProbeOptions,
    report::{Attempt, AttemptOutcome, Report},
    stream,
};

/// Probes all addresses in parallel; without [`ProbeOptions::all`] the first reply ends the probe.
pub(super) async fn probe(
    at: &HostPort,
    options: &ProbeOptions,
    began: Instant,
    report: &mut Report,
) {
    let addrs = stream::addresses(at, options, began, report).await;
    for _ in 0..options.count {
        let first = report.tries.len();
        let mut tasks = JoinSet::new();
        for addr in &addrs {
            let (number, addr, timeout, explain) = (
                report.tries.len(),
                *addr,
                options.timeout,
                options.explain.clone(),
            );
            let started = began.elapsed();
            report.tries.push(Attempt {
                address: addr.into(),
                started,
                ended: started,
                outcome: AttemptOutcome::Overtaken,
            });
            tasks.spawn(
                async move { (number, probe_address(addr, timeout, explain.as_ref()).await) },
            );
        }
        while let Some(joined) = tasks.join_next().await {
            match joined {
                Ok((number, outcome)) => {
                    report.tries[number].ended = began.elapsed();
                    report.tries[number].outcome = outcome;
                    if report.tries[number].is_good() && !options.all {
                        break;
                    }
                }
                Err(broken) => stream::resume(broken),
            }
        }
        for tried in &mut report.tries[first..] {
            if matches!(tried.outcome, AttemptOutcome::Overtaken) {
                tried.ended = began.elapsed();
            }
        }
    }
}

/// Returns whether every address reported a closed port (ICMP port unreachable). No answer does not count as closed.
pub(super) async fn all_closed(addrs: Vec<SocketAddr>, within: Duration) -> bool {
    let mut tasks = JoinSet::new();
    for addr in &addrs {
        let addr = *addr;
        tasks.spawn(async move { probe_address(addr, within, None).await });
    }
    let mut closed = 0;
    while let Some(Ok(AttemptOutcome::Failed(error))) = tasks.join_next().await {
        closed += usize::from(error.kind() == io::ErrorKind::ConnectionRefused);
    }
    closed == addrs.len() && closed > 0
}

async fn probe_address(
    addr: SocketAddr,
    within: Duration,
    explain: Option<&Explain>,
) -> AttemptOutcome {
    match timeout(within, send_and_receive(addr, within / 2, explain)).await {
        Ok(Ok(bytes)) => AttemptOutcome::Replied { bytes },
        Ok(Err(error)) => AttemptOutcome::Failed(error),
        Err(_) => AttemptOutcome::Silent,
    }
}

/// Sends a request, and retransmits it once if there is no reply after `again`: datagrams get lost.
async fn send_and_receive(
    addr: SocketAddr,
    again: Duration,
    explain: Option<&Explain>,
) -> io::Result<usize> {
    let options = DialOptions {
        explain: explain.cloned(),
        ..DialOptions::default()
    };
    // A connected socket reports ICMP port unreachable as an error (udp(7)).
    let dialled = dial(&Endpoint::Udp(addr.into()), &options).await;
    let mut link = dialled.map_err(into_io_error)?.link;
    let request = request(addr.port());
    let mut reply = vec![0; 65_535];
    for last in [false, true] {
        poll_fn(|cx| link.poll_write(cx, request)).await?;
        // After the second send, the caller's timeout ends the wait.
        let wait = if last { Duration::MAX } else { again };
        let received = poll_fn(|cx| link.poll_read(cx, &mut reply));
        if let Ok(received) = timeout(wait, received).await {
            return received;
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Returns the error of the only attempt.
fn into_io_error(error: DialError) -> io::Error {
    match error {
        DialError::Refused { mut attempts, .. } if attempts.len() == 1 => attempts.remove(0).error,
        error => io::Error::other(error),
    }
}

/// Returns a request that the usual service of this port answers: DNS, NTP, or else an empty line.
fn request(port: u16) -> &'static [u8] {
    match port {
        // The name servers of the root zone: id 0xec01, recursion desired, one question, NS IN (RFC 1035).
        53 => b"\xec\x01\x01\0\0\x01\0\0\0\0\0\0\0\0\x02\0\x01",
        123 => &TIME_REQUEST,
        _ => b"\n",
    }
}

/// Version 4, mode 3 (client), the rest zero (RFC 5905).
const TIME_REQUEST: [u8; 48] = {
    let mut request = [0; 48];
    request[0] = 0x23;
    request
};

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn port_that_gives_no_answer_does_not_count_as_closed() {
        let silent = std::net::UdpSocket::bind("127.0.0.74:0").unwrap();
        let gone = std::net::UdpSocket::bind("127.0.0.74:0").unwrap();
        let [silent_at, gone_at] = [&silent, &gone].map(|socket| socket.local_addr().unwrap());
        drop(gone);
        let within = Duration::from_millis(200);
        assert!(all_closed(vec![gone_at], within).await);
        assert!(!all_closed(vec![silent_at], within).await);
        assert!(!all_closed(vec![gone_at, silent_at], within).await);
        assert!(!all_closed(vec![], within).await);
        let outcome = probe_address(silent_at, within, None).await;
        assert!(matches!(outcome, AttemptOutcome::Silent), "{outcome:?}");
    }
}
