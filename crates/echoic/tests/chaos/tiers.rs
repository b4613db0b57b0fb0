//! The processes of all tiers.

use std::{net::SocketAddr, sync::Arc};

use trials_postgres::{Database, Server as Postgres};

use super::{
    console::Console,
    harness::{Home, Nats, SLOW, Serve, Stopped, until, until_within},
    keeper::Keeper,
    record::{exchanges_of, wait_for_record},
    worker::Worker,
};

/// What is only in long runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    /// NATS is a cluster of three nodes.
    pub(super) has_cluster: bool,
    /// PostgreSQL is on a small disk of its own, which may be full.
    pub(super) has_small_disk: bool,
}

/// A server and its durability: with strict no reply leaves that may be lost.
pub(super) struct Server {
    pub(super) serve: Serve,
    pub(super) is_strict: bool,
}

pub(super) struct Tiers {
    pub(super) nats: Vec<Nats>,
    pub(super) postgres: Postgres,
    pub(super) database: Database,
    pub(super) home: Arc<Home>,
    pub(super) servers: Vec<Server>,
    pub(super) workers: Vec<Worker>,
    pub(super) keepers: Vec<Keeper>,
    pub(super) console: Console,
    setting: Setting,
    /// Servers that were stopped in order, and how many exchanges each had recorded.
    stopped: Vec<(String, u64)>,
}

impl Setting {
    /// A quick run has one node of NATS and a disk with room; a long one has all.
    pub(super) fn of(is_deep: bool) -> Self {
        Self {
            has_cluster: is_deep,
            has_small_disk: is_deep && trials_postgres::can_mount(),
        }
    }
}

impl Server {
    pub(super) fn address(&self) -> SocketAddr {
        self.serve.at[0]
    }

    /// How often it has said that it does not record.
    pub(super) fn failures(&self) -> usize {
        let lines = self.serve.err.so_far();
        let failures = lines
            .iter()
            .filter(|line| line.contains("not recording since"));
        failures.count()
    }
}

impl Tiers {
    /// Starts all. `None`, after saying so, if PostgreSQL is not installed.
    #[track_caller]
    pub(super) fn start(setting: Setting) -> Option<Self> {
        let postgres = if setting.has_small_disk {
            trials_postgres::server_on_small_disk("")?
        } else {
            trials_postgres::server("")?
        };
        let nats = if setting.has_cluster {
            Vec::from(Nats::cluster())
        } else {
            vec![Nats::with_jetstream()]
        };
        let (database, home) = (postgres.database(), Arc::new(Home::new()));
        let workers = (0..3).map(|_| start_worker(&nats)).collect();
        let keepers = (0..2)
            .map(|_| start_keeper(&nats, &home, &database, setting))
            .collect();
        let servers = [true, false].map(|is_strict| start_server(&nats, is_strict, setting));
        let console = start_console(&nats, &home, &database);
        Some(Self {
            servers: servers.into(),
            nats,
            postgres,
            database,
            home,
            workers,
            keepers,
            console,
            setting,
            stopped: Vec::new(),
        })
    }

    #[track_caller]
    pub(super) fn new_worker(&self) -> Worker {
        start_worker(&self.nats)
    }

    #[track_caller]
    pub(super) fn new_keeper(&self) -> Keeper {
        start_keeper(&self.nats, &self.home, &self.database, self.setting)
    }

    #[track_caller]
    pub(super) fn new_server(&self, is_strict: bool) -> Server {
        start_server(&self.nats, is_strict, self.setting)
    }

    #[track_caller]
    pub(super) fn new_console(&self) -> Console {
        start_console(&self.nats, &self.home, &self.database)
    }

    /// Stops a server in order: nothing is lost. What it counts as recorded is compared at the end.
    #[track_caller]
    pub(super) fn stop_server(&mut self, server: Server) {
        let name = format!(":{}", server.serve.id());
        let Stopped {
            served,
            recorded,
            lost,
            ..
        } = server.serve.stop();
        assert_eq!((served, lost), (recorded, 0));
        self.stopped.push((name, recorded));
    }

    /// Stops all, from the interface to the storage.
    #[track_caller]
    pub(super) fn stop(mut self) {
        for server in std::mem::take(&mut self.servers) {
            self.stop_server(server);
        }
        wait_for_record(&self, 0, &[]);
        for (name, recorded) in &self.stopped {
            assert_eq!(exchanges_of(&self.database, name), *recorded, "{name}");
        }
        // A server that was killed has told of no end.
        until_within(SLOW, "every conversation has ended", || {
            let open = "SELECT count(*) FROM echoic.conversation WHERE ended IS NULL";
            self.database.psql(open) == "0"
        });
        self.console.stop();
        self.workers
            .into_iter()
            .for_each(|worker| drop(worker.stop()));
        self.keepers
            .into_iter()
            .for_each(|keeper| drop(keeper.stop()));
        // The acknowledgements of the keepers may be under way.
        until("all is acknowledged", || self.nats[0].is_written("record"));
    }
}

fn start_worker(nats: &[Nats]) -> Worker {
    Worker::start_on(&Nats::cluster_url(nats, "upper"), "upper")
}

fn start_keeper(nats: &[Nats], home: &Arc<Home>, database: &Database, setting: Setting) -> Keeper {
    Keeper::start_from(
        &record_url(nats, setting),
        home,
        &["--store", &database.url()],
    )
}

fn start_server(nats: &[Nats], is_strict: bool, setting: Setting) -> Server {
    let durability = if is_strict { "strict" } else { "normal" };
    let serve = Serve::start(&[
        "127.0.0.1:0",
        "--frame",
        "line",
        "--as",
        &Nats::cluster_url(nats, "upper"),
        // A fault is over within this time, on a busy machine too: no conversation may end.
        "--worker-timeout",
        "60s",
        "--store",
        &record_url(nats, setting),
        "--durability",
        durability,
        "--on",
        Nats::cluster_url(nats, "").trim_end_matches('/'),
    ]);
    Server { serve, is_strict }
}

fn start_console(nats: &[Nats], home: &Home, database: &Database) -> Console {
    let on = Nats::cluster_url(nats, "");
    let url = database.url();
    Console::start(home, &["--store", &url, "--on", on.trim_end_matches('/')])
}

fn record_url(nats: &[Nats], setting: Setting) -> String {
    let url = Nats::cluster_url(nats, "record");
    if setting.has_cluster {
        url + "?replicas=3"
    } else {
        url
    }
}
