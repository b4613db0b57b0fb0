//! A whole trial: each durability and what it promises, and the controls, which must be detected.

use std::{fmt, path::Path, time::Duration};

use anyhow::Result;
use rustix::process::Signal;

use crate::{
    control,
    disk::Crash,
    history::{Act, History, Plan, run},
    sweep::{Scope, Sums, sweep},
};

/// The promise of a durability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Soundness, and for the replies that peers had received:
    Bounded {
        /// Allowed loss if the process is killed.
        kill: Loss,
        /// Allowed loss at a power loss.
        power: Loss,
    },
    /// Nothing, and that must be detected: it is a control.
    Breaks,
}

/// Allowed loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing.
    Nothing,
    /// Replies sent at most this long before the crash.
    Within(Duration),
    /// At most this many replies.
    Replies(usize),
    /// Anything.
    Any,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Within(bound) => write!(f, "the last {bound:?}"),
            Self::Replies(most) => write!(f, "{most} replies"),
            Self::Any => f.write_str("anything"),
        }
    }
}

/// Threads that are woken one after the other until a reply is committed, or synced: strace, worker, recorder, store,
/// strace.
const WAKES: u32 = 5;

/// Promise of `normal` and `off`: committed within 50 ms.
const COMMITTED: Duration = Duration::from_millis(50);

/// Promise of `normal`: on the disk within a second.
const SYNCED: Duration = Duration::from_secs(1);

/// A traced run, its promise, and the findings.
#[derive(Debug)]
pub struct Found {
    /// Its name.
    pub name: &'static str,
    /// Its promise.
    pub promise: Promise,
    /// The findings.
    pub sums: Sums,
    /// Longest scheduling delay of the machine, which adds to every delay.
    pub stall: Duration,
}

impl Found {
    /// Returns the violations of the promise.
    pub fn failure(&self) -> Option<String> {
        let failed = |why: String| Some(format!("{}: {why}", self.name));
        let unsound = self.sums.0.iter().find(|(_, sum)| sum.unsound > 0);
        match (self.promise, unsound) {
            (Promise::Breaks, Some(_)) => return None,
            (Promise::Breaks, None) => {
                return failed("it must be caught, and is not: this trial proves nothing".into());
            }
            (_, Some((crash, sum))) => {
                let example = sum.example.as_deref().unwrap_or_default();
                return failed(format!("{crash}: not sound, {example}"));
            }
            _ => {}
        }
        let Promise::Bounded { kill, power } = self.promise else {
            return None;
        };
        self.sums.0.iter().find_map(|(crash, sum)| {
            let may = if *crash == Crash::Kill { kill } else { power };
            let most = match may {
                Loss::Nothing => 0,
                Loss::Replies(most) => most,
                // The promise is for a store that keeps up: scheduling delays of the machine do not count.
                Loss::Within(bound) if sum.lost_oldest > bound + WAKES * self.stall => {
                    return failed(format!(
                        "{crash}: a reply is lost that was given {:?} before, and {bound:?} was promised (the machine \
                         stood still for {:?})",
                        sum.lost_oldest, self.stall
                    ));
                }
                Loss::Within(_) | Loss::Any => return None,
            };
            (sum.lost_most > most).then(|| format!("{}: {crash}: {} replies are lost", self.name, sum.lost_most))
        })
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        for (crash, sum) in &self.sums.0 {
            write!(f, "\n  {:<20} {sum}", crash.to_string())?;
        }
        Ok(())
    }
}

/// Starts and stops, a crash during work, and the restart; work for more than a second, so that the timer syncs too.
pub fn days(durability: &'static str, rounds: usize) -> Plan {
    let act = Act {
        peers: 3,
        depth: 2,
        rounds,
        bytes: 300,
        pause: Duration::from_millis(match durability {
            "strict" => 0,
            _ => 1500 / rounds as u64,
        }),
        end: Signal::TERM,
    };
    let short = Act {
        peers: 1,
        rounds: rounds.div_ceil(4),
        ..act
    };
    let killed = Act {
        end: Signal::KILL,
        ..short
    };
    let acts = vec![act, killed, short];
    Plan {
        durability,
        acts,
        failing: None,
    }
}

