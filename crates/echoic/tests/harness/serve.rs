//! A server as a process, from its first line to its last.

use std::{
    net::SocketAddr,
    os::fd::OwnedFd,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{
    home::Home,
    process::{Lines, kill, signal, signal_to_the_end, wait_for_end},
    terminal::terminal,
};

/// `echoic serve`, running.
///
/// When it is dropped, it is stopped as an administrator would, and its last line must add up.
#[derive(Debug)]
pub(crate) struct Serve {
    /// The directory it runs in, which has its database.
    pub(crate) home: Arc<Home>,
    /// The address of each endpoint as printed, in the order given.
    pub(crate) addresses: Vec<String>,
    /// The internet addresses among them.
    pub(crate) at: Vec<SocketAddr>,
    /// Standard output.
    pub(crate) out: Lines,
    /// Standard error.
    pub(crate) err: Lines,
    child: Option<Child>,
    /// The database, and the number of exchanges in it before the start.
    record: Option<(String, u64)>,
}

/// How a server stopped, as its last line reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopped {
    /// Its exit code; none if a signal killed it.
    pub(crate) code: Option<i32>,
    pub(crate) served: u64,
    pub(crate) recorded: u64,
    pub(crate) lost: u64,
    /// Time from the signal, if there was one, to the exit.
    pub(crate) took: Duration,
}

