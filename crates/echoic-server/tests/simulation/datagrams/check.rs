//! Checks of the invariants of datagrams against what happened at the server's socket.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use echoic_core::{
    ending::{CloseReason, Ending},
    event::{ConversationId, Outcome},
};
use tokio::time::Instant;

use super::{
    super::{
        check::{Books, Checked, TICK, conserved},
        model::GREETING,
        plan::Serving,
        world::Sum,
    },
    net::{Datagram, Facts},
    plan::{From, PeerPlan, Plan},
    world::{World, from},
};
use crate::common::Stored;

/// The size of the receive buffer and the rule against loops, as documented.
const ROOM: usize = 64 << 10;
const SAME_MAX: u32 = 7;
const WITHIN: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_mins(1);

/// The expected result of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    /// Neither recorded nor answered.
    Ignored,
    /// Recorded with this outcome and no reply.
    Silent(Outcome),
    /// Answered with these bytes, unless the send fails.
    Answered(Vec<u8>),
}

/// Everything recorded of one conversation.
struct Recorded {
    id: ConversationId,
    ending: Option<Ending>,
    exchanges: Vec<Stored>,
}

/// A datagram with its expected result.
type ExpectedExchange = (Datagram, Expected);

pub(super) fn check(world: &World) -> Result<Sum, String> {
    let World {
        plan,
        facts,
        drained,
        status,
        ..
    } = world;
    must!(drained.panicked == 0, "a conversation panicked");
    let late = world.drained_at - world.stopped;
    must!(
        late <= plan.limits.drain_timeout + TICK,
        "stopping took {late:?}"
    );
    let all = world.keeper.inner.exchanges();
    let books = Books {
        served: drained.served,
        status,
        keeping: &plan.keeping,
        store: &world.keeper.inner,
        closed_in_time: world.closed_in_time,
    };
    conserved(&books, &all)?;
    let mut recorded = by_peer(world, all)?;
    let (mut reasons, mut withheld) = (Vec::new(), 0);
    for (i, peer) in plan.peers.iter().enumerate() {
        let address = from(peer.from, i as u8).to_string();
        let Some(theirs) = recorded.remove(&address) else {
            continue; // it had no time to send, or shares the address of one that was checked
        };
        let expected_exchanges = expected(plan, peer, facts, &address);
        let is_withheld = |expected: &Expected| *expected == Expected::Silent(Outcome::Withheld);
        withheld += expected_exchanges
            .iter()
            .filter(|(_, expected)| is_withheld(expected))
            .count() as u64;
        reasons.extend(
            theirs
                .iter()
                .filter_map(|c| Some(c.ending.as_ref()?.reason.word())),
        );
        peer_conversations(world, peer, &address, &expected_exchanges, &theirs)
            .map_err(|what| format!("peer {i}: {what}"))?;
    }
    must!(recorded.is_empty(), "recorded and never received");
    counted(world, withheld)?;
    Ok(Sum {
        steps: world.steps.next(),
        served: drained.served,
        lost: status.lost,
        reasons,
    })
}

/// Checks that the server's counts are right, and that it took everything that had arrived at the stop.
fn counted(world: &World, withheld: u64) -> Checked {
    let (facts, counts) = (&world.facts, world.drained.datagrams);
    let (taken, sent) = (facts.taken.len(), facts.sent.len());
    must!(counts.received == taken as u64, "took {taken}: {counts:?}");
    must!(counts.sent == sent as u64, "sent {sent}: {counts:?}");
    if world.drained.cut > 0 || world.drained_at - world.stopped >= world.plan.limits.drain_timeout
    {
        return Ok(());
    }
    must!(
        counts.dropped == u64::from(facts.dropped),
        "{} were dropped: {counts:?}",
        facts.dropped
    );
    must!(
        taken >= facts.arrived_at_stop,
        "{} had arrived at the stop, {taken} were taken",
        facts.arrived_at_stop
    );
    if world.plan.keeping.ends_well() && world.status.lost == 0 {
        must!(
            counts.withheld == withheld,
            "withheld {withheld}: {counts:?}"
        );
    }
    Ok(())
}

