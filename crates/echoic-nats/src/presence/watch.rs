//! Asks again and again who is there, and tells a process that hangs from one that has ended.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use async_nats::{Client, connection::State};
use echoic_core::{
    event::{Micros, ServerId},
    process::{Process, ProcessState, SeenProcess},
};
use futures_util::{StreamExt, future::join_all};
use tokio::{
    select,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    PROCESSES_MAX, PROCESSES_SUBJECT,
    found::{Presence, ask},
    read,
};
use crate::{Connection, NatsError, inbox::Inbox};

/// How often all are asked.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// Time without an answer after which a process is asked alone.
const LATE_AFTER: Duration = Duration::from_secs(4);

/// Time for its answer. Whoever listens and says nothing is silent.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Processes that are asked alone at a time.
const ASKED_MAX: usize = 64;

/// Time for which a silent process is listed. NATS ends its connection before, and then it is known to be gone.
const SILENT_MAX: Duration = Duration::from_mins(10);

/// The processes at a NATS server, as they are seen over time.
#[derive(Debug)]
pub(crate) struct Watched {
    known: Arc<Mutex<Known>>,
    asking: JoinHandle<()>,
}

impl Watched {
    /// Starts to ask.
    pub(crate) async fn start(connection: &Connection) -> Result<Self, NatsError> {
        let client = connection.client.clone();
        let failed = |error: &dyn std::fmt::Display| NatsError::failed(connection.url(), error);
        let inbox = Inbox::open(&client).await.map_err(|error| failed(&error))?;
        let reply = client.new_inbox();
        let answers = client.subscribe(reply.clone()).await;
        let mut answers = answers.map_err(|error| failed(&error))?;
        let known = Arc::<Mutex<Known>>::default();
        let taking = Arc::clone(&known);
        let asking = tokio::spawn(async move {
            let mut ticks = interval(ASK_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                select! {
                    _ = ticks.tick() => {
                        ask_late(&client, &inbox, &taking).await;
                        ask_all(&client, &reply).await;
                    }
                    Some(answer) = answers.next() => {
                        if let Some(process) = read(&answer) {
                            lock(&taking).take(process, Instant::now(), wall_clock());
                        }
                    }
                    else => return,
                }
            }
        });
        Ok(Self { known, asking })
    }

    /// Returns the processes, by role and name.
    pub(crate) fn now(&self) -> Vec<SeenProcess> {
        lock(&self.known).list()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.asking.abort();
    }
}

async fn ask_all(client: &Client, reply: &str) {
    let reply = reply.to_owned();
    let asked = client.publish_with_reply(PROCESSES_SUBJECT, reply, "".into());
    // Sending waits for a lost connection; then nobody answers, either.
    let _ = timeout(ASK_EVERY, asked).await;
}

/// Asks those alone that have not answered for a while.
async fn ask_late(client: &Client, inbox: &Inbox, known: &Mutex<Known>) {
    let late = lock(known).late(Instant::now());
    if client.connection_state() != State::Connected {
        // Nobody can answer: whoever runs is found again.
        for id in &late {
            lock(known).gone(*id);
        }
        return;
    }
    let asked = late.iter().map(|id| ask(inbox, *id, ANSWER_WITHIN));
    for (id, presence) in late.iter().zip(join_all(asked).await) {
        let mut known = lock(known);
        match presence {
            Presence::Answers(process) => known.take(*process, Instant::now(), wall_clock()),
            Presence::Silent => known.silent(*id, Instant::now()),
            Presence::Gone => known.gone(*id),
        }
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wall_clock() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        Micros::try_from(since.as_micros()).unwrap_or(Micros::MAX)
    })
}

/// The processes that have answered and are not known to have ended.
#[derive(Debug, Default)]
struct Known(BTreeMap<ServerId, Answered>);

#[derive(Debug)]
struct Answered {
    process: Process,
    at: Instant,
    seen: Micros,
    is_silent: bool,
}

impl Known {
    fn take(&mut self, process: Process, at: Instant, seen: Micros) {
        if self.0.len() >= PROCESSES_MAX && !self.0.contains_key(&process.id) {
            return;
        }
        let answered = Answered {
            at,
            seen,
            is_silent: false,
            process,
        };
        self.0.insert(answered.process.id, answered);
    }

    /// Those that are to be asked alone.
    fn late(&self, now: Instant) -> Vec<ServerId> {
        let is_late = |known: &&Answered| now.duration_since(known.at) >= LATE_AFTER;
        let late = self.0.values().filter(is_late).take(ASKED_MAX);
        late.map(|known| known.process.id).collect()
    }

    fn silent(&mut self, id: ServerId, now: Instant) {
        if let Some(known) = self.0.get_mut(&id) {
            known.is_silent = true;
            if now.duration_since(known.at) >= SILENT_MAX {
                self.gone(id);
            }
        }
    }

    fn gone(&mut self, id: ServerId) {
        self.0.remove(&id);
    }

    fn list(&self) -> Vec<SeenProcess> {
        let seen = self.0.values().map(|known| {
            let mut seen = SeenProcess::answered(known.process.clone(), known.seen);
            if known.is_silent {
                seen.state = ProcessState::Silent;
            }
            seen
        });
        let mut seen: Vec<_> = seen.collect();
        seen.sort_by(|one, other| {
            let key = |seen: &SeenProcess| (seen.process.role, seen.process.pid);
            let hosts = one.process.host.cmp(&other.process.host);
            let (one, other) = (key(one), key(other));
            one.0.cmp(&other.0).then(hosts).then(one.1.cmp(&other.1))
        });
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(id: u64) -> Process {
        Process {
            id: ServerId(id),
            pid: id as u32,
            ..Process::default()
        }
    }

    #[test]
    fn process_that_hangs_is_listed_and_one_that_has_ended_is_not() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.take(process(2), now, 5);
        known.take(process(1), now, 5);
        assert!(known.late(now + LATE_AFTER / 2).is_empty());
        assert_eq!(known.late(now + LATE_AFTER), [ServerId(1), ServerId(2)]);
        known.silent(ServerId(1), now + LATE_AFTER);
        known.gone(ServerId(2));
        let [seen] = &known.list()[..] else {
            panic!("{known:?}");
        };
        assert_eq!((seen.state, seen.seen_us), (ProcessState::Silent, Some(5)));
        known.take(process(1), now, 9);
        assert_eq!(known.list()[0].state, ProcessState::Running);
        known.silent(ServerId(1), now + SILENT_MAX);
        assert!(known.list().is_empty());
    }

    #[test]
    fn table_of_processes_is_bounded() {
        let (mut known, now) = (Known::default(), Instant::now());
        for id in 1..=PROCESSES_MAX as u64 + 5 {
            known.take(process(id), now, 0);
        }
        assert_eq!(known.0.len(), PROCESSES_MAX);
        assert_eq!(known.late(now + LATE_AFTER).len(), ASKED_MAX);
    }
}
