//! What runs where: a process of echoic as it describes itself, and as another process sees it.
//!
//! It crosses between processes of different versions, as JSON: a reader ignores what it does not know, and takes what is
//! missing as not known. Passwords and tokens are no part of it.

use serde::{Deserialize, Serialize};

use crate::event::{Micros, ServerId};

/// The version of this format.
pub const PROCESS_VERSION: u32 = 1;

/// Longest text of another process that is shown, in characters.
const TEXT_CHARS_MAX: usize = 200;

/// Most endpoints, and most subjects, of a process that are shown.
const LIST_MAX: usize = 64;

/// What a process does.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum ProcessRole {
    /// `echoic serve`: a server.
    Serve,
    /// `echoic work`: a worker.
    Work,
    /// `echoic keep`: a keeper.
    #[serde(rename = "keep")]
    Keeper,
    /// `echoic console`: a console.
    Console,
    /// One of a newer version of echoic.
    #[default]
    #[serde(other)]
    Other,
}

/// A process as it describes itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// The version of this format.
    pub v: u32,
    /// What it does.
    pub role: ProcessRole,
    /// A random number of this start; that of a server is the id in its record.
    pub id: ServerId,
    /// The machine.
    pub host: String,
    /// The process there.
    pub pid: u32,
    /// The version of echoic.
    pub version: String,
    /// Wall-clock time of its start.
    pub started_us: Micros,
    /// It drains, and ends then.
    pub stopping: bool,
    /// Where a server listens.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listening: Vec<ListeningAt>,
    /// The service of a worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub svc: Option<String>,
    /// The subjects that a worker answers at, or a server asks workers at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// The store that it writes or reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// The URL of its web console.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console: Option<String>,
    /// What a worker has in hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs: Option<RunsInHand>,
    /// What a server has recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<RecordLag>,
    /// The stream that a server records into, or a keeper writes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamLag>,
    /// Why the store takes nothing, while it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing: Option<String>,
    /// Other processes that a console knows, and that do not answer it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub silent: Vec<Self>,
}

/// An address that a server listens on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListeningAt {
    /// The address, as a URL.
    pub addr: String,
    /// The service that answers there.
    pub svc: String,
}

/// The runs that a worker has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunsInHand {
    /// Messages of NATS that it has received and not looked at.
    pub pending: u64,
    /// Runs that it answers now, or of which it has received a part.
    pub in_flight: u64,
}

/// How far a server is behind with its record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordLag {
    /// Exchanges served and not yet committed or lost.
    pub waiting: u64,
    /// Bytes of events that the store has not acknowledged.
    pub waiting_bytes: u64,
    /// Exchanges that will never be in the store.
    pub lost: u64,
    /// Wall-clock time of the last commit.
    pub committed_us: Option<Micros>,
}

/// What a stream holds that no keeper has stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamLag {
    /// Its name.
    pub name: String,
    /// Messages of batches in it; `None` if JetStream did not say.
    pub pending: Option<u64>,
    /// Bytes in it.
    pub bytes: Option<u64>,
    /// Wall-clock time of the oldest of them.
    pub oldest_us: Option<Micros>,
}

/// A process as another one sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenProcess {
    /// What it last said of itself, or what is known of it without.
    pub process: Process,
    /// How it was seen.
    pub state: ProcessState,
    /// Wall-clock time of its last answer, or of its last batch if only the store knows it.
    pub seen_us: Option<Micros>,
}

/// How a process was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessState {
    /// It answers.
    Running,
    /// It answers, drains, and ends then.
    Stopping,
    /// It was asked and does not answer, and its connection to NATS stands.
    Silent,
    /// It has recorded in the store, and does not listen at NATS.
    Recorded,
}

impl SeenProcess {
    /// Creates one that has answered at this time.
    pub fn answered(process: Process, at: Micros) -> Self {
        Self {
            state: if process.stopping {
                ProcessState::Stopping
            } else {
                ProcessState::Running
            },
            seen_us: Some(at),
            process,
        }
    }
}

