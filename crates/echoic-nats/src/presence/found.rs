//! Asks once who is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    time::Duration,
};

use async_nats::{StatusCode, Subscriber};
use echoic_core::{event::ServerId, process::Process};
use futures_util::{StreamExt, future::join_all};
use tokio::time::{Instant, timeout, timeout_at};

use super::{PROCESSES_MAX, PROCESSES_SUBJECT, own_subject, read};
use crate::{Connection, NatsError, inbox::Inbox};

/// Who answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundProcesses {
    /// Each process that answered.
    pub answered: Vec<Process>,
    /// Those of the ids that were asked for and gave no answer, though they are connected to NATS.
    pub silent: Vec<ServerId>,
    /// Answers that cannot be read, or are too many.
    pub left_out: u64,
}

/// Asks all processes at the server of the connection who they are, and waits `within` for answers. Each of the `expected` ids that
/// has not answered, and each that a console knows as silent, is then asked alone, for as long again: NATS tells at once if nobody
/// listens there.
pub async fn find_processes(
    connection: &Connection,
    expected: impl IntoIterator<Item = ServerId>,
    within: Duration,
) -> Result<FoundProcesses, NatsError> {
    let client = &connection.client;
    let failed = |error: &dyn Display| NatsError::failed(connection.url(), error);
    let reply = client.new_inbox();
    let mut answers = client.subscribe(reply.clone()).await;
    let answers = answers.as_mut().map_err(|error| failed(error))?;
    let asked = client.publish_with_reply(PROCESSES_SUBJECT, reply, "".into());
    let asked = timeout(within, asked).await;
    let asked = asked.map_err(|_| failed(&"the question was not sent in time"))?;
    asked.map_err(|error| failed(&error))?;
    let (mut found, left_out) = collect(answers, Instant::now() + within).await;
    let noted = found.values().flat_map(|process| &process.silent);
    let expected = expected.into_iter().chain(noted.map(|other| other.id));
    let expected: BTreeSet<_> = expected.take(PROCESSES_MAX).collect();
    let missing = expected.into_iter().filter(|id| !found.contains_key(id));
    let missing: Vec<_> = missing.collect();
    let mut silent = Vec::new();
    if !missing.is_empty() {
        let inbox = Inbox::open(client).await.map_err(|error| failed(&error))?;
        let asked = missing.iter().map(|id| ask(&inbox, *id, within));
        for (id, presence) in missing.iter().zip(join_all(asked).await) {
            match presence {
                Presence::Answers(process) => _ = found.insert(*id, *process),
                Presence::Silent => silent.push(*id),
                Presence::Gone => {}
            }
        }
    }
    Ok(FoundProcesses {
        answered: found.into_values().collect(),
        silent,
        left_out,
    })
}

/// Takes answers until the deadline.
async fn collect(
    answers: &mut Subscriber,
    deadline: Instant,
) -> (BTreeMap<ServerId, Process>, u64) {
    let (mut found, mut left_out) = (BTreeMap::new(), 0);
    while let Ok(Some(answer)) = timeout_at(deadline, answers.next()).await {
        match read(&answer) {
            Some(process) if found.len() < PROCESSES_MAX => {
                found.insert(process.id, process);
            }
            // Nobody is there at all.
            None if answer.status == Some(StatusCode::NO_RESPONDERS) => break,
            _ => left_out += 1,
        }
    }
    (found, left_out)
}

/// What a question to one process brought.
pub(crate) enum Presence {
    Answers(Box<Process>),
    /// It is connected, and does not answer.
    Silent,
    /// Nobody listens at its subject.
    Gone,
}

/// Asks one process.
pub(crate) async fn ask(inbox: &Inbox, id: ServerId, within: Duration) -> Presence {
    let answer = timeout(within, inbox.request(&own_subject(id), Vec::new())).await;
    let Ok(Some(answer)) = answer else {
        return Presence::Silent;
    };
    if answer.status == Some(StatusCode::NO_RESPONDERS) {
        return Presence::Gone;
    }
    match read(&answer) {
        Some(process) if process.id == id => Presence::Answers(Box::new(process)),
        _ => Presence::Silent,
    }
}