fn by_peer(world: &World, all: Vec<Stored>) -> Result<BTreeMap<String, Vec<Recorded>>, String> {
    let store = &world.keeper.inner;
    let mut conversations: BTreeMap<ConversationId, (String, Recorded)> = BTreeMap::new();
    for (id, caller) in store.callers() {
        let conversation = Recorded {
            id,
            ending: None,
            exchanges: Vec::new(),
        };
        let twice = conversations.insert(id, (caller.to_string(), conversation));
        must!(twice.is_none(), "conversation {id} opened twice");
    }
    let never = |id| format!("conversation {id} never opened");
    for kept in all {
        let id = kept.conversation;
        conversations
            .get_mut(&id)
            .ok_or_else(|| never(id))?
            .1
            .exchanges
            .push(kept);
    }
    for (id, ending) in store.endings() {
        let conversation = &mut conversations.get_mut(&id).ok_or_else(|| never(id))?.1;
        must!(
            conversation.ending.replace(ending).is_none(),
            "{id} ended twice"
        );
    }
    let mut peers: BTreeMap<String, Vec<Recorded>> = BTreeMap::new();
    for (caller, conversation) in conversations.into_values() {
        peers.entry(caller).or_default().push(conversation);
    }
    Ok(peers)
}

/// Returns the expected result of each datagram that the server took from a peer.
fn expected(plan: &Plan, peer: &PeerPlan, facts: &Facts, address: &str) -> Vec<ExpectedExchange> {
    let mut seen = Counted::new();
    let mut silent_until = None;
    let theirs = facts
        .taken
        .iter()
        .filter(|taken| taken.address.to_string() == address);
    let expected_exchanges = theirs.map(|datagram| {
        let (bytes, at) = (&datagram.bytes, datagram.at);
        let answer = reply(plan.serving, bytes);
        let expected = if peer.from == From::Denied {
            Expected::Ignored
        } else if bytes.len() > ROOM {
            Expected::Silent(Outcome::Unanswered)
        } else if peer.from != From::Somewhere || silent_until.is_some_and(|until| until > at) {
            Expected::Silent(Outcome::Withheld)
        } else if answer.is_none() {
            Expected::Silent(Outcome::Ok)
        } else {
            let answer = answer.unwrap_or_default();
            let grew = answer.len() > bytes.len() && !plan.may_amplify;
            if grew {
                Expected::Silent(Outcome::Withheld)
            } else if circles(&mut seen, bytes, at) {
                silent_until = Some(at + SILENCE);
                Expected::Silent(Outcome::Withheld)
            } else {
                Expected::Answered(answer)
            }
        };
        (datagram.clone(), expected)
    });
    expected_exchanges.collect()
}

fn reply(serving: Serving, message: &[u8]) -> Option<Vec<u8>> {
    match serving {
        Serving::Upper => Some(message.to_ascii_uppercase()),
        Serving::Discard => None,
        Serving::Greet => Some(GREETING.to_vec()),
        _ => Some(message.to_vec()),
    }
}

/// Datagrams of one peer, each with the time of the first and the count.
pub(super) type Counted = HashMap<Vec<u8>, (Instant, u32)>;

/// Whether this is a loop: the same datagram more than seven times within a second of the first.
pub(super) fn circles(seen: &mut Counted, bytes: &[u8], at: Instant) -> bool {
    let (since, times) = seen.entry(bytes.to_vec()).or_insert((at, 0));
    if *times == 0 || at - *since >= WITHIN {
        (*since, *times) = (at, 1);
        return false;
    }
    *times += 1;
    let circles = *times > SAME_MAX;
    if circles {
        *times = 0;
    }
    circles
}