impl Process {
    /// Reads what a process sent of itself. Anybody may have sent it, so texts are without control characters, and texts and lists
    /// are cut where they are long.
    pub fn read(json: &[u8]) -> Option<Self> {
        // As a list, all of its fields could be left out.
        if !json.trim_ascii_start().starts_with(b"{") {
            return None;
        }
        let mut process: Self = serde_json::from_slice(json).ok()?;
        process.silent.truncate(LIST_MAX);
        for other in &mut process.silent {
            other.silent.clear();
            other.bound();
        }
        process.bound();
        Some(process)
    }

    fn bound(&mut self) {
        let Self {
            host,
            version,
            listening,
            svc,
            subjects,
            store,
            console,
            stream,
            failing,
            ..
        } = self;
        listening.truncate(LIST_MAX);
        subjects.truncate(LIST_MAX);
        for ListeningAt { addr, svc } in listening {
            bound(addr);
            bound(svc);
        }
        subjects.iter_mut().for_each(bound);
        bound(host);
        bound(version);
        for text in [svc, store, console, failing].into_iter().flatten() {
            bound(text);
        }
        if let Some(StreamLag { name, .. }) = stream {
            bound(name);
        }
    }

    /// Writes it for another process.
    pub fn write(&self) -> Vec<u8> {
        // It has no map whose keys are not text, so that this does not fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Returns its name for people: `web-1:4242`.
    pub fn name(&self) -> String {
        format!("{}:{}", self.host, self.pid)
    }
}

/// Removes control characters, and cuts a long text.
fn bound(text: &mut String) {
    let is_fine = text.len() <= TEXT_CHARS_MAX && !text.contains(char::is_control);
    if !is_fine {
        let plain = text.chars().filter(|char| !char.is_control());
        *text = plain.take(TEXT_CHARS_MAX).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker() -> Process {
        Process {
            v: PROCESS_VERSION,
            role: ProcessRole::Work,
            id: ServerId(7),
            host: "web-1".to_owned(),
            pid: 42,
            version: "0.1.0".to_owned(),
            started_us: 5,
            svc: Some("upper".to_owned()),
            subjects: vec!["nats://h:4222/upper".to_owned()],
            runs: Some(RunsInHand {
                pending: 3,
                in_flight: 1,
            }),
            ..Process::default()
        }
    }

    #[test]
    fn process_is_read_as_it_is_written() {
        assert_eq!(Process::read(&worker().write()), Some(worker()));
        assert_eq!(Process::read(b"[]"), None);
        assert_eq!(Process::read(b"\xff"), None);
    }

    #[test]
    fn other_versions_are_read_as_far_as_they_are_known() {
        let newer =
            br#"{"v":9,"role":"shine","id":"0000000000000007","host":"a","pid":1,"more":[1]}"#;
        let read = Process::read(newer).unwrap();
        assert_eq!(
            (read.v, read.role, read.name()),
            (9, ProcessRole::Other, "a:1".to_owned())
        );
        let older = br#"{"role":"keep","record":{"waiting":3}}"#;
        let read = Process::read(older).unwrap();
        assert_eq!(read.role, ProcessRole::Keeper);
        assert_eq!(read.record.unwrap().waiting, 3);
    }

    #[test]
    fn what_others_send_is_bounded_and_without_control_characters() {
        let hostile = Process {
            host: format!("a\u{1b}[2J\n{}", "x".repeat(999)),
            listening: vec![ListeningAt::default(); 999],
            subjects: vec!["y".repeat(999); 999],
            failing: Some("\0bad\r".to_owned()),
            ..Process::default()
        };
        let hostile = Process {
            silent: vec![hostile.clone(); 99],
            ..hostile
        };
        let read = Process::read(&hostile.write()).unwrap();
        assert!(read.host.starts_with("a[2Jxxx"), "{}", read.host);
        assert_eq!(read.host.chars().count(), TEXT_CHARS_MAX);
        assert_eq!(
            (read.listening.len(), read.subjects.len()),
            (LIST_MAX, LIST_MAX)
        );
        assert_eq!(read.subjects[0].len(), TEXT_CHARS_MAX);
        assert_eq!(read.failing.as_deref(), Some("bad"));
        assert_eq!(read.silent.len(), LIST_MAX);
        assert_eq!(read.silent[0].host, read.host);
    }
}
