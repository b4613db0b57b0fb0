//! Crashes of every kind at every moment: what remains, compared with the promise.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, mpsc::sync_channel},
    thread,
    time::Duration,
};

use anyhow::Result;
use fastrand::Rng;

use crate::{
    disk::{Crash, Disk, Files},
    history::{History, Life},
    trace::What,
    verdict::examine,
};

/// How much to check.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Maximum number of states to open.
    pub states: usize,
    /// Seed of the random choices.
    pub seed: u64,
    /// Whether the disk acknowledges every sync and does none.
    pub lies: bool,
    /// Where unsound states are copied for inspection, if anywhere.
    pub save: Option<PathBuf>,
}

/// Findings for one kind of crash.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    /// States opened.
    pub states: usize,
    /// The unsound states among these.
    pub unsound: usize,
    /// The first of these, described.
    pub example: Option<String>,
    /// Sound states in which a reply is missing that a peer had received.
    pub with_loss: usize,
    /// Most missing replies in one state.
    pub lost_most: usize,
    /// Age of the oldest missing reply when the crash came.
    pub lost_oldest: Duration,
    /// The step before which that crash came.
    pub lost_before: usize,
}

/// All findings.
#[derive(Clone, Debug, Default)]
pub struct Sums(pub BTreeMap<Crash, Sum>);

impl Sums {
    /// Findings for one kind of crash.
    pub fn of(&self, crash: Crash) -> Sum {
        self.0.get(&crash).cloned().unwrap_or_default()
    }

    /// All states.
    pub fn states(&self) -> usize {
        self.0.values().map(|sum| sum.states).sum()
    }

    /// All unsound states.
    pub fn unsound(&self) -> usize {
        self.0.values().map(|sum| sum.unsound).sum()
    }
}

/// A state to check: a crash just before step `before`.
struct State {
    crash: Crash,
    before: usize,
    at: u64,
    seed: u64,
    files: Files,
    sent: usize,
}

