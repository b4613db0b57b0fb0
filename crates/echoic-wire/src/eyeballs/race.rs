//! Runs a race of connection attempts with real sockets, and returns its course.

use std::{io, net::SocketAddr, time::Duration};

use echoic_core::endpoint::{Host, HostPort};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{self, Instant, sleep_until, timeout_at},
};

use super::{Action, Delays, Eyeballs, Family, LookupFailure, Step, lookup_family};
use crate::{explain::Explain, link::Link, resolve::literal_addresses, tcp};

/// Options for [`race`].
#[derive(Clone, Debug)]
pub struct RaceOptions {
    /// Limit for the whole race: the name lookup and all connection attempts.
    pub timeout: Duration,
    /// Limit for the name lookup, and for each connection attempt.
    pub attempt_timeout: Duration,
    /// The delays.
    pub delays: Delays,
    /// Receives a report of every socket call.
    pub explain: Option<Explain>,
}

/// The course of a finished race. All times are since its start.
#[derive(Debug)]
pub struct Race {
    /// The result of the lookup of each family, in the order in which they ended; empty if the host is not a name.
    pub answers: Vec<Answer>,
    /// The connection attempts, in the order of their start.
    pub attempts: Vec<Attempt>,
    /// The addresses without an attempt, since the race was over before their turn.
    pub untried: Vec<SocketAddr>,
    /// The steps, in order.
    pub log: Vec<(Duration, Step)>,
    /// Index in `attempts` of the first that connected, with its link.
    pub won: Option<(usize, Link)>,
    /// Duration of the race.
    pub took: Duration,
}

/// The result of the lookup of one address family.
#[derive(Debug)]
pub struct Answer {
    /// The family.
    pub family: Family,
    /// Time of the answer, or of the timeout.
    pub at: Duration,
    /// The addresses, at least one; or the failure.
    pub found: Result<Vec<SocketAddr>, LookupFailure>,
}

/// One attempt to connect to one address.
#[derive(Debug)]
pub struct Attempt {
    /// The address.
    pub addr: SocketAddr,
    /// Time of its start.
    pub started: Duration,
    /// Time of its end.
    pub ended: Duration,
    /// Its outcome.
    pub outcome: ConnectOutcome,
}

/// The outcome of a connection attempt.
#[derive(Debug)]
pub enum ConnectOutcome {
    /// The connection is established.
    Connected {
        /// Our address.
        local: Option<SocketAddr>,
        /// The maximum segment size in bytes, if the system reports it (`TCP_MAXSEG`, tcp(7)).
        mss: Option<u32>,
    },
    /// The peer refused, or the network reported an error.
    Failed(io::Error),
    /// There was no answer in time.
    TimedOut,
    /// Another attempt connected first, and this one was cancelled.
    Cancelled,
}

enum Event {
    Answer(Family, Result<Vec<SocketAddr>, LookupFailure>),
    Attempted(usize, io::Result<TcpStream>),
}

/// Resolves `target` and connects to its addresses by RFC 8305. Ends within [`RaceOptions::timeout`].
///
/// A host that is not a name is not resolved, and its addresses keep their order: `:PORT` is 127.0.0.1 before `::1`.
pub async fn race(target: &HostPort, options: &RaceOptions) -> Race {
    let began = Instant::now();
    let mut race = Race {
        answers: vec![],
        attempts: vec![],
        untried: vec![],
        log: vec![],
        won: None,
        took: Duration::ZERO,
    };
    let mut tasks = JoinSet::new();
    let mut eyeballs = match &target.host {
        Host::Name(name) => {
            for family in Family::BOTH {
                tasks.spawn(lookup(name.clone(), target.port, family, options.clone()));
            }
            Eyeballs::for_name(options.delays)
        }
        host => Eyeballs::for_addresses(&literal_addresses(host, target.port), options.delays),
    };
    loop {
        let until = match eyeballs.poll(began.elapsed()) {
            Action::Start(number, addr) => {
                let started = began.elapsed();
                race.attempts.push(Attempt {
                    addr,
                    started,
                    ended: started,
                    outcome: ConnectOutcome::Cancelled,
                });
                let (attempt_timeout, explain) = (options.attempt_timeout, options.explain.clone());
                tasks.spawn(async move {
                    Event::Attempted(
                        number,
                        connect(addr, attempt_timeout, explain.as_ref()).await,
                    )
                });
                continue;
            }
            Action::Won(_) | Action::Failed => break,
            Action::Wait(until) => began + until.unwrap_or(options.timeout).min(options.timeout),
        };
        match timeout_at(until, tasks.join_next()).await {
            Ok(Some(Ok(event))) => {
                race.on_event(
                    event,
                    &mut eyeballs,
                    began.elapsed(),
                    options.explain.as_ref(),
                );
            }
            Ok(Some(Err(join_error))) => match join_error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down.
                Err(_) => break,
            },
            // No task is running, so the wait is for a delay.
            Ok(None) => sleep_until(until).await,
            Err(_) => {}
        }
        if began.elapsed() >= options.timeout {
            break;
        }
    }
    race.finish(&eyeballs, target, began.elapsed());
    race
}

/// Connects to one address, without a race. The times of the result are since `began`.
pub async fn attempt(
    addr: SocketAddr,
    timeout: Duration,
    began: Instant,
    explain: Option<&Explain>,
) -> (Attempt, Option<Link>) {
    let started = began.elapsed();
    let result = connect(addr, timeout, explain).await;
    let ended = began.elapsed();
    let (outcome, link) = into_outcome(result, addr, explain);
    (
        Attempt {
            addr,
            started,
            ended,
            outcome,
        },
        link,
    )
}

