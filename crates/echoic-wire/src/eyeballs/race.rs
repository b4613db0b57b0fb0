//! A race carried out, and what it looked like.

use std::{io, net::SocketAddr, time::Duration};

use echoic_core::endpoint::{Host, HostPort};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{self, Instant, sleep_until, timeout_at},
};

use super::{Action, Delays, Eyeballs, Family, LookupFailure, Step, lookup_family};
use crate::{explain::Explain, link::Link, resolve::literal_addresses, tcp};

/// How to race.
#[derive(Clone, Debug)]
pub struct RaceOptions {
    /// Time for all of it: the name and every address.
    pub timeout: Duration,
    /// Time for the name, and then for each address.
    pub attempt_timeout: Duration,
    /// The delays.
    pub delays: Delays,
    /// Told of every call.
    pub explain: Option<Explain>,
}

/// A race that is over. All times are since its beginning.
#[derive(Debug)]
pub struct Race {
    /// What the resolver said of each family, in the order it was said; empty if there was no name to ask for.
    pub answers: Vec<Answer>,
    /// The addresses called, in the order they were called.
    pub attempts: Vec<Attempt>,
    /// The addresses that were not called, since the race was over before their turn.
    pub untried: Vec<SocketAddr>,
    /// The steps, in order.
    pub log: Vec<(Duration, Step)>,
    /// Which of `attempts` answered first, with its connection.
    pub won: Option<(usize, Link)>,
    /// From the beginning to the end.
    pub took: Duration,
}

/// The resolver's word on one family.
#[derive(Debug)]
pub struct Answer {
    /// The family.
    pub family: Family,
    /// When it came, or was waited for no longer.
    pub at: Duration,
    /// The addresses; never none of them.
    pub found: Result<Vec<SocketAddr>, LookupFailure>,
}

/// One call of one address.
#[derive(Debug)]
pub struct Attempt {
    /// Who was called.
    pub addr: SocketAddr,
    /// When it began.
    pub started: Duration,
    /// When it ended, one way or the other.
    pub ended: Duration,
    /// How.
    pub outcome: ConnectOutcome,
}

/// How a call ended.
#[derive(Debug)]
pub enum ConnectOutcome {
    /// Somebody answered.
    Connected {
        /// Our address of the connection.
        local: Option<SocketAddr>,
        /// The most bytes of ours that one packet to it takes, if the system says (`TCP_MAXSEG`, tcp(7)).
        mss: Option<u32>,
    },
    /// The network or the other machine said no.
    Failed(io::Error),
    /// Nothing came back in the time there was.
    TimedOut,
    /// Another one answered first, and this one was called off.
    Cancelled,
}

enum Event {
    Answer(Family, Result<Vec<SocketAddr>, LookupFailure>),
    Call(usize, io::Result<TcpStream>),
}

/// Resolves `at` and calls its addresses as RFC 8305 has it. Ends within [`RaceOptions::timeout`].
///
/// What is no name is not looked up, and its addresses keep their order: `:PORT` is 127.0.0.1 before `::1`.
pub async fn race(at: &HostPort, options: &RaceOptions) -> Race {
    let began = Instant::now();
    let mut race = Race {
        answers: vec![],
        attempts: vec![],
        untried: vec![],
        log: vec![],
        won: None,
        took: Duration::ZERO,
    };
    let mut under_way = JoinSet::new();
    let mut eyes = match &at.host {
        Host::Name(name) => {
            for family in Family::BOTH {
                under_way.spawn(ask(name.clone(), at.port, family, options.clone()));
            }
            Eyeballs::for_name(options.delays)
        }
        host => Eyeballs::for_addresses(&literal_addresses(host, at.port), options.delays),
    };
    loop {
        let until = match eyes.poll(began.elapsed()) {
            Action::Start(number, addr) => {
                let started = began.elapsed();
                race.attempts.push(Attempt {
                    addr,
                    started,
                    ended: started,
                    outcome: ConnectOutcome::Cancelled,
                });
                let (attempt_timeout, explain) = (options.attempt_timeout, options.explain.clone());
                under_way.spawn(async move {
                    Event::Call(
                        number,
                        connect(addr, attempt_timeout, explain.as_ref()).await,
                    )
                });
                continue;
            }
            Action::Won(_) | Action::Failed => break,
            Action::Wait(until) => began + until.unwrap_or(options.timeout).min(options.timeout),
        };
        match timeout_at(until, under_way.join_next()).await {
            Ok(Some(Ok(event))) => {
                race.take(event, &mut eyes, began.elapsed(), options.explain.as_ref());
            }
            Ok(Some(Err(broken))) => match broken.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is going away, and the race with it.
                Err(_) => break,
            },
            // Nothing is under way, so the wait is for a delay to pass.
            Ok(None) => sleep_until(until).await,
            Err(_) => {}
        }
        if began.elapsed() >= options.timeout {
            break;
        }
    }
    race.end(&eyes, at, began.elapsed());
    race
}

