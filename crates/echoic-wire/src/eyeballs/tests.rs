//! Tests of the state machine: the scenarios of RFC 8305 as examples, everything else as properties.
//!
//! A [`World`] describes the network: when each family's answer comes, and how each address responds. [`play`] runs the
//! machine in it, with a clock that jumps from one event to the next.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Milliseconds.
type Ms = u64;

#[derive(Clone, Copy, Debug)]
enum Response {
    Connects(Ms),
    Fails(Ms),
    /// No response; the attempt times out after this time.
    Silent(Ms),
}

#[derive(Clone, Debug)]
struct World {
    /// Time and addresses of the answer for each family, IPv6 first.
    answers: [(Ms, Vec<SocketAddr>); 2],
    responses: BTreeMap<SocketAddr, Response>,
}

#[derive(Debug)]
struct Played {
    started: Vec<(Ms, SocketAddr)>,
    failed: Vec<Ms>,
    /// Time of the end, and the winner.
    end: (Ms, Option<SocketAddr>),
    log: Vec<(Duration, Step)>,
}

fn v6(n: u16) -> SocketAddr {
    SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, n], 443))
}

fn v4(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n], 443))
}

fn ms(at: Duration) -> Ms {
    u64::try_from(at.as_millis()).unwrap()
}

fn play(world: &World) -> Played {
    let mut eyeballs = Eyeballs::for_name(Delays::default());
    let mut played = Played {
        started: vec![],
        failed: vec![],
        end: (0, None),
        log: vec![],
    };
    let mut answers: Vec<_> = Family::BOTH.into_iter().zip(&world.answers).collect();
    let mut running: Vec<(Ms, usize, bool)> = vec![];
    let mut now = 0;
    for _ in 0..10_000 {
        let at = Duration::from_millis(now);
        answers.retain(|(family, (when, addrs))| {
            let due = *when <= now;
            if due {
                eyeballs.on_addresses(*family, addrs, at);
            }
            !due
        });
        running.sort_unstable();
        for (_, attempt, connects) in running.extract_if(.., |(when, ..)| *when <= now) {
            if connects {
                eyeballs.on_connected(attempt, at);
            } else {
                played.failed.push(now);
                eyeballs.on_failed(attempt, at);
            }
        }
        let until = match eyeballs.poll(at) {
            Action::Start(attempt, addr) => {
                assert_eq!(attempt, played.started.len(), "attempts are counted from 0");
                played.started.push((now, addr));
                let (after, connects) = match world.responses[&addr] {
                    Connects(after) => (after, true),
                    Fails(after) | Silent(after) => (after, false),
                };
                running.push((now + after, attempt, connects));
                continue;
            }
            Action::Won(attempt) => {
                played.end = (now, Some(played.started[attempt].1));
                played.log = eyeballs.log().to_vec();
                // Later events change nothing.
                for (_, attempt, _) in running {
                    eyeballs.on_connected(attempt, at);
                }
                assert_eq!(eyeballs.poll(at), Action::Won(attempt));
                return played;
            }
            Action::Failed => {
                assert!(
                    running.is_empty() && answers.is_empty(),
                    "the race failed too early"
                );
                played.end = (now, None);
                played.log = eyeballs.log().to_vec();
                return played;
            }
            Action::Wait(until) => until.map(ms),
        };
        let events = running
            .iter()
            .map(|(when, ..)| *when)
            .chain(answers.iter().map(|(_, (when, _))| *when));
        let next = events
            .chain(until)
            .min()
            .expect("an event or a time to wait for");
        assert!(next > now, "the time to wait for has passed");
        now = next;
    }
    panic!("the race does not end: {world:?}");
}

fn world(six: Ms, four: Ms, responses: &[(SocketAddr, Response)]) -> World {
    let of = |family| {
        responses
            .iter()
            .map(|(addr, _)| *addr)
            .filter(|addr| Family::of(*addr) == family)
            .collect()
    };
    World {
        answers: [(six, of(Family::V6)), (four, of(Family::V4))],
        responses: responses.iter().copied().collect(),
    }
}

/// Checks the starts of the attempts, and the end: time and winner.
#[track_caller]
fn check(world: &World, started: &[(Ms, SocketAddr)], end: (Ms, Option<SocketAddr>)) {
    let played = play(world);
    assert_eq!(played.started, started);
    assert_eq!(played.end, end);
}

use Response::{Connects, Fails, Silent};

#[test]
fn ipv6_starts_at_once_if_its_addresses_come_first() {
    let world = world(5, 30, &[(v6(1), Connects(20)), (v4(1), Connects(1))]);
    check(&world, &[(5, v6(1))], (25, Some(v6(1))));
}

#[test]
fn ipv4_waits_at_most_50_ms_for_ipv6_addresses() {
    let responses = [(v6(1), Connects(20)), (v4(1), Connects(20))];
    check(
        &world(40, 10, &responses),
        &[(40, v6(1))],
        (60, Some(v6(1))),
    );
    check(
        &world(90, 10, &responses),
        &[(60, v4(1))],
        (80, Some(v4(1))),
    );
}

