//! `echoic status --on` and with a database: lists what runs where.

use std::{sync::Arc, time::Duration};

use echoic_core::{
    event::{Micros, ServerId},
    process::{Process, ProcessRole, ProcessState, SeenProcess},
    store::{Last, RecordingServer, Stats, Store, StoreError},
};
use echoic_nats::{Connection, FoundProcesses, find_processes};
use echoic_recorder::wall_clock_now;
use serde::Serialize;
use tokio::{runtime, time::timeout};

use super::{StatusArgs, table};
use crate::{
    exit::{CliError, CommandResult, Exit},
    pretty,
    service_choice::client_name,
    store_url::{self, StoreUrl},
    term::{self, Payload},
};

/// Most servers that a database is asked for.
const SERVERS_MAX: usize = 256;

/// Time for a database to answer.
const STORE_WITHIN: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) processes: Vec<SeenProcess>,
    pub(super) store: Option<StoreState>,
    /// Answers that cannot be read, or are too many.
    left_out: u64,
}

/// The state of a store.
pub(super) struct StoreState {
    pub(super) url: String,
    pub(super) last: Last,
    pub(super) stats: Stats,
    servers: Vec<RecordingServer>,
}

/// A process as a line of JSON.
#[derive(Serialize)]
struct ProcessJson<'a> {
    #[serde(flatten)]
    process: &'a Process,
    state: ProcessState,
    seen_us: Option<Micros>,
}

/// A store as a line of JSON.
#[derive(Serialize)]
struct StoreJson<'a> {
    v: u32,
    role: &'static str,
    store: &'a str,
    newest_id: u64,
    newest_us: Option<Micros>,
    exchanges: u64,
    bytes: u64,
}

/// Lists the processes. What can be asked is listed also if the rest cannot.
pub(super) fn run(args: &StatusArgs) -> CommandResult {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(CliError::system)?;
    let (mut found, mut failed) = (Found::default(), None);
    match open(args).transpose() {
        Ok(None) => {}
        Ok(Some((url, store))) => match runtime.block_on(read(url, store)) {
            Ok(state) => found.take_store(state),
            Err(error) => failed = Some(error),
        },
        Err(error) => failed = Some(error),
    }
    let asked = runtime.block_on(ask(args, &found));
    runtime.shutdown_background();
    match asked {
        Ok(None) => {}
        Ok(Some(answers)) => found.take_answers(answers),
        Err(error) => failed = Some(error),
    }
    term::done(found.print(args.json))?;
    match failed {
        Some(error) => Err(error),
        None => found.judge(args),
    }
}

/// A store and its URL.
type NamedStore = (String, Arc<dyn Store>);

/// Opens the store that is named. One of the variable that cannot be read is that of a server, and not meant.
fn open(args: &StatusArgs) -> Option<Result<NamedStore, CliError>> {
    let url = args.store.as_ref()?;
    let is_readable = matches!(url, StoreUrl::Sqlite(_) | StoreUrl::Postgres(_));
    if !is_readable && args.store_is_default {
        return None;
    }
    let opened = url.open_to_read();
    Some(opened.map(|store| (url.to_string(), store)))
}

async fn read(url: String, store: Arc<dyn Store>) -> Result<StoreState, CliError> {
    let reading = async {
        Ok::<_, StoreError>(StoreState {
            last: store.last().await?,
            stats: store.stats().await?,
            servers: store.servers(SERVERS_MAX).await?,
            url: url.clone(),
        })
    };
    let state = timeout(STORE_WITHIN, reading).await;
    if let Err(why) = store_url::close(Some(store)).await {
        tracing::debug!("{why}");
    }
    let state = state.map_err(|_| {
        let within = STORE_WITHIN.as_secs();
        CliError::new(
            Exit::TimedOut,
            format!("{url} did not answer within {within} s"),
        )
    })?;
    Ok(state?)
}

/// Asks the processes at the NATS server; those that only the store knows too.
async fn ask(args: &StatusArgs, found: &Found) -> Result<Option<FoundProcesses>, CliError> {
    let Some(on) = &args.on else {
        return Ok(None);
    };
    let connection = Connection::open(on.server().url(), &client_name("status")).await?;
    let expected = found.processes.iter().map(|seen| seen.process.id);
    let answers = find_processes(&connection, expected, args.within.0).await?;
    Ok(Some(answers))
}

impl Found {
    fn take_store(&mut self, state: StoreState) {
        let recorded = state.servers.iter().map(|server| SeenProcess {
            process: of_record(server),
            state: ProcessState::Recorded,
            seen_us: server.recorded,
        });
        self.processes = recorded.collect();
        self.store = Some(state);
    }