/// Checks that the record of a peer's conversations, and the replies to it, are the expected ones.
fn peer_conversations(
    world: &World,
    peer: &PeerPlan,
    address: &str,
    expected_exchanges: &[ExpectedExchange],
    theirs: &[Recorded],
) -> Checked {
    let sent: Vec<&Datagram> = of(&world.facts.sent, address);
    let answers: Vec<&Vec<u8>> = expected_exchanges
        .iter()
        .filter_map(|(_, expected)| match expected {
            Expected::Answered(answer) => Some(answer),
            _ => None,
        })
        .collect();
    let mut left = answers.iter();
    must!(
        sent.iter()
            .all(|sent| left.any(|answer| **answer == sent.bytes)),
        "sent a reply to no request, or out of order"
    );
    let received: usize = expected_exchanges
        .iter()
        .map(|(datagram, _)| datagram.bytes.len())
        .sum();
    let replied: usize = sent.iter().map(|sent| sent.bytes.len()).sum();
    must!(
        world.plan.may_amplify || replied <= received,
        "{replied} bytes for {received}"
    );
    must!(
        peer.from == From::Somewhere || sent.is_empty(),
        "answered a forged address"
    );
    let mut exchanges = theirs
        .iter()
        .flat_map(|conversation| &conversation.exchanges);
    let is_whole = world.plan.keeping.ends_well() && world.status.lost == 0;
    for (datagram, expected) in expected_exchanges
        .iter()
        .filter(|(_, expected)| *expected != Expected::Ignored)
    {
        if !is_whole {
            break;
        }
        let kept = exchanges.next().ok_or("a received one is not recorded")?;
        exchange(kept, &datagram.bytes, expected)?;
    }
    must!(
        !is_whole || exchanges.next().is_none(),
        "recorded and never received"
    );
    if !is_whole {
        let mut taken = expected_exchanges.iter();
        let mut was_received = |kept: &&Stored| {
            taken.any(|(datagram, expected)| exchange(kept, &datagram.bytes, expected).is_ok())
        };
        must!(
            exchanges.all(|kept| was_received(&kept)),
            "recorded and never received, or out of order"
        );
        return Ok(());
    }
    endings(world, peer, expected_exchanges, theirs, &sent)
}

fn of<'a>(all: &'a [Datagram], address: &str) -> Vec<&'a Datagram> {
    let theirs = all
        .iter()
        .filter(|datagram| datagram.address.to_string() == address);
    theirs.collect()
}

/// Checks that an exchange is recorded as it was.
fn exchange(kept: &Stored, request: &[u8], expected: &Expected) -> Checked {
    let n = kept.n;
    must!(
        kept.request == request[..request.len().min(ROOM)],
        "exchange {n}: another request"
    );
    match (expected, kept.outcome) {
        (Expected::Silent(expected), outcome) => {
            must!(
                outcome == *expected && kept.reply.is_empty(),
                "exchange {n}: {outcome:?} and not {expected:?}"
            );
        }
        (Expected::Answered(answer), Outcome::Ok) => {
            must!(kept.reply == *answer, "exchange {n}: another reply");
        }
        (Expected::Answered(_), outcome) => {
            must!(outcome == Outcome::Unsent, "exchange {n}: {outcome:?}");
        }
        (Expected::Ignored, _) => return Err(format!("exchange {n} of a denied peer")),
    }
    Ok(())
}