#[test]
fn negative_ipv6_answer_ends_the_wait() {
    check(
        &world(12, 10, &[(v4(1), Connects(20))]),
        &[(12, v4(1))],
        (32, Some(v4(1))),
    );
    check(
        &world(3, 10, &[(v4(1), Connects(20))]),
        &[(10, v4(1))],
        (30, Some(v4(1))),
    );
}

#[test]
fn ipv4_wins_within_300_ms_when_ipv6_is_a_black_hole() {
    let world = world(
        2,
        2,
        &[
            (v6(1), Silent(10_000)),
            (v6(2), Silent(10_000)),
            (v4(1), Connects(20)),
        ],
    );
    check(&world, &[(2, v6(1)), (252, v4(1))], (272, Some(v4(1))));
}

#[test]
fn silent_ipv6_resolver_costs_50_ms() {
    let world = world(10_000, 2, &[(v4(1), Connects(20))]);
    check(&world, &[(52, v4(1))], (72, Some(v4(1))));
}

#[test]
fn families_alternate_and_failure_starts_the_next_at_once() {
    let responses = [
        (v6(1), Fails(10)),
        (v6(2), Silent(9_000)),
        (v6(3), Connects(400)),
        (v4(1), Fails(30)),
        (v4(2), Silent(9_000)),
    ];
    let started = [
        (0, v6(1)),
        (10, v4(1)),
        (40, v6(2)),
        (290, v4(2)),
        (540, v6(3)),
    ];
    check(&world(0, 0, &responses), &started, (940, Some(v6(3))));
}

#[test]
fn first_attempt_may_still_win() {
    let responses = [(v6(1), Connects(300)), (v4(1), Connects(100))];
    check(
        &world(0, 0, &responses),
        &[(0, v6(1)), (250, v4(1))],
        (300, Some(v6(1))),
    );
}

#[test]
fn late_ipv6_addresses_take_their_turn() {
    let responses = [
        (v6(1), Connects(5)),
        (v4(1), Silent(9_000)),
        (v4(2), Silent(9_000)),
    ];
    check(
        &world(100, 0, &responses),
        &[(50, v4(1)), (300, v6(1))],
        (305, Some(v6(1))),
    );
}

#[test]
fn addresses_after_all_failed_start_at_once() {
    let world = world(700, 0, &[(v6(1), Connects(5)), (v4(1), Fails(1))]);
    check(&world, &[(50, v4(1)), (700, v6(1))], (705, Some(v6(1))));
}

#[test]
fn race_fails_when_both_families_have_no_address() {
    check(&world(30, 80, &[]), &[], (80, None));
    check(&world(80, 30, &[]), &[], (80, None));
}

#[test]
fn twenty_silent_addresses_start_250_ms_apart() {
    let responses: Vec<_> = (1..=20).map(|n| (v4(n), Silent(1000))).collect();
    let started: Vec<_> = (1..=20)
        .map(|n| (250 * (u64::from(n) - 1), v4(n)))
        .collect();
    check(&world(0, 0, &responses), &started, (19 * 250 + 1000, None));
}

#[test]
fn known_addresses_keep_their_order_without_duplicates() {
    let addrs = [v4(1), v4(2), v4(1), v6(1)];
    let mut eyeballs = Eyeballs::for_addresses(&addrs, Delays::default());
    let mut tried = vec![];
    while let Action::Start(attempt, addr) = eyeballs.poll(Duration::ZERO) {
        tried.push(addr);
        eyeballs.on_failed(attempt, Duration::ZERO);
    }
    assert_eq!(tried, [v4(1), v4(2), v6(1)]);
    assert_eq!(eyeballs.poll(Duration::ZERO), Action::Failed);
}

#[test]
fn attempts_are_at_least_10_ms_apart() {
    let delays = Delays {
        attempt: Duration::ZERO,
        ..Delays::default()
    };
    let mut eyeballs = Eyeballs::for_addresses(&[v4(1), v4(2)], delays);
    assert_eq!(eyeballs.poll(Duration::ZERO), Action::Start(0, v4(1)));
    assert_eq!(
        eyeballs.poll(Duration::ZERO),
        Action::Wait(Some(Delays::ATTEMPT_MIN))
    );
}

#[test]
fn race_log_lists_every_step() {
    let played = play(&world(0, 3, &[(v6(1), Fails(10)), (v4(1), Connects(5))]));
    let log: Vec<_> = played
        .log
        .iter()
        .map(|(at, step)| (ms(*at), *step))
        .collect();
    let expected = [
        (0, Step::Answered(Family::V6, 1)),
        (0, Step::Started(0, v6(1))),
        (3, Step::Answered(Family::V4, 1)),
        (10, Step::Failed(0)),
        (10, Step::Started(1, v4(1))),
        (15, Step::Connected(1)),
    ];
    assert_eq!(log, expected);
}

fn responses() -> impl Strategy<Value = Response> {
    prop_oneof![
        (0_u64..1500).prop_map(Connects),
        (0_u64..600).prop_map(Fails),
        (600_u64..9000).prop_map(Silent),
    ]
}

