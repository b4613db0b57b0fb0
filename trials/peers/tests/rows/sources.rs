//! Row 18: one source that opens more than its share of connections.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
};

use trials_peers::{
    Serve,
    namespace::alone,
    peer::{Seen, ask, call_from, finish, rest},
};
use trials_report::{Row, Scale};

const GREEDY: Ipv4Addr = Ipv4Addr::new(127, 200, 0, 1);

/// How many of its connections are served, and how many are closed in order.
fn call_from_one_source(serve: &Serve, count: usize) -> (usize, usize) {
    let mut peers: Vec<TcpStream> = (0..count)
        .map(|_| call_from(GREEDY, serve.at[0]).unwrap())
        .collect();
    let (mut served, mut refused) = (0, 0);
    for peer in &mut peers {
        peer.write_all(b"hello\n").unwrap();
        let mut received = [0; 6];
        match peer.read(&mut received) {
            Ok(0) => refused += 1,
            Ok(6) if &received == b"HELLO\n" => served += 1,
            other => panic!("{other:?}"),
        }
    }
    (served, refused)
}

#[test]
fn one_source_gets_no_more_than_its_share() {
    alone("sources::one_source_gets_no_more_than_its_share", trial);
}

fn trial() {
    let scale = Scale::asked();
    let (others, held) = scale.pick((2_000, 500), (20_000, 5_000));
    let limited = ["upper=:0", "--frame", "line", "--source-connections", "5"];
    let serve = Serve::start(&limited);
    let mut there: Vec<TcpStream> = Vec::new();
    let mut right = 0;
    for i in 0..others {
        let [.., a, b] = u32::to_be_bytes(i);
        let mut peer =
            call_from(Ipv4Addr::new(127, 1 + (i >> 16) as u8, a, b), serve.at[0]).unwrap();
        right += u32::from(ask(&mut peer, b"hello\n", b"HELLO\n").is_ok());
        // Some remain, each from an address of its own.
        if there.len() < held {
            there.push(peer);
        }
    }
    let (served, refused) = call_from_one_source(&serve, 12);
    let still = there
        .iter_mut()
        .filter_map(|peer| ask(peer, b"again\n", b"AGAIN\n").ok())
        .count();
    let recorded = serve.ended("too-many-from-source", 7);
    drop(there);

    let paced = Serve::start(&["upper=:0", "--frame", "line", "--source-messages", "100"]);
    let mut peer = call_from(GREEDY, paced.at[0]).unwrap();
    peer.write_all("hello\n".repeat(250).as_bytes()).unwrap();
    finish(&peer);
    let (received, seen) = rest(&mut peer);
    let answered = received.len() / 6;
    let too_fast = paced.ended("rate-limited", 1);

    let unlimited = Serve::start(&["upper=:0", "--frame", "line"]);
    let (all, _) = call_from_one_source(&unlimited, 12);
    Row {
        row: 18,
        hazard: "one source that takes more than its share".into(),
        load: format!(
            "12 connections from one address with `--source-connections 5`, beside {others} from as many addresses; 250 \
             messages at once with `--source-messages 100`"
        ),
        observed: format!(
            "{served} served, {refused} ended in order, {recorded} recorded as `too-many-from-source`; {right} of {others} others \
             answered, {still} of {held} again afterwards; {answered} messages answered and then {seen:?}, {too_fast} recorded as \
             `rate-limited`"
        ),
        limit: "exactly 5; no other source affected; 100, and one more for the time that passes".into(),
        control: format!("without the options {all} of 12 are served"),
        pass: (served, refused, recorded) == (5, 7, 7)
            && right == others
            && still == held
            && (100..=101).contains(&answered)
            && seen == Seen::End
            && too_fast == 1
            && all == 12,
        scale,
    }
    .hold();
}