/// Crashes `history` wherever it makes a difference, within the limits of `scope`.
pub fn sweep(history: &History, scope: &Scope) -> Result<Sums> {
    let place = tempfile::Builder::new()
        .prefix("crash-")
        .tempdir_in(memory())?;
    let sent = SentReplies {
        replies: sent_replies(history),
        gone: gone(history, place.path())?,
        lives: history.lives.clone(),
    };
    let moments = moments(history, scope);
    let sums = Mutex::new(Sums::default());
    let (give, take) = sync_channel::<State>(4);
    let take = Mutex::new(take);
    thread::scope(|threads| {
        let workers: Vec<_> = (0..thread::available_parallelism().map_or(1, usize::from))
            .map(|number| {
                let (take, sums, sent, place) = (&take, &sums, &sent, place.path());
                threads.spawn(move || -> Result<()> {
                    loop {
                        let next = take.lock().unwrap_or_else(PoisonError::into_inner).recv();
                        let Ok(state) = next else { return Ok(()) };
                        let folder = place.join(number.to_string());
                        fs::create_dir(&folder)?;
                        let found = examine(&folder, &state.files);
                        fs::remove_dir_all(&folder)?;
                        if let (Err(_), Some(save)) = (&found, &scope.save) {
                            save_state(save, &state)?;
                        }
                        let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
                        sums.0
                            .entry(state.crash)
                            .or_default()
                            .add(&state, found, sent);
                    }
                })
            })
            .collect();
        crash(history, scope, &moments, |state| give.send(state).is_ok());
        drop(give);
        for worker in workers {
            worker
                .join()
                .unwrap_or_else(|_| Err(anyhow::anyhow!("a worker panicked")))?;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    Ok(sums.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// The replies that peers received, and the times to measure them by.
struct SentReplies<'a> {
    replies: Vec<(u64, &'a str)>,
    gone: HashMap<String, usize>,
    lives: Vec<Life>,
}

impl SentReplies<'_> {
    /// Returns the age of the missing replies at a crash that left only `found`.
    ///
    /// Replies lost by an earlier life when it was killed do not count for this crash. Replies that an earlier life
    /// left unsynced are synced within a second of the next start, not before it.
    fn lost(&self, state: &State, found: &HashSet<String>) -> Vec<Duration> {
        let mut lives = self.lives.iter().rev();
        let life = lives.find(|life| life.begins < state.before);
        let ready_at = life.map_or(0, |life| life.ready_at);
        let is_gone = |reply: &str| {
            self.gone
                .get(reply)
                .is_some_and(|step| *step < state.before)
        };
        let missing = self.replies[..state.sent]
            .iter()
            .filter(|(_, reply)| !found.contains(*reply) && !is_gone(reply));
        missing
            .map(|(at, _)| match state.crash {
                Crash::Kill => *at,
                Crash::PowerDrop | Crash::PowerTorn => ready_at.max(*at),
            })
            .map(|since| Duration::from_micros(state.at.saturating_sub(since)))
            .collect()
    }
}

/// Replies that were missing when a life began, by its first step: they were sent before the kill and lost by it.
fn gone(history: &History, place: &Path) -> Result<HashMap<String, usize>> {
    let mut disk = Disk::new(false);
    let (mut sent, mut gone) = (Vec::new(), HashMap::new());
    for (number, step) in history.steps.iter().enumerate() {
        if number > 0 && history.lives.iter().any(|life| life.begins == number) {
            let folder = place.join("life");
            fs::create_dir(&folder)?;
            let files = disk.after(Crash::Kill, &mut Rng::with_seed(0));
            let found = examine(&folder, &files)?;
            fs::remove_dir_all(&folder)?;
            let missing = sent.iter().filter(|reply| !found.contains(*reply));
            for reply in missing {
                gone.entry(String::clone(reply)).or_insert(number);
            }
        }
        disk.step(&step.what);
        if let What::Sent(replies) = &step.what {
            sent.extend_from_slice(replies);
        }
    }
    Ok(gone)
}

/// Replies in the order in which peers received them, with the time.
fn sent_replies(history: &History) -> Vec<(u64, &str)> {
    let mut sent = Vec::new();
    for step in &history.steps {
        if let What::Sent(replies) = &step.what {
            sent.extend(replies.iter().map(|reply| (step.at, reply.as_str())));
        }
    }
    sent
}

/// The kinds of crash tried at one moment, with their seeds.
type Tried = Vec<(Crash, u64)>;

/// Returns the steps after which to crash, and how: all combinations, or this many of them, drawn by the seed.
fn moments(history: &History, scope: &Scope) -> Vec<(usize, Tried)> {
    let mut disk = Disk::new(scope.lies);
    let mut all = Vec::new();
    for (number, step) in history.steps.iter().enumerate() {
        let differs = disk.step(&step.what);
        if differs {
            all.push((number, Crash::Kill));
            if !disk.is_synced() {
                all.push((number, Crash::PowerDrop));
                all.push((number, Crash::PowerTorn));
            }
        }
    }
    let mut random = Rng::with_seed(scope.seed);
    // Torn states differ from seed to seed, so the remaining budget goes to them.
    let torn = all
        .iter()
        .filter(|(_, crash)| *crash == Crash::PowerTorn)
        .count();
    let more = scope.states.saturating_sub(all.len());
    let (each, mut one_more) = match torn {
        0 => (0, 0),
        torn => (more / torn, more % torn),
    };
    let mut chosen: Vec<(usize, Crash, u64)> = Vec::new();
    random.shuffle(&mut all);
    all.truncate(scope.states);
    for (number, crash) in all {
        let mut times = 1;
        if crash == Crash::PowerTorn {
            times += each + usize::from(one_more > 0);
            one_more = one_more.saturating_sub(1);
        }
        chosen.extend((0..times).map(|_| (number, crash, random.u64(..))));
    }
    chosen.sort_unstable();
    let mut moments: Vec<(usize, Tried)> = Vec::new();
    for (number, crash, seed) in chosen {
        match moments.last_mut() {
            Some((last, tried)) if *last == number => tried.push((crash, seed)),
            _ => moments.push((number, vec![(crash, seed)])),
        }
    }
    moments
}

fn crash(
    history: &History,
    scope: &Scope,
    moments: &[(usize, Tried)],
    mut give: impl FnMut(State) -> bool,
) {
    let mut disk = Disk::new(scope.lies);
    let mut sent = 0;
    let mut moments = moments.iter().peekable();
    for (number, step) in history.steps.iter().enumerate() {
        disk.step(&step.what);
        if let What::Sent(replies) = &step.what {
            sent += replies.len();
        }
        let Some((_, tried)) = moments.next_if(|(moment, _)| *moment == number) else {
            continue;
        };
        // At the latest possible time, of a program that was alive: the lost replies are oldest then.
        let next = history
            .steps
            .get(number + 1)
            .map_or(step.at, |next| next.at);
        let life = history
            .lives
            .iter()
            .rev()
            .find(|life| life.begins <= number);
        let at = life.map_or(next, |life| next.min(life.ended_at));
        for (crash, seed) in tried {
            let state = State {
                crash: *crash,
                before: number + 1,
                at,
                seed: *seed,
                files: disk.after(*crash, &mut Rng::with_seed(*seed)),
                sent,
            };
            if !give(state) {
                return;
            }
        }
    }
}

impl Sum {
    fn add(&mut self, state: &State, found: Result<HashSet<String>>, sent: &SentReplies<'_>) {
        self.states += 1;
        match found {
            Err(why) => {
                self.unsound += 1;
                self.example.get_or_insert_with(|| {
                    format!(
                        "before step {} with seed {}: {why:#}",
                        state.before, state.seed
                    )
                });
            }
            Ok(found) => {
                let lost = sent.lost(state, &found);
                self.with_loss += usize::from(!lost.is_empty());
                self.lost_most = self.lost_most.max(lost.len());
                let oldest = lost.into_iter().max().unwrap_or_default();
                if oldest > self.lost_oldest {
                    (self.lost_oldest, self.lost_before) = (oldest, state.before);
                }
            }
        }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>6} states, {:>5} not sound, {:>5} with loss",
            self.states, self.unsound, self.with_loss
        )?;
        if self.with_loss > 0 {
            write!(
                f,
                " (of {} replies at most, given {:.0?} before at most, at step {})",
                self.lost_most, self.lost_oldest, self.lost_before
            )?;
        }
        if let Some(example) = &self.example {
            write!(f, "\n      {example}")?;
        }
        Ok(())
    }
}

/// Returns a directory in memory (tmpfs) if there is one: ten thousand databases are written and read.
fn memory() -> PathBuf {
    let shared = Path::new("/dev/shm");
    if fs::metadata(shared).is_ok_and(|folder| folder.is_dir()) {
        return shared.to_owned();
    }
    std::env::temp_dir()
}

fn save_state(save: &Path, state: &State) -> Result<()> {
    let folder = save.join(format!("{:?}-{}-{}", state.crash, state.before, state.seed));
    fs::create_dir_all(&folder)?;
    for (name, bytes) in &state.files {
        fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Step;

    /// Ten thousand states are requested, and there may be fewer moments and kinds: torn states fill the rest exactly.
    #[test]
    fn requested_number_of_states_is_tried() {
        let name = || "a".to_owned();
        let mut steps = vec![Step {
            at: 0,
            what: What::Create(name()),
        }];
        steps.extend((0..7).map(|at| Step {
            at,
            what: What::Write {
                name: name(),
                at,
                bytes: [7].into(),
            },
        }));
        let history = History {
            steps,
            lives: Vec::new(),
            stall: Duration::ZERO,
        };
        for states in [1, 5, 24, 25, 31, 32, 33, 1000] {
            let scope = Scope {
                states,
                seed: 1,
                lies: false,
                save: None,
            };
            let moments = moments(&history, &scope);
            let tried: usize = moments.iter().map(|(_, tried)| tried.len()).sum();
            assert_eq!(tried, states);
        }
    }
}