impl Race {
    fn on_event(
        &mut self,
        event: Event,
        eyeballs: &mut Eyeballs,
        now: Duration,
        explain: Option<&Explain>,
    ) {
        match event {
            Event::Answer(family, found) => {
                eyeballs.on_addresses(family, found.as_deref().unwrap_or_default(), now);
                self.answers.push(Answer {
                    family,
                    at: now,
                    found,
                });
            }
            Event::Attempted(number, result) => {
                let (outcome, link) = into_outcome(result, self.attempts[number].addr, explain);
                self.attempts[number].ended = now;
                self.attempts[number].outcome = outcome;
                match link {
                    Some(link) => {
                        eyeballs.on_connected(number, now);
                        self.won.get_or_insert((number, link));
                    }
                    None => eyeballs.on_failed(number, now),
                }
            }
        }
    }

    /// Ends the attempts and lookups that are still running: cancelled if another attempt has won, timed out otherwise.
    fn finish(&mut self, eyeballs: &Eyeballs, target: &HostPort, now: Duration) {
        for Attempt { ended, outcome, .. } in &mut self.attempts {
            if let ConnectOutcome::Cancelled = outcome {
                *ended = now;
                if self.won.is_none() {
                    *outcome = ConnectOutcome::TimedOut;
                }
            }
        }
        if let (Host::Name(_), None) = (&target.host, &self.won) {
            for family in Family::BOTH {
                if self.answers.iter().all(|answer| answer.family != family) {
                    self.answers.push(Answer {
                        family,
                        at: now,
                        found: Err(LookupFailure::TimedOut),
                    });
                }
            }
        }
        self.untried = eyeballs.untried().to_vec();
        self.log = eyeballs.log().to_vec();
        self.took = now;
    }
}

async fn lookup(name: String, port: u16, family: Family, options: RaceOptions) -> Event {
    let RaceOptions {
        attempt_timeout,
        explain,
        ..
    } = options;
    Event::Answer(
        family,
        lookup_family(&name, port, family, attempt_timeout, explain.as_ref()).await,
    )
}

async fn connect(
    addr: SocketAddr,
    timeout: Duration,
    explain: Option<&Explain>,
) -> io::Result<TcpStream> {
    let result = time::timeout(timeout, tcp::connect(addr, explain)).await;
    result.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn into_outcome(
    result: io::Result<TcpStream>,
    addr: SocketAddr,
    explain: Option<&Explain>,
) -> (ConnectOutcome, Option<Link>) {
    match result {
        Ok(stream) => {
            let local = stream.local_addr().ok();
            let mss = tcp::mss(&stream);
            let link = Link::tcp(stream, explain.map(|explain| explain.for_peer(addr.into())));
            (ConnectOutcome::Connected { local, mss }, Some(link))
        }
        Err(error) if error.kind() == io::ErrorKind::TimedOut => (ConnectOutcome::TimedOut, None),
        Err(error) => (ConnectOutcome::Failed(error), None),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use echoic_core::endpoint::Endpoint;
    use socket2::{Domain, Socket, Type};

    use super::*;

    async fn race_to(text: &str, timeout: Duration) -> Race {
        let Endpoint::Tcp(target) = text.parse().unwrap() else {
            unreachable!()
        };
        let options = RaceOptions {
            timeout,
            attempt_timeout: timeout,
            delays: Delays::default(),
            explain: None,
        };
        race(&target, &options).await
    }

    /// Returns a bound port without a listener; the socket holds it.
    fn unlistened_port() -> (Socket, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        let addr = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, addr)
    }

    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn name_resolves_and_connects() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = server.local_addr().unwrap();
        let race = race_to(&format!("localhost:{}", addr.port()), SOON).await;
        let (number, link) = race.won.unwrap();
        let Attempt {
            addr: connected,
            started,
            ended,
            outcome,
        } = &race.attempts[number];
        assert_eq!(*connected, addr);
        assert!(started <= ended && *ended <= race.took);
        let (_, peer) = server.accept().unwrap();
        assert!(
            matches!(outcome, ConnectOutcome::Connected { local: Some(local), mss: Some(500..) } if *local == peer)
        );
        assert_eq!(link.local(), Some(peer.into()));
        let found = race
            .answers
            .iter()
            .filter_map(|answer| answer.found.as_deref().ok());
        assert!(found.flatten().any(|found| *found == addr));
        assert!(matches!(race.log.last(), Some((_, Step::Connected(n))) if *n == number));
    }

    #[tokio::test]
    async fn address_without_listener_is_refused() {
        let (_held, addr) = unlistened_port();
        let race = race_to(&addr.to_string(), SOON).await;
        assert!(race.won.is_none() && race.answers.is_empty());
        let [
            Attempt {
                outcome: ConnectOutcome::Failed(why),
                ..
            },
        ] = race.attempts.as_slice()
        else {
            panic!("{:?}", race.attempts)
        };
        assert_eq!(why.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn silent_address_times_out() {
        // Two connections fill a backlog of 1; the third one's SYN is dropped (listen(2)).
        let (socket, addr) = unlistened_port();
        socket.listen(1).unwrap();
        let _waiting = [
            std::net::TcpStream::connect(addr).unwrap(),
            std::net::TcpStream::connect(addr).unwrap(),
        ];
        let race = race_to(&addr.to_string(), Duration::from_millis(100)).await;
        assert!(matches!(
            race.attempts.as_slice(),
            [Attempt {
                outcome: ConnectOutcome::TimedOut,
                ..
            }]
        ));
        assert!(
            race.took >= Duration::from_millis(100) && race.took < SOON,
            "{:?}",
            race.took
        );
    }
}
