//! The scenarios of RFC 8305 as tables, and whatever else may happen as properties.
//!
//! A [`World`] is everything outside: when each family's answer comes, and what becomes of each address. [`play`] lets
//! the machine live in it, with a clock that jumps from one event to the next.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Milliseconds.
type Ms = u64;

#[derive(Clone, Copy, Debug)]
enum Response {
    Connects(Ms),
    Fails(Ms),
    /// Neither, until its caller has waited so long.
    Silent(Ms),
}

#[derive(Clone, Debug)]
struct World {
    /// When the answer for each family comes, IPv6 first, with its addresses.
    answers: [(Ms, Vec<SocketAddr>); 2],
    responses: BTreeMap<SocketAddr, Response>,
}

#[derive(Debug)]
struct Played {
    started: Vec<(Ms, SocketAddr)>,
    failed: Vec<Ms>,
    /// When it ended, and who won.
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
    let mut eyes = Eyeballs::for_name(Delays::default());
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
                eyes.on_addresses(*family, addrs, at);
            }
            !due
        });
        running.sort_unstable();
        for (_, attempt, connects) in running.extract_if(.., |(when, ..)| *when <= now) {
            if connects {
                eyes.on_connected(attempt, at);
            } else {
                played.failed.push(now);
                eyes.on_failed(attempt, at);
            }
        }
        let until = match eyes.poll(at) {
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
                played.log = eyes.log().to_vec();
                // Whatever comes later changes nothing.
                for (_, attempt, _) in running {
                    eyes.on_connected(attempt, at);
                }
                assert_eq!(eyes.poll(at), Action::Won(attempt));
                return played;
            }
            Action::Failed => {
                assert!(
                    running.is_empty() && answers.is_empty(),
                    "it gave up too early"
                );
                played.end = (now, None);
                played.log = eyes.log().to_vec();
                return played;
            }
            Action::Wait(until) => until.map(ms),
        };
        let events = running
            .iter()
            .map(|(when, ..)| *when)
            .chain(answers.iter().map(|(_, (when, _))| *when));
        let next = events.chain(until).min().expect("it waits for something");
        assert!(next > now, "it waits for what has been");
        now = next;
    }
    panic!("it does not end: {world:?}");
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

/// Who is called when, and who wins when.
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
    let mut eyes = Eyeballs::for_addresses(&addrs, Delays::default());
    let mut called = vec![];
    while let Action::Start(attempt, addr) = eyes.poll(Duration::ZERO) {
        called.push(addr);
        eyes.on_failed(attempt, Duration::ZERO);
    }
    assert_eq!(called, [v4(1), v4(2), v6(1)]);
    assert_eq!(eyes.poll(Duration::ZERO), Action::Failed);
}

#[test]
fn attempts_are_at_least_10_ms_apart() {
    let delays = Delays {
        attempt: Duration::ZERO,
        ..Delays::default()
    };
    let mut eyes = Eyeballs::for_addresses(&[v4(1), v4(2)], delays);
    assert_eq!(eyes.poll(Duration::ZERO), Action::Start(0, v4(1)));
    assert_eq!(
        eyes.poll(Duration::ZERO),
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
    let told = [
        (0, Step::Answered(Family::V6, 1)),
        (0, Step::Started(0, v6(1))),
        (3, Step::Answered(Family::V4, 1)),
        (10, Step::Failed(0)),
        (10, Step::Started(1, v4(1))),
        (15, Step::Connected(1)),
    ];
    assert_eq!(log, told);
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

/// Who is called when, and when it ends with whom as winner.
type Expected = (Vec<(Ms, SocketAddr)>, (Ms, Option<SocketAddr>));

/// What must come out, worked out the long way: millisecond by millisecond, without the machine.
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
        if let Some(won) = started.iter().find(|call| end(call) == (now, true)) {
            return (started.clone(), (now, Some(won.1)));
        }
        failed |= started
            .iter()
            .any(|call| end(call) == (now, false) && call.0 < now);
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
            let call = (now, from.remove(0));
            started.push(call);
            match end(&call) {
                (at, true) if at == now => return (started.clone(), (now, Some(call.1))),
                (at, false) => failed = at == now,
                _ => failed = false,
            }
        }
        let ended = started.iter().all(|call| end(call).0 <= now);
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
        let called: std::collections::BTreeSet<_> = played.started.iter().map(|(_, addr)| *addr).collect();
        prop_assert_eq!(called.len(), played.started.len());
        for pair in played.started.windows(2) {
            let (before, now) = (pair[0].0, pair[1].0);
            let failed = played.failed.iter().any(|at| (before..=now).contains(at));
            prop_assert!(now >= before + 250 || failed, "{:?}", played);
        }
        match played.end.1 {
            Some(winner) => prop_assert!(matches!(world.responses[&winner], Connects(_))),
            None => {
                prop_assert_eq!(called.len(), world.responses.len());
                prop_assert!(!world.responses.values().any(|response| matches!(response, Connects(_))));
            }
        }
        let wins = played.log.iter().filter(|(_, step)| matches!(step, Step::Connected(_))).count();
        prop_assert_eq!(wins > 0, played.end.1.is_some());
        prop_assert!(played.log.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    }

    /// Whatever is told, in whatever order, also nonsense: no panic, no second winner, no address twice.
    #[test]
    fn invalid_event_sequences_break_no_invariant(told in prop::collection::vec((0..5_u8, 0..4_usize, 0..300_u64), 0..60)) {
        let mut eyes = Eyeballs::for_name(Delays::default());
        let (mut now, mut won, mut called) = (Duration::ZERO, None, vec![]);
        for (what, n, later) in told {
            now += Duration::from_millis(later);
            match what {
                0 => eyes.on_addresses(Family::V6, &[v6(n as u16), v6(2)], now),
                1 => eyes.on_addresses(Family::V4, &[v4(n as u8), v6(1)], now),
                2 => eyes.on_connected(n, now),
                3 => eyes.on_failed(n, now),
                _ => match eyes.poll(now) {
                    Action::Start(_, addr) => {
                        prop_assert!(!called.contains(&addr) && won.is_none());
                        called.push(addr);
                    }
                    Action::Won(attempt) => prop_assert_eq!(*won.get_or_insert(attempt), attempt),
                    Action::Wait(Some(until)) => prop_assert!(until > now),
                    Action::Wait(None) | Action::Failed => {}
                },
            }
        }
    }
}
