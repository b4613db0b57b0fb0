//! What is in the database, against what callers have seen.

use std::{
    collections::HashMap,
    thread,
    time::{Duration, Instant},
};

use trials_postgres::Database;

use super::{
    caller::{Called, Ended, line},
    harness::{WRITTEN, until_equal},
    tiers::Tiers,
};

/// An exchange as the database has it.
#[derive(Debug)]
struct Recorded {
    conversation: String,
    n: usize,
    request: String,
    reply: String,
}

/// Waits until all that callers have seen is written, after this many exchanges, and the stream has no more.
#[track_caller]
pub(super) fn wait_for_record(tiers: &Tiers, before: u64, callers: &[Called]) {
    let in_order = || callers.iter().filter(|one| one.ended == Ended::InOrder);
    let served: usize = in_order().map(|one| one.received).sum();
    let names: Vec<&str> = in_order().map(|one| one.name.as_str()).collect();
    // Not of the others: of those an unknown number is recorded.
    let of_these = format!(
        "SELECT count(*) FROM echoic.exchange WHERE id > {before}
            AND split_part(encode(req, 'escape'), '-', 1) = ANY('{{{}}}')",
        names.join(",")
    );
    let deadline = Instant::now() + WRITTEN;
    loop {
        let recorded: u64 = tiers.database.psql(&of_these).parse().unwrap();
        if recorded >= served as u64 && tiers.nats[0].is_written("record") {
            return;
        }
        if Instant::now() > deadline {
            let lanes = tiers.nats[0].lanes("record");
            let keepers: Vec<_> = tiers.keepers.iter().map(|one| one.err.so_far()).collect();
            panic!("{recorded} of {served} are written; {lanes:#?} {keepers:#?}");
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Asserts that the record has every exchange of these callers exactly once after this one, in order and right, and that
/// conversations have the right counts and close reasons. `name` begins the names of all of them.
#[track_caller]
pub(super) fn assert_recorded(tiers: &Tiers, name: &str, before: u64, callers: &[Called]) {
    let sql = format!(
        "SELECT conv, n, replace(encode(req, 'escape'), E'\\n', ''), replace(encode(rep, 'escape'), E'\\n', ''), id
        FROM echoic.exchange WHERE id > {before} ORDER BY id"
    );
    let rows = tiers.database.psql(&sql);
    let mut of_callers: HashMap<String, Vec<Recorded>> = HashMap::new();
    for (row, id) in rows.lines().zip(before + 1..) {
        let columns: Vec<&str> = row.split('|').collect();
        let recorded = Recorded {
            conversation: columns[0].to_owned(),
            n: columns[1].parse().unwrap(),
            request: columns[2].to_owned() + "\n",
            reply: columns[3].to_owned() + "\n",
        };
        assert_eq!(columns[4], id.to_string(), "ids without a gap: {row}");
        let (caller, _) = recorded.request.split_once('-').unwrap();
        of_callers
            .entry(caller.to_owned())
            .or_default()
            .push(recorded);
    }
    let mut ends = HashMap::new();
    for caller in callers {
        let mut exchanges = of_callers.remove(&caller.name).unwrap_or_default();
        exchanges.sort_by_key(|exchange| exchange.n);
        assert_conversation(caller, &exchanges);
        if caller.ended == Ended::InOrder {
            let end = format!("{}|peer-closed", caller.received);
            ends.insert(exchanges[0].conversation.clone(), end);
        }
    }
    assert!(
        of_callers.is_empty(),
        "not of {name}: {:?}",
        of_callers.keys()
    );
    let ids: Vec<&str> = ends.keys().map(String::as_str).collect();
    let sql = format!(
        "SELECT id, exchanges, reason FROM echoic.conversation WHERE id IN ({})",
        ids.join(", ")
    );
    // An end comes after the last exchange.
    until_equal(WRITTEN, "exchanges, and why it ended", &ends, || {
        let found = tiers.database.psql(&sql);
        let found = found.lines().map(|line| line.split_once('|').unwrap());
        let found = found.map(|(id, end)| (id.to_owned(), end.to_owned()));
        found.collect::<HashMap<_, _>>()
    });
}

#[track_caller]
fn assert_conversation(caller: &Called, exchanges: &[Recorded]) {
    let Called {
        name,
        sent,
        received,
        ended,
    } = caller;
    for (at, exchange) in exchanges.iter().enumerate() {
        let asked = line(name, at);
        let place = (exchange.n, exchange.conversation.as_str());
        assert_eq!(exchange.request, asked, "{name}: {exchange:?}");
        assert_eq!(
            place,
            (at + 1, exchanges[0].conversation.as_str()),
            "{name}"
        );
        if at < *received {
            assert_eq!(exchange.reply, asked.to_uppercase(), "{name}: {exchange:?}");
        }
    }
    if *ended == Ended::InOrder {
        assert_eq!((exchanges.len(), *sent), (*received, *received), "{name}");
        return;
    }
    // Its server was killed. With strict durability a reply has left only if its exchange could not be lost any more.
    let is_strict = name.contains("s0");
    let least = if is_strict { *received } else { 0 };
    let recorded = exchanges.len();
    assert!(
        (least..=*sent).contains(&recorded),
        "{caller:?}: {recorded} are recorded"
    );
}

/// Number of exchanges in the database, of the servers whose names end with this.
pub(super) fn exchanges_of(database: &Database, name: &str) -> u64 {
    let sql = if name.is_empty() {
        "SELECT exchanges FROM echoic.state".to_owned()
    } else {
        format!(
            "SELECT coalesce(sum(run.count), 0) FROM echoic.run
                JOIN echoic.conversation ON conversation.id = run.conversation
                JOIN echoic.server ON server.key = conversation.server WHERE server.name LIKE '%{name}'"
        )
    };
    database.psql(&sql).parse().unwrap()
}