/// Checks the ending of each conversation: its counts and its close reason.
fn endings(
    world: &World,
    peer: &PeerPlan,
    expected_exchanges: &[ExpectedExchange],
    theirs: &[Recorded],
    sent: &[&Datagram],
) -> Checked {
    let (plan, facts) = (&world.plan, &world.facts);
    let mut expected_exchanges = expected_exchanges.iter();
    let mut sent = sent.iter();
    let mut unsent = 0;
    for (i, conversation) in theirs.iter().enumerate() {
        let ending = conversation
            .ending
            .as_ref()
            .ok_or("its end is not recorded")?;
        let received: Vec<&ExpectedExchange> = match peer.from {
            // No exchange of a denied peer is recorded.
            From::Denied => expected_exchanges.by_ref().collect(),
            _ => expected_exchanges
                .by_ref()
                .take(conversation.exchanges.len())
                .collect(),
        };
        if peer.from == From::Denied {
            must!(
                ending.reason == CloseReason::Denied,
                "not denied: {ending:?}"
            );
            must!(ending.received + ending.sent == 0, "received: {ending:?}");
            continue;
        }
        let all: usize = received
            .iter()
            .map(|(datagram, _)| datagram.bytes.len())
            .sum();
        must!(
            ending.received + ending.discarded == all as u64,
            "took {all}: {ending:?}"
        );
        let produced: usize = conversation
            .exchanges
            .iter()
            .map(|kept| kept.reply.len())
            .sum();
        must!(
            ending.sent + ending.unsent == produced as u64,
            "produced {produced}: {ending:?}"
        );
        let mut upto = 0;
        while upto < ending.sent {
            let datagram = sent.next().ok_or("fewer bytes were sent than recorded")?;
            upto += datagram.bytes.len() as u64;
            if plan.keeping.options.hold_replies {
                let committed = world
                    .keeper
                    .committed_before(conversation.id, datagram.step);
                must!(
                    upto <= committed,
                    "{upto} bytes were sent when {committed} were committed"
                );
            }
        }
        must!(upto == ending.sent, "sent {upto}: {ending:?}");
        unsent += conversation
            .exchanges
            .iter()
            .filter(|kept| kept.outcome == Outcome::Unsent)
            .count();
        let next = theirs
            .get(i + 1)
            .and_then(|_| expected_exchanges.clone().next());
        ending_is_true(world, ending, &received, next.map(|(next, _)| next.at))
            .map_err(|what| format!("{what} ({ending:?})"))?;
    }
    must!(sent.next().is_none(), "sent and not recorded");
    let failed: u64 = facts.failed.values().sum();
    must!(unsent as u64 <= failed, "{unsent} unsent, {failed} failed");
    Ok(())
}

/// Checks that the close reason is the right one. `next` is the time of the peer's next datagram after it.
fn ending_is_true(
    world: &World,
    ending: &Ending,
    received: &[&ExpectedExchange],
    next: Option<Instant>,
) -> Checked {
    let (plan, facts) = (&world.plan, &world.facts);
    let is_calm = plan.keeping.is_calm();
    let Some((last, _)) = received.last() else {
        return Err("a conversation without datagrams".to_owned());
    };
    let over = next.unwrap_or(world.drained_at);
    let holds = plan.keeping.options.hold_replies;
    match ending.reason {
        CloseReason::IdleTimeout => {
            must!(over - last.at + TICK >= plan.gap, "not idle for the gap");
        }
        CloseReason::ServerStopped => must!(
            next.is_none() && ending.unsent == 0,
            "before the stop, or not all sent"
        ),
        CloseReason::ServiceClosed => {
            must!(plan.serving == Serving::Greet, "the service does not close");
        }
        CloseReason::MessageTooLong => must!(last.bytes.len() > ROOM, "none was too long"),
        CloseReason::StoreFailed => {
            must!(
                holds && !plan.keeping.is_patient(),
                "the store did not fail"
            );
        }
        CloseReason::SystemError => must!(facts.failed.values().any(|n| *n > 0), "nothing failed"),
        CloseReason::WriteTimeout => must!(
            facts.full_for + TICK >= plan.limits.write_timeout,
            "full for {:?} at most",
            facts.full_for
        ),
        CloseReason::DrainTimeout => must!(
            world.drained_at + TICK >= world.stopped + plan.limits.drain_timeout,
            "before the deadline"
        ),
        other => return Err(format!("nothing ends as {other:?} here")),
    }
    // After the stop no conversation ends by the idle timeout.
    let received = received
        .iter()
        .filter(|(taken, _)| taken.at <= world.stopped);
    let at: Vec<Instant> = received.map(|(taken, _)| taken.at).collect();
    let mut silences = at.windows(2).map(|two| two[1] - two[0]);
    must!(
        !is_calm || silences.all(|silence| silence <= plan.gap + TICK),
        "idle for longer than the gap"
    );
    Ok(())
}
