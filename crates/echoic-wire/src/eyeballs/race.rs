//! A race carried out, and what it looked like.

use std::{io, net::SocketAddr, time::Duration};

use echoic_core::endpoint::{Host, HostPort};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{Action, Eyeballs, Family, Missing, Pace, Step, look_up};
use crate::{explain::Explain, link::Link, resolve::without_a_resolver, tcp};

/// How to race.
#[derive(Clone, Debug)]
pub struct RaceOptions {
    /// Time for all of it: the name and every address.
    pub within: Duration,
    /// Time for the name, and then for each address.
    pub each: Duration,
    /// The delays.
    pub pace: Pace,
    /// Told of every call.
    pub explain: Option<Explain>,
}

/// A race that is over. All times are since its beginning.
#[derive(Debug)]
pub struct Race {
    /// What the resolver said of each family, in the order it was said; empty if there was no name to ask for.
    pub answers: Vec<Answer>,
    /// The addresses called, in the order they were called.
    pub tries: Vec<Try>,
    /// The addresses that were not called, since the race was over before their turn.
    pub untried: Vec<SocketAddr>,
    /// The steps, in order.
    pub log: Vec<(Duration, Step)>,
    /// Which of `tries` answered first, with its connection.
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
    pub found: Result<Vec<SocketAddr>, Missing>,
}

/// One call of one address.
#[derive(Debug)]
pub struct Try {
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
    Silent,
    /// Another one answered first, and this one was called off.
    Overtaken,
}

enum Event {
    Answer(Family, Result<Vec<SocketAddr>, Missing>),
    Call(usize, io::Result<TcpStream>),
}

/// Resolves `at` and calls its addresses as RFC 8305 has it. Ends within [`RaceOptions::within`].
///
/// What is no name is not looked up, and its addresses keep their order: `:PORT` is 127.0.0.1 before `::1`.
pub async fn race(at: &HostPort, options: &RaceOptions) -> Race {
    let began = Instant::now();
    let mut race = Race {
        answers: vec![],
        tries: vec![],
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
            Eyeballs::for_name(options.pace)
        }
        host => Eyeballs::for_addresses(&without_a_resolver(host, at.port), options.pace),
    };
    loop {
        let until = match eyes.poll(began.elapsed()) {
            Action::Start(number, addr) => {
                let started = began.elapsed();
                race.tries.push(Try {
                    addr,
                    started,
                    ended: started,
                    outcome: ConnectOutcome::Overtaken,
                });
                let (each, explain) = (options.each, options.explain.clone());
                under_way.spawn(async move {
                    Event::Call(number, connect(addr, each, explain.as_ref()).await)
                });
                continue;
            }
            Action::Won(_) | Action::Failed => break,
            Action::Wait(until) => began + until.unwrap_or(options.within).min(options.within),
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
        if began.elapsed() >= options.within {
            break;
        }
    }
    race.end(&eyes, at, began.elapsed());
    race
}

/// Calls one address alone. `began` is when the caller's clock started: the times in the answer are since then.
pub async fn call(
    addr: SocketAddr,
    within: Duration,
    began: Instant,
    explain: Option<&Explain>,
) -> (Try, Option<Link>) {
    let started = began.elapsed();
    let called = connect(addr, within, explain).await;
    let ended = began.elapsed();
    let (outcome, link) = settle(called, addr, explain);
    (
        Try {
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
                let (outcome, link) = settle(called, self.tries[number].addr, explain);
                self.tries[number].ended = now;
                self.tries[number].outcome = outcome;
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
        for Try { ended, outcome, .. } in &mut self.tries {
            if let ConnectOutcome::Overtaken = outcome {
                *ended = now;
                if self.won.is_none() {
                    *outcome = ConnectOutcome::Silent;
                }
            }
        }
        if let (Host::Name(_), None) = (&at.host, &self.won) {
            for family in Family::BOTH {
                if self.answers.iter().all(|answer| answer.family != family) {
                    self.answers.push(Answer {
                        family,
                        at: now,
                        found: Err(Missing::Silent),
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
    let RaceOptions { each, explain, .. } = options;
    Event::Answer(
        family,
        look_up(&name, port, family, each, explain.as_ref()).await,
    )
}

async fn connect(
    addr: SocketAddr,
    within: Duration,
    explain: Option<&Explain>,
) -> io::Result<TcpStream> {
    let called = timeout(within, tcp::connect(addr, explain)).await;
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
            let link = Link::tcp(stream, explain.map(|explain| explain.of(addr.into())));
            (ConnectOutcome::Connected { local, mss }, Some(link))
        }
        Err(error) if error.kind() == io::ErrorKind::TimedOut => (ConnectOutcome::Silent, None),
        Err(error) => (ConnectOutcome::Failed(error), None),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use echoic_core::endpoint::Endpoint;
    use socket2::{Domain, Socket, Type};

    use super::*;

    async fn race_to(text: &str, within: Duration) -> Race {
        let Endpoint::Tcp(at) = text.parse().unwrap() else {
            unreachable!()
        };
        let options = RaceOptions {
            within,
            each: within,
            pace: Pace::default(),
            explain: None,
        };
        race(&at, &options).await
    }

    /// A port of which nobody listens while this is held.
    fn refusing_address() -> (Socket, SocketAddr) {
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
        let Try {
            addr: called,
            started,
            ended,
            outcome,
        } = &race.tries[number];
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
        let (_held, addr) = refusing_address();
        let race = race_to(&addr.to_string(), SOON).await;
        assert!(race.won.is_none() && race.answers.is_empty());
        let [
            Try {
                outcome: ConnectOutcome::Failed(why),
                ..
            },
        ] = race.tries.as_slice()
        else {
            panic!("{:?}", race.tries)
        };
        assert_eq!(why.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn silent_address_times_out() {
        // Two callers fill a backlog of 1; the third one's SYN is dropped (listen(2)).
        let (socket, addr) = refusing_address();
        socket.listen(1).unwrap();
        let _waiting = [
            std::net::TcpStream::connect(addr).unwrap(),
            std::net::TcpStream::connect(addr).unwrap(),
        ];
        let race = race_to(&addr.to_string(), Duration::from_millis(100)).await;
        assert!(matches!(
            race.tries.as_slice(),
            [Try {
                outcome: ConnectOutcome::Silent,
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
