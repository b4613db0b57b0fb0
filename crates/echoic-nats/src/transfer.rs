//! Runs and answers that are longer than a payload: they cross in parts, all to and from the worker that got the first.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use async_nats::StatusCode;
use bytes::Bytes;

use crate::{
    Connection, NatsError,
    inbox::Inbox,
    protocol::{Answer, Question, read, write},
};

/// Bytes of a payload that are left for what surrounds a part: the version, numbers, and the subject of a worker.
const AROUND_PART: usize = 256;

/// Longest run or answer in bytes.
const TRANSFER_BYTES_MAX: usize = 256 << 20;

/// Transfers that a worker holds at once. One more replaces the oldest, which then begins again.
const TRANSFERS_MAX: usize = 64;

/// Bytes that a worker holds for transfers at once.
const HELD_BYTES_MAX: usize = TRANSFER_BYTES_MAX;

/// Time until an unfinished transfer is forgotten: its server has died, or has begun again elsewhere.
const TRANSFER_AGE_MAX: Duration = Duration::from_secs(30);

/// Why an attempt brought no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// No worker serves the subject.
    NoWorker,
    /// The worker was restarted, or the connection failed: another attempt may succeed.
    Again,
    /// No worker can answer this run.
    Failed(String),
}

/// Room for a part of a run in a payload.
fn room(max_payload: usize) -> usize {
    max_payload.saturating_sub(AROUND_PART).max(AROUND_PART)
}

/// The workers of a subject, as a server reaches them.
#[derive(Debug)]
pub(crate) struct Workers {
    pub(crate) connection: Connection,
    inbox: Inbox,
}

impl Workers {
    pub(crate) async fn open(connection: Connection) -> Result<Self, NatsError> {
        let inbox = Inbox::open(&connection.client).await;
        let inbox = inbox.map_err(|error| NatsError::failed(connection.url(), &error))?;
        Ok(Self { connection, inbox })
    }

    /// Asks any of them, and waits without end for the answer.
    pub(crate) async fn ask_any(&self, question: &Question<'_>) -> Result<Bytes, Unanswered> {
        self.ask(self.connection.url().name(), question).await
    }

    async fn ask(&self, subject: &str, question: &Question<'_>) -> Result<Bytes, Unanswered> {
        let answer = self.inbox.request(subject, write(question)).await;
        let answer = answer.ok_or(Unanswered::Again)?;
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(Unanswered::NoWorker);
        }
        Ok(answer.payload)
    }

    /// Has one worker answer a run.
    pub(crate) async fn attempt(&self, request: &[u8]) -> Result<Bytes, Unanswered> {
        let room = room(self.connection.client.max_payload());
        let answer = if request.len() <= room {
            self.ask_any(&Question::Run(request)).await?
        } else {
            self.send_in_parts(request, room).await?
        };
        match read_answer(&answer)? {
            Answer::Whole(whole) => Ok(answer.slice_ref(whole)),
            Answer::Part {
                subject,
                transfer,
                total,
                part,
            } => self.receive_rest(subject, transfer, total, part).await,
            _ => Err(Unanswered::Again),
        }
    }

    /// Sends a run in parts; returns the answer to the last one.
    async fn send_in_parts(&self, request: &[u8], room: usize) -> Result<Bytes, Unanswered> {
        if request.len() > TRANSFER_BYTES_MAX {
            let why = format!("a run of {} bytes is too long for a worker", request.len());
            return Err(Unanswered::Failed(why));
        }
        let transfer = fastrand::u64(..);
        let (part, mut rest) = request.split_at(room);
        let first = Question::First {
            transfer,
            total: request.len() as u64,
            part,
        };
        let held = self.ask_any(&first).await?;
        let Answer::Held { subject } = read_answer(&held)? else {
            return Err(Unanswered::Again);
        };
        loop {
            let offset = (request.len() - rest.len()) as u64;
            let part;
            (part, rest) = rest.split_at(rest.len().min(room));
            let more = Question::More {
                transfer,
                offset,
                part,
            };
            let answer = self.ask_worker(subject, &more).await?;
            if rest.is_empty() {
                return Ok(answer);
            }
            if !matches!(read_answer(&answer)?, Answer::Held { .. }) {
                return Err(Unanswered::Again);
            }
        }
    }

    async fn receive_rest(
        &self,
        subject: &str,
        transfer: u64,
        total: u64,
        first: &[u8],
    ) -> Result<Bytes, Unanswered> {
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        if total > TRANSFER_BYTES_MAX {
            let why = format!("an answer of {total} bytes is too long");
            return Err(Unanswered::Failed(why));
        }
        let mut answer = first.to_vec();
        while answer.len() < total {
            let offset = answer.len() as u64;
            let rest = Question::Rest { transfer, offset };
            let payload = self.ask_worker(subject, &rest).await?;
            match read_answer(&payload)? {
                Answer::Whole(part) if !part.is_empty() => answer.extend_from_slice(part),
                _ => return Err(Unanswered::Again),
            }
        }
        answer.truncate(total);
        Ok(answer.into())
    }

    /// Asks the worker that holds a transfer. If it is gone, another may begin.
    async fn ask_worker(
        &self,
        subject: &str,
        question: &Question<'_>,
    ) -> Result<Bytes, Unanswered> {
        let asked = self.ask(subject, question).await;
        asked.map_err(|why| match why {
            Unanswered::NoWorker => Unanswered::Again,
            why => why,
        })
    }
}