    fn take_answers(&mut self, answers: FoundProcesses) {
        let now = wall_clock_now();
        for seen in &mut self.processes {
            if answers.silent.contains(&seen.process.id) {
                seen.state = ProcessState::Silent;
            }
        }
        for mut process in answers.answered {
            for other in std::mem::take(&mut process.silent) {
                self.take_silent(other, &answers.silent);
            }
            self.processes.retain(|seen| seen.process.id != process.id);
            self.processes.push(SeenProcess::answered(process, now));
        }
        self.left_out = answers.left_out;
    }

    /// Takes a process that a console knows as silent, if it is silent to us too.
    fn take_silent(&mut self, process: Process, silent: &[ServerId]) {
        let known = self.processes.iter_mut();
        let mut known = known.filter(|seen| seen.process.id == process.id);
        match known.next() {
            Some(seen) if seen.state == ProcessState::Silent => seen.process = process,
            None if silent.contains(&process.id) => self.processes.push(SeenProcess {
                process,
                state: ProcessState::Silent,
                seen_us: None,
            }),
            _ => {}
        }
    }

    fn print(&mut self, json: bool) -> Result<(), term::OutputError> {
        self.processes.sort_by(|one, other| {
            let key = |seen: &SeenProcess| (seen.process.role, seen.process.pid);
            let ((role, pid), (other_role, other_pid)) = (key(one), key(other));
            let hosts = one.process.host.cmp(&other.process.host);
            role.cmp(&other_role).then(hosts).then(pid.cmp(&other_pid))
        });
        let mut payload = Payload::new(json);
        if payload.pretty {
            for line in table::lines(self, wall_clock_now()) {
                payload.line(format_args!("{}", term::sanitize(line)))?;
            }
            return payload.flush();
        }
        for SeenProcess {
            process,
            state,
            seen_us,
        } in &self.processes
        {
            payload.json(&ProcessJson {
                process,
                state: *state,
                seen_us: *seen_us,
            })?;
        }
        if let Some(store) = &self.store {
            payload.json(&StoreJson {
                v: 1,
                role: "store",
                store: &store.url,
                newest_id: store.last.exchange,
                newest_us: store.stats.newest,
                exchanges: store.stats.exchanges,
                bytes: store.stats.bytes,
            })?;
        }
        payload.flush()
    }

    /// Reports what is wrong with what was found.
    fn judge(&self, args: &StatusArgs) -> CommandResult {
        if self.left_out > 0 {
            let answers = pretty::count(self.left_out, "answer");
            term::note(&format!(
                "{answers} left out: not of a process of echoic, or too many"
            ));
        }
        self.report_versions();
        let silent = self.processes.iter();
        let silent = silent
            .filter(|seen| seen.state == ProcessState::Silent)
            .count();
        if silent > 0 {
            let word = if silent == 1 {
                "process is"
            } else {
                "processes are"
            };
            let why = format!(
                "{silent} {word} connected to NATS and did not answer within {}",
                args.within
            );
            return Err(CliError::new(Exit::TimedOut, why));
        }
        let answers = |seen: &SeenProcess| seen.state != ProcessState::Recorded;
        match &args.on {
            Some(on) if self.store.is_none() && !self.processes.iter().any(answers) => {
                let server = on.server();
                let why = format!(
                    "nothing answers at {server}: no serve with --on, --as or --store there, work, keep, or console with --on"
                );
                Err(CliError::new(Exit::Refused, why))
            }
            _ => Ok(Exit::Done),
        }
    }

    /// Tells of other versions, which may understand each other or not.
    fn report_versions(&self) {
        let own = env!("CARGO_PKG_VERSION");
        let versions = self.processes.iter().map(|seen| &*seen.process.version);
        let mut others: Vec<_> = versions.filter(|it| !it.is_empty() && *it != own).collect();
        others.sort_unstable();
        others.dedup();
        if !others.is_empty() {
            let others = others.join(", ");
            term::note(&format!("versions differ: {others} there, {own} here"));
        }
    }
}

/// What the record tells of a server.
fn of_record(server: &RecordingServer) -> Process {
    let info = &server.info;
    let (host, pid) = info.name.rsplit_once(':').unwrap_or((&info.name, ""));
    Process {
        v: 1,
        role: ProcessRole::Serve,
        id: info.id,
        host: host.to_owned(),
        pid: pid.parse().unwrap_or(0),
        started_us: info.started,
        ..Process::default()
    }
}