impl Serve {
    /// Starts `echoic serve ARGS --print` in a directory of its own.
    #[track_caller]
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_in(&Arc::new(Home::new()), args)
    }

    /// Starts it in a directory that may have a database already.
    #[track_caller]
    pub(crate) fn start_in(home: &Arc<Home>, args: &[&str]) -> Self {
        Self::from(
            home,
            args,
            home.echoic(&[&["serve"], args, &["--print"]].concat()),
        )
    }

    /// Starts it with its events on standard output.
    #[track_caller]
    pub(crate) fn start_with_events(args: &[&str]) -> Self {
        let home = Arc::new(Home::new());
        let command = home.echoic(&[&["serve"], args, &["--print", "--json"]].concat());
        Self::from(&home, args, command)
    }

    /// Starts it with a terminal as standard output.
    #[track_caller]
    pub(crate) fn start_on_terminal(args: &[&str]) -> Self {
        let home = Arc::new(Home::new());
        let (ours, theirs) = terminal();
        let mut command = home.echoic(&[&["serve"], args, &["--print"]].concat());
        let out = Lines::of(ours);
        Self::spawn(&home, args, &mut command, Some((theirs, out)))
    }

    /// Starts `command`, which runs `serve ARGS`.
    #[track_caller]
    pub(crate) fn from(home: &Arc<Home>, args: &[&str], mut command: Command) -> Self {
        Self::spawn(home, args, &mut command, None)
    }

    #[track_caller]
    fn spawn(
        home: &Arc<Home>,
        args: &[&str],
        command: &mut Command,
        terminal: Option<(OwnedFd, Lines)>,
    ) -> Self {
        let at = args.iter().position(|arg| *arg == "--store");
        let store = at.map_or("echoic.db", |at| args[at + 1]);
        let is_file = !["none", "memory"].contains(&store) && !store.contains("://");
        let record = is_file.then(|| {
            let there = home.path().join(store).exists();
            let before = if there {
                home.count(&["--store", store])
            } else {
                0
            };
            (store.to_owned(), before)
        });
        command.stderr(Stdio::piped());
        let on_terminal = terminal.map(|(theirs, out)| {
            command.stdout(theirs);
            out
        });
        if on_terminal.is_none() {
            command.stdout(Stdio::piped());
        }
        let mut child = command.spawn().unwrap();
        // The parent closes its copy of the terminal's far side, so that the end of output is seen.
        command.stdout(Stdio::null());
        let out = on_terminal.unwrap_or_else(|| Lines::of(child.stdout.take().unwrap()));
        let err = Lines::of(child.stderr.take().unwrap());
        let mut serve = Self {
            home: Arc::clone(home),
            addresses: Vec::new(),
            at: Vec::new(),
            out,
            err,
            child: Some(child),
            record,
        };
        serve.addresses = serve.printed();
        serve.at = serve
            .addresses
            .iter()
            .filter_map(|address| address.parse().ok())
            .collect();
        serve
    }

    /// Waits for the addresses that it prints for scripts: one an endpoint, before anything else, and also among the
    /// listening lines.
    #[track_caller]
    fn printed(&self) -> Vec<String> {
        let listening = self.err.wait("word of what is listened on", |lines| {
            let is_ready = lines.iter().any(|line| line.starts_with("recording"));
            let at = |line: &String| {
                let rest = line.strip_prefix("listening on ")?;
                let url = rest.split(' ').next()?;
                Some(url.split_once("://").map_or(url, |(_, at)| at).to_owned())
            };
            is_ready.then(|| lines.iter().filter_map(at).collect::<Vec<String>>())
        });
        // An endpoint open in both families has the same port in each.
        let mut endpoints = listening.clone();
        endpoints.dedup_by(|next, last| {
            let at = |address: &String| address.parse::<SocketAddr>().ok();
            match (at(last), at(next)) {
                (Some(last), Some(next)) => {
                    last.is_ipv4() && next.is_ipv6() && last.port() == next.port()
                }
                _ => false,
            }
        });
        let printed = self.out.wait("place of each endpoint", |lines| {
            let first = lines.iter().take(endpoints.len());
            let addresses: Vec<String> = first.map(|line| line.trim().to_owned()).collect();
            (addresses.len() == endpoints.len()).then_some(addresses)
        });
        assert!(
            printed.iter().all(|address| listening.contains(address)),
            "{printed:?} {listening:?}"
        );
        printed
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Takes its standard input, which the command made a pipe.
    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.child.as_mut().unwrap().stdin.take().unwrap()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, which: Signal) {
        signal(self.child.as_ref().unwrap(), which);
    }

    /// Stops it with TERM and asserts an orderly stop: code 0, nothing lost, and a last line that adds up.
    #[track_caller]
    pub(crate) fn stop(mut self) -> Stopped {
        self.stop_now()
    }

    #[track_caller]
    fn stop_now(&mut self) -> Stopped {
        self.signal(Signal::TERM);
        let stopped = self.ends();
        assert_eq!(
            (stopped.code, stopped.lost),
            (Some(0), 0),
            "{:?}",
            self.err.all()
        );
        stopped
    }

    /// Waits for its exit, whatever its code, and checks that its last line adds up.
    #[track_caller]
    pub(crate) fn ends(&mut self) -> Stopped {
        let since = Instant::now();
        let code = self.ends_somehow();
        let took = since.elapsed();
        let err = self.err.all();
        let last = err.last().expect("a last line");
        let mut numbers = last
            .split(|c: char| !c.is_ascii_digit())
            .filter(|digits| !digits.is_empty())
            .map(|digits| digits.parse::<u64>().unwrap());
        let mut number = || {
            numbers
                .next()
                .unwrap_or_else(|| panic!("a number is missing: {last}"))
        };
        let served = number();
        let exchanges = if served == 1 { "exchange" } else { "exchanges" };
        assert!(
            last.starts_with(&format!("stopped: {served} {exchanges} served")),
            "{last}"
        );
        let (recorded, lost) = if last.contains("recorded") {
            (number(), number())
        } else {
            (0, 0)
        };
        if last.contains("recorded") {
            let adds_up = format!("{served} {exchanges} served, {recorded} recorded, {lost} lost");
            assert!(last.contains(&adds_up), "{last}");
            assert_eq!(served, recorded + lost, "{last}");
        }
        if let Some((store, before)) = &self.record {
            let counted = self.home.count(&["--store", store]) - before;
            assert_eq!(counted, recorded, "what log counts, and: {last}");
        }
        Stopped {
            code,
            served,
            recorded,
            lost,
            took,
        }
    }

    /// Waits for its exit and returns the code; none if a signal killed it.
    #[track_caller]
    pub(crate) fn ends_somehow(&mut self) -> Option<i32> {
        self.ends_within(|child| wait_for_end(child, super::SOON))
    }

    /// Sends it a signal again and again until it exits, and returns the code.
    #[track_caller]
    pub(crate) fn ends_by(&mut self, which: Signal) -> Option<i32> {
        self.ends_within(|child| signal_to_the_end(child, which))
    }

    #[track_caller]
    fn ends_within(&mut self, end: impl FnOnce(&mut Child) -> Option<ExitStatus>) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        match end(&mut child) {
            Some(status) => status.code(),
            None => {
                kill(&mut child);
                panic!("it did not stop: {:?}", self.err.all());
            }
        }
    }

    /// Kills it as a crash would; it prints no last line then.
    pub(crate) fn kill(mut self) {
        kill(&mut self.child.take().unwrap());
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        if thread::panicking() {
            if let Some(mut child) = self.child.take() {
                kill(&mut child);
            }
        } else if self.child.is_some() {
            self.stop_now();
        }
    }
}