fn read_answer(payload: &[u8]) -> Result<Answer<'_>, Unanswered> {
    match read(payload) {
        Some(Answer::Failed { why }) => Err(Unanswered::Failed(why.to_owned())),
        Some(Answer::Unknown) => Err(Unanswered::Again),
        Some(answer) => Ok(answer),
        None => {
            let why = "the worker is of another version of echoic".to_owned();
            Err(Unanswered::Failed(why))
        }
    }
}

/// The transfers that a worker holds.
#[derive(Debug)]
pub(crate) struct Transfers {
    /// Where the other parts of a run go, and where the rest of an answer is asked for.
    subject: String,
    held: HashMap<u64, Held>,
}

#[derive(Debug)]
struct Held {
    /// Of a run: what has come so far. Of an answer: all of it.
    bytes: Vec<u8>,
    /// The whole length of a run; of an answer `None`.
    expected: Option<usize>,
    since: Instant,
}

/// What a worker does about a part.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send this.
    Send(Vec<u8>),
    /// Answer this run, which is complete.
    Run(Vec<u8>),
}

impl Transfers {
    pub(crate) fn at(subject: String) -> Self {
        Self {
            subject,
            held: HashMap::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Bytes held, and those that are still to come.
    fn bytes(&self) -> usize {
        let bytes = |held: &Held| held.expected.unwrap_or(held.bytes.len());
        self.held.values().map(bytes).sum()
    }

    /// Makes room for a transfer of `bytes`.
    fn make_room(&mut self, bytes: usize, now: Instant) {
        self.held
            .retain(|_, held| now.duration_since(held.since) < TRANSFER_AGE_MAX);
        while !self.held.is_empty()
            && (self.held.len() >= TRANSFERS_MAX || self.bytes() + bytes > HELD_BYTES_MAX)
        {
            let oldest = self.held.iter().min_by_key(|(_, held)| held.since);
            let Some(oldest) = oldest.map(|(transfer, _)| *transfer) else {
                return;
            };
            self.held.remove(&oldest);
        }
    }

    /// Begins a run that comes in parts.
    pub(crate) fn first(&mut self, transfer: u64, total: u64, part: &[u8], now: Instant) -> Next {
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        if total > TRANSFER_BYTES_MAX || part.len() > total {
            let why = "the run is too long for a worker";
            return Next::Send(write(&Answer::Failed { why }));
        }
        self.make_room(total, now);
        let held = Held {
            bytes: part.to_vec(),
            expected: Some(total),
            since: now,
        };
        self.held.insert(transfer, held);
        self.hold()
    }

    fn hold(&self) -> Next {
        let subject = &self.subject;
        Next::Send(write(&Answer::Held { subject }))
    }

    /// Adds a part to a run.
    pub(crate) fn more(&mut self, transfer: u64, offset: u64, part: &[u8]) -> Next {
        let unknown = Next::Send(write(&Answer::Unknown));
        let Some(held) = self.held.get_mut(&transfer) else {
            return unknown;
        };
        let total = held.expected.unwrap_or(0);
        if offset != held.bytes.len() as u64 || held.bytes.len() + part.len() > total {
            self.held.remove(&transfer);
            return unknown;
        }
        held.bytes.extend_from_slice(part);
        if held.bytes.len() < total {
            return self.hold();
        }
        let complete = self.held.remove(&transfer).unwrap_or_else(|| Held {
            bytes: Vec::new(),
            expected: None,
            since: Instant::now(),
        });
        Next::Run(complete.bytes)
    }

    /// Returns the payload with an answer, or with its first part.
    pub(crate) fn answer(&mut self, answer: Vec<u8>, max_payload: usize, now: Instant) -> Vec<u8> {
        let room = room(max_payload);
        if answer.len() <= room {
            return write(&Answer::Whole(&answer));
        }
        if answer.len() > TRANSFER_BYTES_MAX {
            let why = "the answer is too long";
            return write(&Answer::Failed { why });
        }
        self.make_room(answer.len(), now);
        let transfer = fastrand::u64(..);
        let first = write(&Answer::Part {
            subject: &self.subject,
            transfer,
            total: answer.len() as u64,
            part: &answer[..room],
        });
        let held = Held {
            bytes: answer,
            expected: None,
            since: now,
        };
        self.held.insert(transfer, held);
        first
    }

    /// Returns the payload with more of an answer, from `offset` on.
    pub(crate) fn rest(&mut self, transfer: u64, offset: u64, max_payload: usize) -> Vec<u8> {
        let held = self.held.get(&transfer);
        let rest = held
            .filter(|held| held.expected.is_none())
            .and_then(|held| held.bytes.get(usize::try_from(offset).ok()?..));
        let Some(rest) = rest.filter(|rest| !rest.is_empty()) else {
            return write(&Answer::Unknown);
        };
        let part = &rest[..rest.len().min(room(max_payload))];
        let is_last = part.len() == rest.len();
        let payload = write(&Answer::Whole(part));
        if is_last {
            self.held.remove(&transfer);
        }
        payload
    }
}

#[cfg(test)]
mod tests;