/// Calls one address alone. `began` is when the caller's clock started: the times in the answer are since then.
pub async fn attempt(
    addr: SocketAddr,
    timeout: Duration,
    began: Instant,
    explain: Option<&Explain>,
) -> (Attempt, Option<Link>) {
    let started = began.elapsed();
    let called = connect(addr, timeout, explain).await;
    let ended = began.elapsed();
    let (outcome, link) = settle(called, addr, explain);
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
    fn take(
        &mut self,
        event: Event,
        eyes: &mut Eyeballs,
        now: Duration,
        explain: Option<&Explain>,
    ) {
        match event {
            Event::Answer(family, found) => {
                eyes.on_addresses(family, found.as_deref().unwrap_or_default(), now);
                self.answers.push(Answer {
                    family,
                    at: now,
                    found,
                });
            }
            Event::Call(number, called) => {
                let (outcome, link) = settle(called, self.attempts[number].addr, explain);
                self.attempts[number].ended = now;
                self.attempts[number].outcome = outcome;
                match link {
                    Some(link) => {
                        eyes.on_connected(number, now);
                        self.won.get_or_insert((number, link));
                    }
                    None => eyes.on_failed(number, now),
                }
            }
        }
    }

    /// Whatever is still under way ends here: overtaken, or waited for in vain.
    fn end(&mut self, eyes: &Eyeballs, at: &HostPort, now: Duration) {
        for Attempt { ended, outcome, .. } in &mut self.attempts {
            if let ConnectOutcome::Cancelled = outcome {
                *ended = now;
                if self.won.is_none() {
                    *outcome = ConnectOutcome::TimedOut;
                }
            }
        }
        if let (Host::Name(_), None) = (&at.host, &self.won) {
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
        self.untried = eyes.untried().to_vec();
        self.log = eyes.log().to_vec();
        self.took = now;
    }
}

async fn ask(name: String, port: u16, family: Family, options: RaceOptions) -> Event {
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
    let called = time::timeout(timeout, tcp::connect(addr, explain)).await;
    called.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn settle(
    called: io::Result<TcpStream>,
    addr: SocketAddr,
    explain: Option<&Explain>,
) -> (ConnectOutcome, Option<Link>) {
    match called {
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
        let Endpoint::Tcp(at) = text.parse().unwrap() else {
            unreachable!()
        };
        let options = RaceOptions {
            timeout,
            attempt_timeout: timeout,
            delays: Delays::default(),
            explain: None,
        };
        race(&at, &options).await
    }

    /// A port of which nobody listens while this is held.
    fn nobody() -> (Socket, SocketAddr) {
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
            addr: called,
            started,
            ended,
            outcome,
        } = &race.attempts[number];
        assert_eq!(*called, addr);
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
        let (_held, addr) = nobody();
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
        // Two callers fill a backlog of 1; the third one's SYN is dropped (listen(2)).
        let (socket, addr) = nobody();
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
