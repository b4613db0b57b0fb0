//! What fails in a round.

use std::{thread, time::Duration};

use super::{
    harness::Nats,
    tiers::{Setting, Tiers},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    KilledStrictServer,
    KilledServer,
    KilledWorker,
    KilledKeeper,
    KilledConsole,
    RestartedNats,
    RestartedPostgres,
    CutConnections,
    FullDisk,
}

impl Fault {
    /// All that this setting can have.
    pub(super) fn all(setting: Setting) -> Vec<Self> {
        let mut all = vec![
            Self::KilledStrictServer,
            Self::KilledServer,
            Self::KilledWorker,
            Self::KilledKeeper,
            Self::KilledConsole,
            Self::RestartedNats,
            Self::RestartedPostgres,
            Self::CutConnections,
        ];
        if setting.has_small_disk {
            all.push(Self::FullDisk);
        }
        all
    }

    /// Whether a server with strict durability may end its conversations and say nothing: it looks twice a second whether it
    /// records, and NATS may be back by then.
    pub(super) fn may_end_strict(self) -> bool {
        self == Self::RestartedNats
    }

    /// Lets it happen, and repairs it: who was killed has a successor. Returns the place of a server that was killed.
    #[track_caller]
    pub(super) fn strike(self, tiers: &mut Tiers, dice: &mut fastrand::Rng) -> Option<usize> {
        match self {
            Self::KilledStrictServer => return Some(kill_server(tiers, true)),
            Self::KilledServer => return Some(kill_server(tiers, false)),
            Self::KilledWorker => {
                let worker = tiers.workers.swap_remove(dice.usize(..tiers.workers.len()));
                worker.kill();
                tiers.workers.push(tiers.new_worker());
            }
            Self::KilledKeeper => {
                let keeper = tiers.keepers.swap_remove(dice.usize(..tiers.keepers.len()));
                keeper.kill();
                tiers.keepers.push(tiers.new_keeper());
            }
            Self::KilledConsole => {
                let console = tiers.new_console();
                std::mem::replace(&mut tiers.console, console).kill();
            }
            Self::RestartedNats => {
                let node = dice.usize(..tiers.nats.len());
                tiers.nats[node].kill();
                thread::sleep(Duration::from_millis(dice.u64(..300)));
                tiers.nats[node].run();
                if tiers.nats.len() > 1 {
                    Nats::wait_for_replicas(&tiers.nats, "record");
                }
            }
            Self::RestartedPostgres => {
                let pause = Duration::from_millis(dice.u64(500..4_000));
                tiers.postgres.restart("", || thread::sleep(pause));
            }
            Self::CutConnections => {
                for _ in 0..5 {
                    tiers.database.psql(CUT);
                    thread::sleep(Duration::from_millis(dice.u64(..300)));
                }
            }
            Self::FullDisk => {
                let pause = Duration::from_millis(dice.u64(1_000..5_000));
                tiers.postgres.fill_disk(|| thread::sleep(pause));
            }
        }
        None
    }
}

/// Ends all other connections to the database.
const CUT: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()";

#[track_caller]
fn kill_server(tiers: &mut Tiers, is_strict: bool) -> usize {
    let is_it = |at: &usize| tiers.servers[*at].is_strict == is_strict;
    let at = (0..tiers.servers.len()).find(is_it).unwrap();
    let server = tiers.new_server(is_strict);
    std::mem::replace(&mut tiers.servers[at], server)
        .serve
        .kill();
    at
}