/// A disk with slow syncs: with this and 50 ms the store still keeps up. If the committing thread waited for the sync,
/// a kill -9 would lose the replies of that time.
fn slowly(rounds: usize) -> Plan {
    let mut plan = days("normal", rounds);
    plan.failing = Some("fsync,fdatasync:delay_enter=300000".into());
    plan
}

/// Enough data for checkpoints while peers talk: one is due every 8 MiB.
pub fn much(durability: &'static str) -> Plan {
    let act = Act {
        peers: 2,
        depth: 4,
        rounds: 40,
        bytes: 60_000,
        pause: Duration::ZERO,
        end: Signal::KILL,
    };
    let acts = vec![act];
    Plan {
        durability,
        acts,
        failing: None,
    }
}

/// Fewer states than this prove little about a run, and might miss a control's fault.
const STATES_MIN: usize = 40;

/// Runs everything: `scope.states` are divided between the runs. `each` is called with each run's findings.
pub fn all(
    program: &Path,
    myself: &Path,
    scope: &Scope,
    mut each: impl FnMut(&Found),
) -> Result<Vec<Found>> {
    let rounds = (scope.states / 100).clamp(12, 100);
    let bounded = |kill, power| Promise::Bounded { kill, power };
    let strict = bounded(Loss::Nothing, Loss::Nothing);
    let normal = bounded(Loss::Within(COMMITTED), Loss::Within(SYNCED));
    let off = bounded(Loss::Within(COMMITTED), Loss::Any);
    let mut found = Vec::new();
    let mut look = |name, promise, history: &History, share: usize, lies| -> Result<()> {
        let scope = Scope {
            states: (scope.states * share / 100).max(STATES_MIN),
            lies,
            // A control leaves many unsound states, which are of no interest.
            save: scope.save.clone().filter(|_| promise != Promise::Breaks),
            ..*scope
        };
        let sums = sweep(history, &scope)?;
        let stall = history.stall;
        found.push(Found {
            name,
            promise,
            sums,
            stall,
        });
        if let Some(found) = found.last() {
            each(found);
        }
        Ok(())
    };
    let history = of(program, &days("strict", rounds))?;
    look("strict", strict, &history, 30, false)?;
    look(
        "control: strict on a disk that ignores syncs",
        Promise::Breaks,
        &history,
        5,
        true,
    )?;
    let mut plan = days("strict", rounds);
    plan.acts.truncate(2);
    plan.failing = Some("fsync,fdatasync:error=EIO:when=25+10".into());
    let history = of(program, &plan)?;
    look(
        "strict, every tenth sync failing",
        strict,
        &history,
        10,
        false,
    )?;
    let history = of(program, &days("normal", rounds))?;
    look("normal", normal, &history, 30, false)?;
    let history = of(program, &slowly(rounds))?;
    look("normal, a sync takes 0.3 s", normal, &history, 5, false)?;
    let history = of(program, &days("off", rounds))?;
    look("off", off, &history, 5, false)?;
    let plan = much("normal");
    let behind = bounded(
        Loss::Replies(plan.acts.iter().map(Act::behind_max).sum()),
        Loss::Any,
    );
    let history = of(program, &plan)?;
    look(
        "normal, more than the store can handle",
        behind,
        &history,
        5,
        false,
    )?;
    let place = tempfile::tempdir()?;
    let history = control::trace(myself, place.path(), "OFF", 30 + rounds as u64)?;
    look(
        "control: synchronous=OFF",
        Promise::Breaks,
        &history,
        10,
        false,
    )?;
    Ok(found)
}

fn of(program: &Path, plan: &Plan) -> Result<History> {
    let place = tempfile::tempdir()?;
    run(program, place.path(), plan)
}