fn worlds() -> impl Strategy<Value = World> {
    let some = |at: std::ops::Range<Ms>| (at, prop::collection::vec(responses(), 0..6));
    (some(0..400), some(0..400)).prop_map(|((six, sixes), (four, fours))| {
        let sixes = sixes
            .into_iter()
            .zip(1..)
            .map(|(response, n)| (v6(n), response));
        let fours = fours
            .into_iter()
            .zip(1..)
            .map(|(response, n)| (v4(n), response));
        world(six, four, &sixes.chain(fours).collect::<Vec<_>>())
    })
}

/// The starts of the attempts, and the end: time and winner.
type Expected = (Vec<(Ms, SocketAddr)>, (Ms, Option<SocketAddr>));

/// The oracle: computes the race millisecond by millisecond, without the state machine.
fn expected(world: &World) -> Expected {
    let [(six, sixes), (four, fours)] = &world.answers;
    let (mut sixes, mut fours) = (sixes.clone(), fours.clone());
    let mut started: Vec<(Ms, SocketAddr)> = vec![];
    let end = |(at, addr): &(Ms, SocketAddr)| match world.responses[addr] {
        Connects(after) => (at + after, true),
        Fails(after) | Silent(after) => (at + after, false),
    };
    let mut now = 0;
    let mut failed = false;
    loop {
        if let Some(won) = started.iter().find(|attempt| end(attempt) == (now, true)) {
            return (started.clone(), (now, Some(won.1)));
        }
        failed |= started
            .iter()
            .any(|attempt| end(attempt) == (now, false) && attempt.0 < now);
        loop {
            let six_is_there = *six <= now && !sixes.is_empty();
            let four_is_there = *four <= now && !fours.is_empty();
            let may = match started.last() {
                None => *six <= now || *four + 50 <= now,
                Some((at, _)) => failed || at + 250 <= now,
            };
            if !may || !six_is_there && !four_is_there {
                break;
            }
            let after_six = started.last().is_some_and(|(_, last)| last.is_ipv6());
            let from = if six_is_there && !(after_six && four_is_there) {
                &mut sixes
            } else {
                &mut fours
            };
            let attempt = (now, from.remove(0));
            started.push(attempt);
            match end(&attempt) {
                (at, true) if at == now => return (started.clone(), (now, Some(attempt.1))),
                (at, false) => failed = at == now,
                _ => failed = false,
            }
        }
        let ended = started.iter().all(|attempt| end(attempt).0 <= now);
        if now >= *six.max(four) && sixes.is_empty() && fours.is_empty() && ended {
            return (started, (now, None));
        }
        now += 1;
    }
}

proptest! {
    #[test]
    fn any_race_follows_rfc_8305(world in worlds()) {
        let played = play(&world);
        let (started, end) = expected(&world);
        prop_assert_eq!(&played.started, &started);
        prop_assert_eq!(played.end, end);
    }

    #[test]
    fn race_never_repeats_an_address_and_fails_only_if_all_fail(world in worlds()) {
        let played = play(&world);
        let tried: std::collections::BTreeSet<_> = played.started.iter().map(|(_, addr)| *addr).collect();
        prop_assert_eq!(tried.len(), played.started.len());
        for pair in played.started.windows(2) {
            let (before, now) = (pair[0].0, pair[1].0);
            let failed = played.failed.iter().any(|at| (before..=now).contains(at));
            prop_assert!(now >= before + 250 || failed, "{:?}", played);
        }
        match played.end.1 {
            Some(winner) => prop_assert!(matches!(world.responses[&winner], Connects(_))),
            None => {
                prop_assert_eq!(tried.len(), world.responses.len());
                prop_assert!(!world.responses.values().any(|response| matches!(response, Connects(_))));
            }
        }
        let wins = played.log.iter().filter(|(_, step)| matches!(step, Step::Connected(_))).count();
        prop_assert_eq!(wins > 0, played.end.1.is_some());
        prop_assert!(played.log.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    }

    /// Any events in any order, also impossible ones: no panic, no second winner, no address twice.
    #[test]
    fn invalid_event_sequences_break_no_invariant(events in prop::collection::vec((0..5_u8, 0..4_usize, 0..300_u64), 0..60)) {
        let mut eyeballs = Eyeballs::for_name(Delays::default());
        let (mut now, mut won, mut tried) = (Duration::ZERO, None, vec![]);
        for (event, n, later) in events {
            now += Duration::from_millis(later);
            match event {
                0 => eyeballs.on_addresses(Family::V6, &[v6(n as u16), v6(2)], now),
                1 => eyeballs.on_addresses(Family::V4, &[v4(n as u8), v6(1)], now),
                2 => eyeballs.on_connected(n, now),
                3 => eyeballs.on_failed(n, now),
                _ => match eyeballs.poll(now) {
                    Action::Start(_, addr) => {
                        prop_assert!(!tried.contains(&addr) && won.is_none());
                        tried.push(addr);
                    }
                    Action::Won(attempt) => prop_assert_eq!(*won.get_or_insert(attempt), attempt),
                    Action::Wait(Some(until)) => prop_assert!(until > now),
                    Action::Wait(None) | Action::Failed => {}
                },
            }
        }
    }
}
