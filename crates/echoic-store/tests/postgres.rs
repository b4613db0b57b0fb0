//! The PostgreSQL store alone: what several servers, lost connections and failures do to the record. The tables are read with
//! psql.

#![allow(
    clippy::unwrap_used,
    reason = "clippy does not recognize helpers in a test file as tests"
)]

mod scenario;

use std::{
    process::{Command, Stdio},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use echoic_core::{
    ending::CloseReason,
    event::{Batch, ExchangeId, Outcome},
    store::{BATCHES_KNOWN, Durability, Last, Retention, Store, StoreErrorKind},
};
use echoic_store::{PostgresMode, PostgresStore};
use scenario::{NOON, Scenario, stores::everything, wait};
use trials_postgres::{Database, database, server};

/// Time for what a busy machine may delay.
const DEADLINE: Duration = Duration::from_mins(1);

fn open(database: &Database) -> PostgresStore {
    let mode = PostgresMode::Write(Durability::Normal);
    PostgresStore::open(&database.url().parse().unwrap(), mode).unwrap()
}

/// Returns why a store cannot be opened.
fn refused(url: &str, mode: PostgresMode) -> StoreErrorKind {
    let error = PostgresStore::open(&url.parse().unwrap(), mode).unwrap_err();
    let text = error.to_string();
    assert!(!text.contains(trials_postgres::PASSWORD), "{text}");
    assert!(text.contains("postgres://"), "{text}");
    error.kind
}

/// Repeats an append until it is stored, as a recorder does.
async fn store_at_last(store: &PostgresStore, batches: &[Arc<Batch>]) -> Vec<ExchangeId> {
    let began = Instant::now();
    loop {
        match store.append(batches.to_vec()).await {
            Ok(ids) => return ids,
            Err(why) => {
                assert!(began.elapsed() < DEADLINE, "{why}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Asserts that the record has each exchange of these servers once: the texts are numbers from 1 on.
fn assert_complete(database: &Database, servers: u32, each: u32) {
    let all = format!("{}|{}", servers * each, servers * each);
    assert_eq!(
        database.psql(
            "SELECT count(*), count(DISTINCT (conversation, convert_from(req, 'UTF8'))) FROM echoic.run"
        ),
        all,
        "each once"
    );
    assert_eq!(
        database.psql("SELECT min(id), max(id), count(DISTINCT id) FROM echoic.run"),
        format!("1|{0}|{0}", servers * each),
        "ids have no gap"
    );
    assert_eq!(
        database.psql("SELECT exchanges, last_exchange FROM echoic.state"),
        all
    );
    let in_order = "SELECT count(*) FROM echoic.run AS a JOIN echoic.run AS b USING (conversation)
        WHERE a.n < b.n AND a.id > b.id";
    assert_eq!(
        database.psql(in_order),
        "0",
        "ids are in the order of commits"
    );
}

#[test]
fn appended_events_are_rows_for_people() {
    let Some(database) = database() else { return };
    let store = open(&database);
    let mut scenario = everything();
    let ids = wait(store.append(scenario.take())).unwrap();
    assert_eq!(ids, [1]);
    let last = Last {
        exchange: scenario.last_id,
        conversation: 3,
    };
    assert_eq!(wait(store.last()).unwrap(), last);
    let shown = database.psql(
        "SELECT id, conv, n, ep, svc, role, outcome, encode(req, 'escape'), encode(rep, 'escape')
        FROM echoic.exchange ORDER BY id",
    );
    // Line breaks are within the columns.
    let shown: Vec<String> = shown
        .replace("\n|", "|")
        .replace("\n\n", "\n")
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(shown.len(), scenario.exchanges.len(), "{shown:#?}");
    assert_eq!(
        shown[0],
        "1|2|1|tcp:12345|upper|server|ok||Thank you for connecting"
    );
    assert_eq!(shown[1], "2|1|1|tcp:5000|upper|server|ok|one|ONE");
    assert_eq!(
        shown[5],
        "6|1|5|tcp:5000|upper|server|ok|needle four|NEEDLE FOUR"
    );
    for (line, seen) in shown.iter().zip(&scenario.exchanges) {
        assert!(
            line.contains(&format!("|{}|", seen.outcome.word())),
            "{line}"
        );
    }
    let conversations = "SELECT id, ended IS NULL, reason, exchanges, first_run, last_run FROM echoic.conversation ORDER BY id";
    assert_eq!(
        database.psql(conversations).lines().collect::<Vec<_>>(),
        [
            "1|t||0|1|",
            "2|f|service-closed|1|1|6",
            "3|f|peer-reset|9|7|17"
        ]
    );
    wait(store.close()).unwrap();
    // Closing writes the counts of what is open.
    assert_eq!(
        database.psql("SELECT exchanges FROM echoic.conversation WHERE id = 1"),
        "8"
    );
    let closed = wait(store.append(scenario.take())).unwrap_err();
    assert_eq!(closed.kind, StoreErrorKind::Closed);
    assert!(
        wait(store.close()).is_ok(),
        "a second close returns the same"
    );
}

#[test]
fn batch_is_stored_once_also_by_another_connection() {
    let Some(database) = database() else { return };
    let (one, other) = (open(&database), open(&database));
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.lines(1, &["once", "only"], 2);
    let batch = scenario.take();
    assert_eq!(wait(one.append(batch.clone())).unwrap(), [1]);
    assert_eq!(wait(one.append(batch.clone())).unwrap(), [1]);
    assert_eq!(wait(other.append(batch.clone())).unwrap(), [1]);
    scenario.lines(1, &["next"], 1);
    let next = scenario.take();
    let both = vec![
        Arc::clone(&batch[0]),
        Arc::clone(&next[0]),
        Arc::clone(&next[0]),
    ];
    assert_eq!(wait(other.append(both)).unwrap(), [1, 3, 3]);
    assert_eq!(database.psql("SELECT sum(count) FROM echoic.run"), "3");
    assert_eq!(database.psql("SELECT count(*) FROM echoic.batch"), "2");
}

/// Keepers write the batches of one server in turn, each with a connection that counts.
#[test]
fn several_writers_of_one_server_count_each_exchange_once() {
    let Some(database) = database() else { return };
    let stores = [open(&database), open(&database)];
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.open(2);
    for round in 0..6 {
        scenario.lines(1, &["a", "b"], 2);
        scenario.lines(2, &["c"], 1);
        wait(stores[[0, 1, 1, 0, 1, 0][round]].append(scenario.take())).unwrap();
    }
    scenario.end(1, CloseReason::PeerClosed, 0);
    wait(stores[1].append(scenario.take())).unwrap();
    scenario.lines(2, &["d"], 1);
    wait(stores[0].append(scenario.take())).unwrap();
    // Each writes what it has counted of the conversation that is still open.
    for store in &stores {
        wait(store.close()).unwrap();
    }
    let counts = "SELECT id, exchanges, (SELECT sum(count) FROM echoic.run WHERE conversation = conversation.id)
        FROM echoic.conversation ORDER BY id";
    assert_eq!(database.psql(counts), "1|12|12\n2|7|7");
    assert_eq!(
        database.psql("SELECT received FROM echoic.conversation WHERE id = 2"),
        "14"
    );
}

#[test]
fn conversation_ids_are_reserved_once() {
    let Some(database) = database() else { return };
    let stores = [open(&database), open(&database)];
    let mut ids = Vec::new();
    for round in 0..10 {
        let store = &stores[round % 2];
        let first = wait(store.reserve_conversations(100)).unwrap();
        ids.extend(first..first + 100);
    }
    assert_eq!(ids, (1..=1_000).collect::<Vec<_>>());
    let mut scenario = Scenario::after(0);
    scenario.open(5_000);
    wait(stores[0].append(scenario.take())).unwrap();
    assert_eq!(wait(stores[1].reserve_conversations(1)).unwrap(), 5_001);
}

/// Appends `each` exchanges to a conversation of its own, one a batch.
async fn record(store: &PostgresStore, conversation: u64, each: u32) {
    let mut scenario = Scenario::after(0);
    scenario.open(conversation);
    for number in 1..=each {
        let text = number.to_string();
        scenario.exchange(conversation, Outcome::Ok, text.as_bytes(), b"reply");
        store_at_last(store, &scenario.take()).await;
    }
}

/// Runs `disturb` while two servers record, each with its own connection.
fn while_two_record(database: &Database, each: u32, disturb: impl FnOnce()) {
    let stores = [open(database), open(database)];
    std::thread::scope(|scope| {
        for (store, conversation) in stores.iter().zip(1..) {
            scope.spawn(move || wait(record(store, conversation, each)));
        }
        disturb();
    });
    assert_complete(database, 2, each);
}

#[test]
fn two_servers_record_into_one_database() {
    let Some(database) = database() else { return };
    while_two_record(&database, 200, || {});
    let server =
        "SELECT count(*) FROM echoic.server WHERE key IN (SELECT server FROM echoic.conversation)";
    assert_eq!(database.psql(server), "2");
}

#[test]
fn cut_connections_lose_nothing() {
    let Some(database) = database() else { return };
    while_two_record(&database, 400, || {
        for _ in 0..20 {
            database.psql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE application_name = 'echoic' AND datname = current_database()",
            );
            sleep(Duration::from_millis(30));
        }
    });
}

#[test]
fn restart_of_the_database_loses_nothing() {
    let Some(mut server) = server("") else { return };
    let database = server.database();
    while_two_record(&database, 400, || {
        for _ in 0..2 {
            sleep(Duration::from_millis(200));
            server.restart("", || sleep(Duration::from_secs(1)));
        }
    });
}

#[test]
fn suspended_database_loses_nothing() {
    let Some(server) = server("") else { return };
    let database = server.database();
    while_two_record(&database, 400, || {
        sleep(Duration::from_millis(200));
        server.suspend(true);
        sleep(Duration::from_secs(4));
        server.suspend(false);
    });
}

/// A server that is suspended in the middle of an append is taken for one that holds the lock and does not go on.
#[test]
fn stalled_holder_of_the_lock_is_stopped() {
    let Some(database) = database() else { return };
    let store = open(&database);
    let mut holder = Command::new("psql")
        .args(["-X", "-q", &database.url()])
        .args([
            "-c",
            "BEGIN; SELECT pg_advisory_xact_lock(1701013604, 1); SELECT pg_sleep(300)",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1701013604 AND objid = 1 AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let began = Instant::now();
    while database.psql(held) != "1" {
        assert!(began.elapsed() < DEADLINE, "psql takes the lock");
        sleep(Duration::from_millis(20));
    }
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.lines(1, &["after it"], 1);
    let began = Instant::now();
    let ids = wait(store_at_last(&store, &scenario.take()));
    assert_eq!(ids, [1]);
    assert!(began.elapsed() < DEADLINE / 2, "{:?}", began.elapsed());
    assert!(!holder.wait().unwrap().success());
}

#[test]
fn followers_are_told_the_newest_id() {
    let Some(database) = database() else { return };
    let store = open(&database);
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.lines(1, &["one", "two"], 2);
    let batch = scenario.take();
    let told: Vec<String> = wait(async {
        let config: tokio_postgres::Config = database.url().parse().unwrap();
        let (client, mut connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        let (sender, mut told) = tokio::sync::mpsc::channel(16);
        tokio::spawn(async move {
            while let Some(Ok(message)) =
                std::future::poll_fn(|context| connection.poll_message(context)).await
            {
                if let tokio_postgres::AsyncMessage::Notification(notice) = message {
                    let _ = sender.try_send(notice.payload().to_owned());
                }
            }
        });
        client.batch_execute("LISTEN echoic").await.unwrap();
        store.append(batch.clone()).await.unwrap();
        scenario.lines(1, &["three"], 1);
        store.append(scenario.take()).await.unwrap();
        let mut all = Vec::new();
        while all.len() < 2 {
            let next = tokio::time::timeout(DEADLINE, told.recv()).await.unwrap();
            all.extend(next);
        }
        all
    });
    assert_eq!(told, ["2", "3"]);
}

#[test]
fn names_of_old_batches_are_folded_up_to_a_gap() {
    let Some(database) = database() else { return };
    let store = open(&database);
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.lines(1, &["first"], 1);
    let first = scenario.take();
    // Another process has this one, and stores it late.
    scenario.lines(1, &["late"], 1);
    let late = scenario.take();
    let others: Vec<_> = (0..BATCHES_KNOWN + 2_000)
        .flat_map(|_| {
            scenario.half_close(1);
            scenario.take()
        })
        .collect();
    wait(store.append(first.clone())).unwrap();
    wait(store.append(others)).unwrap();
    assert_eq!(database.psql("SELECT last FROM echoic.server"), "1");
    assert_eq!(wait(store.append(late.clone())).unwrap(), [2]);
    assert_eq!(
        wait(store.append(first)).unwrap(),
        [0],
        "its name is folded"
    );
    let more: Vec<_> = (0..2_000)
        .flat_map(|_| {
            scenario.half_close(1);
            scenario.take()
        })
        .collect();
    wait(store.append(more)).unwrap();
    let rows: u64 = database
        .psql("SELECT count(*) FROM echoic.batch")
        .parse()
        .unwrap();
    assert!(rows < BATCHES_KNOWN + 1_500, "{rows} names");
    assert_eq!(wait(store.append(late.clone())).unwrap(), [0]);
    // Those of a server that has long been silent are folded all.
    database.psql("UPDATE echoic.server SET alive = now() - interval '2 days'");
    let retention = Retention {
        age: None,
        bytes: None,
    };
    wait(open(&database).prune(retention, NOON)).unwrap();
    assert_eq!(database.psql("SELECT count(*) FROM echoic.batch"), "0");
    assert_eq!(wait(store.append(late)).unwrap(), [0]);
    assert_eq!(database.psql("SELECT sum(count) FROM echoic.run"), "2");
}

#[test]
fn retention_drops_partitions() {
    let Some(database) = database() else { return };
    let store = open(&database);
    let retention = Retention {
        age: None,
        bytes: Some(4 << 20),
    };
    wait(store.prune(retention, NOON)).unwrap();
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    let line = "x".repeat(900);
    for _ in 0..100 {
        for _ in 0..100 {
            scenario.exchange(1, Outcome::Ok, line.as_bytes(), b"");
        }
        wait(store.append(scenario.take())).unwrap();
    }
    let parts = "SELECT count(*), sum(bytes) <= 4 << 20, sum(bytes) > 3 << 20, count(*) FILTER (WHERE began IS NULL) FROM echoic.part";
    let shown = database.psql(parts);
    assert!(shown.ends_with("|t|t|1"), "{shown}");
    let number: u32 = shown.split('|').next().unwrap().parse().unwrap();
    assert!((12..=18).contains(&number), "{number} partitions");
    let tables = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'echoic.run'::regclass";
    assert_eq!(database.psql(tables), number.to_string());
    // Its own count is near to what the disk has.
    let size = "SELECT sum(pg_total_relation_size(inhrelid)) / (SELECT sum(bytes) FROM echoic.part) BETWEEN 0.8 AND 1.25
        FROM pg_inherits WHERE inhparent = 'echoic.run'::regclass";
    assert_eq!(database.psql(size), "t");
    let counted =
        "SELECT exchanges = (SELECT sum(count) FROM echoic.run), last_exchange FROM echoic.state";
    assert_eq!(database.psql(counted), "t|10000");
}

#[test]
fn conversations_of_a_dead_server_are_ended() {
    let Some(database) = database() else { return };
    let (dead, alive) = (open(&database), open(&database));
    let mut of_dead = Scenario::after(0);
    of_dead.open(1);
    of_dead.lines(1, &["one", "two"], 2);
    wait(dead.append(of_dead.take())).unwrap();
    let mut of_alive = Scenario::after(2);
    of_alive.open(2);
    of_alive.lines(2, &["three"], 1);
    wait(alive.append(of_alive.take())).unwrap();
    // As if they had been silent for long: one has its connection, the other does not.
    drop(dead);
    let connections =
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1701013605
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let began = Instant::now();
    while database.psql(connections) != "1" {
        assert!(began.elapsed() < DEADLINE, "its connection ends");
        sleep(Duration::from_millis(20));
    }
    let recent = open(&database);
    assert_eq!(
        recent.recovered(),
        0,
        "it may only have lost its connection"
    );
    database.psql("UPDATE echoic.server SET alive = now() - interval '1 hour'");
    let next = open(&database);
    assert_eq!(next.recovered(), 1);
    let ends = "SELECT id, reason, exchanges, received, sent, last_run FROM echoic.conversation ORDER BY id";
    assert_eq!(
        database.psql(ends).lines().collect::<Vec<_>>(),
        ["1|process-died|2|8|8|3", "2||0|0|0|"]
    );
    // It was not dead: its next append opens the conversation again, and its end is the true one.
    let returned = open(&database);
    of_dead.lines(1, &["four"], 1);
    of_dead.end(1, CloseReason::PeerClosed, 0);
    wait(returned.append(of_dead.take())).unwrap();
    let end = "SELECT reason, exchanges, received, last_run FROM echoic.conversation WHERE id = 1";
    assert_eq!(database.psql(end), "peer-closed|3|11|4");
}

#[test]
fn failures_to_open_are_told_apart() {
    let Some(database) = database() else { return };
    let write = PostgresMode::Write(Durability::Normal);
    let wrong = database.url_of(trials_postgres::USER, "wrong");
    assert!(matches!(
        refused(&wrong, write),
        StoreErrorKind::Denied { .. }
    ));
    let missing = database.url().replace(&database.name, "no_such_database");
    assert_eq!(refused(&missing, write), StoreErrorKind::Missing);
    assert_eq!(
        refused(&database.url(), PostgresMode::Read),
        StoreErrorKind::NoRecord
    );
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let unreachable = format!("postgres://me@127.0.0.1:{port}/echoic");
    assert!(matches!(
        refused(&unreachable, PostgresMode::Read),
        StoreErrorKind::Unreachable { .. }
    ));
    let unresolved = "postgres://me@no-such-host.invalid/echoic";
    let kind = refused(unresolved, PostgresMode::Read);
    assert!(
        matches!(kind, StoreErrorKind::NotResolved { .. }),
        "{kind:?}"
    );
    // It accepts connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("postgres://me@{}/echoic", silent.local_addr().unwrap());
    assert!(matches!(
        refused(&silent, write),
        StoreErrorKind::TimedOut { .. }
    ));
    let tls = format!("{}?sslmode=require", database.url());
    assert!(matches!(
        refused(&tls, write),
        StoreErrorKind::Unreachable { .. }
    ));
}

#[test]
fn newer_or_foreign_schema_is_left_as_it_is() {
    let (Some(newer), Some(foreign)) = (database(), database()) else {
        return;
    };
    drop(open(&newer));
    newer.psql("INSERT INTO echoic.schema_version (version) VALUES (99)");
    foreign.psql("CREATE SCHEMA echoic; CREATE TABLE echoic.mine (a integer)");
    for mode in [PostgresMode::Write(Durability::Off), PostgresMode::Read] {
        let found = StoreErrorKind::Newer {
            found: 99,
            known: 1,
        };
        assert_eq!(refused(&newer.url(), mode), found);
        assert!(matches!(
            refused(&foreign.url(), mode),
            StoreErrorKind::Foreign { .. }
        ));
    }
    let tables =
        "SELECT string_agg(relname, ',') FROM pg_class WHERE relnamespace = 'echoic'::regnamespace";
    assert_eq!(foreign.psql(tables), "mine");
}

/// The roles of docs/store.md.
#[test]
fn writer_and_reader_need_not_own_the_schema() {
    let Some(database) = database() else { return };
    let write = PostgresMode::Write(Durability::Normal);
    let (writer, reader) = (
        format!("writer_of_{}", database.name),
        format!("reader_of_{}", database.name),
    );
    let roles = format!(
        "CREATE ROLE {writer} LOGIN PASSWORD 'secret'; CREATE ROLE {reader} LOGIN PASSWORD 'secret';"
    );
    database.psql(&roles);
    let url_of = |user: &str| database.url_of(user, "secret");
    assert!(matches!(
        refused(&url_of(&writer), write),
        StoreErrorKind::Forbidden { .. }
    ));
    drop(open(&database));
    assert!(matches!(
        refused(&url_of(&reader), PostgresMode::Read),
        StoreErrorKind::Forbidden { .. }
    ));
    let docs = include_str!("../../../docs/store.md");
    let sql = docs
        .split("```sql\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let grants: Vec<&str> = sql
        .lines()
        .filter(|line| !line.starts_with("CREATE ROLE"))
        .collect();
    database.psql(
        &grants
            .join("\n")
            .replace("echoic_writer", &writer)
            .replace("echoic_reader", &reader),
    );

    let store = PostgresStore::open(&url_of(&writer).parse().unwrap(), write).unwrap();
    let retention = Retention {
        age: None,
        bytes: Some(2 << 20),
    };
    wait(store.prune(retention, NOON)).unwrap();
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    let line = "x".repeat(5_000);
    for _ in 0..20 {
        for _ in 0..40 {
            scenario.exchange(1, Outcome::Ok, line.as_bytes(), b"");
        }
        wait(store.append(scenario.take())).unwrap();
    }
    assert_eq!(
        database.psql("SELECT sum(bytes) <= 2 << 20, min(number) > 1 FROM echoic.part"),
        "t|t",
        "it made and dropped partitions"
    );
    let reading = PostgresStore::open(&url_of(&reader).parse().unwrap(), PostgresMode::Read);
    let reading = reading.unwrap();
    assert_eq!(wait(reading.last()).unwrap().exchange, 800);
    let refused = wait(reading.append(scenario.take())).unwrap_err();
    assert!(matches!(refused.kind, StoreErrorKind::ReadOnly { .. }));
    let writing = PostgresStore::open(&url_of(&reader).parse().unwrap(), write).unwrap();
    let refused = wait(writing.append(scenario.take())).unwrap_err();
    assert!(
        matches!(refused.kind, StoreErrorKind::Forbidden { .. }),
        "{refused}"
    );
}

#[test]
fn certificate_is_verified_if_the_url_asks_for_it() {
    let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let Some(mut server) = server("") else { return };
    server.install("server.crt", &key.cert.pem());
    server.install("server.key", &key.signing_key.serialize_pem());
    server.restart("-c ssl=on", || {});
    let database = server.database();
    let dir = tempfile::TempDir::new().unwrap();
    let root_of = |name: &str, pem: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    };
    let (own, wrong) = (
        root_of("own.pem", key.cert.pem()),
        root_of("other.pem", other.cert.pem()),
    );
    let open = |query: &str| {
        let url = format!("{}?{query}", database.url());
        let store = PostgresStore::open(
            &url.parse().unwrap(),
            PostgresMode::Write(Durability::Normal),
        );
        store.map(|store| {
            let encrypted =
                "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                WHERE application_name = 'echoic' AND datname = current_database()";
            let is_encrypted = database.psql(encrypted) == "t";
            wait(store.close()).unwrap();
            is_encrypted
        })
    };
    assert_eq!(open("sslmode=disable"), Ok(false));
    assert_eq!(open("sslmode=require"), Ok(true));
    assert_eq!(
        open(&format!(
            "sslmode=verify-full&sslrootcert={}",
            own.display()
        )),
        Ok(true)
    );
    let refused = open(&format!(
        "sslmode=verify-full&sslrootcert={}",
        wrong.display()
    ));
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused.kind, StoreErrorKind::Unreachable { .. }),
        "{refused}"
    );
}

/// A keeper ends the conversations of a server elsewhere, and neither it nor another one opens them again before the server records
/// something.
#[test]
fn conversations_that_a_keeper_ended_are_opened_again_by_the_next_batch() {
    let Some(database) = database() else { return };
    let stores = [open(&database), open(&database)];
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    let end = || database.psql("SELECT reason, exchanges FROM echoic.conversation");
    for store in &stores {
        scenario.lines(1, &["a"], 1);
        let batch = scenario.take();
        let server = batch[0].server.id;
        wait(store.append(batch)).unwrap();
        assert_eq!(wait(store.open_servers()).unwrap(), [server]);
        assert_eq!(wait(store.end_server(server)).unwrap(), 1);
        assert_eq!(wait(store.open_servers()).unwrap(), []);
        assert!(end().starts_with("process-died|"), "{}", end());
    }
    assert_eq!(end(), "process-died|2");
    for store in stores.iter().rev() {
        scenario.lines(1, &["b"], 1);
        wait(store.append(scenario.take())).unwrap();
        assert!(end().starts_with('|'), "{}", end());
    }
    scenario.end(1, CloseReason::PeerClosed, 0);
    wait(stores[0].append(scenario.take())).unwrap();
    assert_eq!(end(), "peer-closed|4");
}
