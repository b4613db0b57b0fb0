//! What must hold in every world of datagrams, held against what truly happened at the server's socket.

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

/// The room that a datagram is read into, and the rule against circles, as the product states them.
const ROOM: usize = 64 << 10;
const SAME_MAX: u32 = 7;
const WITHIN: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_mins(1);

/// What is to become of a datagram, said as simply as can be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    /// Nobody listens.
    Unheard,
    /// Recorded with this outcome and no reply.
    Silent(Outcome),
    /// Answered so, unless the system would not send it.
    Answered(Vec<u8>),
}

/// Everything the record has of one conversation.
struct Recorded {
    id: ConversationId,
    ending: Option<Ending>,
    exchanges: Vec<Stored>,
}

/// A datagram with what is to become of it.
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
    let (mut hows, mut withheld) = (Vec::new(), 0);
    for (i, peer) in plan.peers.iter().enumerate() {
        let address = from(peer.from, i as u8).to_string();
        let Some(theirs) = recorded.remove(&address) else {
            continue; // it had no time to send, or shares an address with one that was looked at
        };
        let fated = expected(plan, peer, facts, &address);
        let is_withheld = |expected: &Expected| *expected == Expected::Silent(Outcome::Withheld);
        withheld += fated
            .iter()
            .filter(|(_, expected)| is_withheld(expected))
            .count() as u64;
        hows.extend(
            theirs
                .iter()
                .filter_map(|c| Some(c.ending.as_ref()?.reason.word())),
        );
        talk(world, peer, &address, &fated, &theirs).map_err(|what| format!("peer {i}: {what}"))?;
    }
    must!(recorded.is_empty(), "recorded and never heard");
    counted(world, withheld)?;
    Ok(Sum {
        steps: world.steps.next(),
        served: drained.served,
        lost: status.lost,
        hows,
    })
}

/// What the server counts is what happened, and at the stop it has taken all that had arrived.
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
    let mut talks: BTreeMap<ConversationId, (String, Recorded)> = BTreeMap::new();
    for (id, caller) in store.callers() {
        let talk = Recorded {
            id,
            ending: None,
            exchanges: Vec::new(),
        };
        let twice = talks.insert(id, (caller.to_string(), talk));
        must!(twice.is_none(), "conversation {id} opened twice");
    }
    let never = |id| format!("conversation {id} never opened");
    for kept in all {
        let id = kept.conversation;
        talks
            .get_mut(&id)
            .ok_or_else(|| never(id))?
            .1
            .exchanges
            .push(kept);
    }
    for (id, ending) in store.endings() {
        let talk = &mut talks.get_mut(&id).ok_or_else(|| never(id))?.1;
        must!(talk.ending.replace(ending).is_none(), "{id} ended twice");
    }
    let mut peers: BTreeMap<String, Vec<Recorded>> = BTreeMap::new();
    for (caller, talk) in talks.into_values() {
        peers.entry(caller).or_default().push(talk);
    }
    Ok(peers)
}

/// What is to become of each datagram that the server took of a peer.
fn expected(plan: &Plan, peer: &PeerPlan, facts: &Facts, address: &str) -> Vec<ExpectedExchange> {
    let mut seen = Counted::new();
    let mut silent_until = None;
    let theirs = facts
        .taken
        .iter()
        .filter(|taken| taken.address.to_string() == address);
    let fated = theirs.map(|datagram| {
        let (bytes, at) = (&datagram.bytes, datagram.at);
        let answer = reply(plan.serving, bytes);
        let expected = if peer.from == From::Denied {
            Expected::Unheard
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
    fated.collect()
}

fn reply(serving: Serving, message: &[u8]) -> Option<Vec<u8>> {
    match serving {
        Serving::Upper => Some(message.to_ascii_uppercase()),
        Serving::Discard => None,
        Serving::Greet => Some(GREETING.to_vec()),
        _ => Some(message.to_vec()),
    }
}

/// Datagrams of one peer: since when, and how often.
pub(super) type Counted = HashMap<Vec<u8>, (Instant, u32)>;

/// The same again and again: more than seven times in a second from the first on.
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

/// What is recorded of a peer's conversations, and what was sent to it, is what was to become of what it sent.
fn talk(
    world: &World,
    peer: &PeerPlan,
    address: &str,
    fated: &[ExpectedExchange],
    theirs: &[Recorded],
) -> Checked {
    let sent: Vec<&Datagram> = of(&world.facts.sent, address);
    let answers: Vec<&Vec<u8>> = fated
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
        "sent what answers nothing, or out of order"
    );
    let heard: usize = fated.iter().map(|(datagram, _)| datagram.bytes.len()).sum();
    let said: usize = sent.iter().map(|sent| sent.bytes.len()).sum();
    must!(
        world.plan.may_amplify || said <= heard,
        "{said} bytes for {heard}"
    );
    must!(
        peer.from == From::Somewhere || sent.is_empty(),
        "answered where nobody asks"
    );
    let mut exchanges = theirs.iter().flat_map(|talk| &talk.exchanges);
    let is_whole = world.plan.keeping.ends_well() && world.status.lost == 0;
    for (datagram, expected) in fated
        .iter()
        .filter(|(_, expected)| *expected != Expected::Unheard)
    {
        if !is_whole {
            break;
        }
        let kept = exchanges
            .next()
            .ok_or("one that was heard is not recorded")?;
        exchange(kept, &datagram.bytes, expected)?;
    }
    must!(
        !is_whole || exchanges.next().is_none(),
        "recorded and never heard"
    );
    if !is_whole {
        let mut taken = fated.iter();
        let mut was_heard = |kept: &&Stored| {
            taken.any(|(datagram, expected)| exchange(kept, &datagram.bytes, expected).is_ok())
        };
        must!(
            exchanges.all(|kept| was_heard(&kept)),
            "recorded and never heard, or out of order"
        );
        return Ok(());
    }
    endings(world, peer, fated, theirs, &sent)
}

fn of<'a>(all: &'a [Datagram], address: &str) -> Vec<&'a Datagram> {
    let theirs = all
        .iter()
        .filter(|datagram| datagram.address.to_string() == address);
    theirs.collect()
}

/// An exchange is recorded as it was.
fn exchange(kept: &Stored, heard: &[u8], expected: &Expected) -> Checked {
    let n = kept.n;
    must!(
        kept.request == heard[..heard.len().min(ROOM)],
        "exchange {n}: heard another"
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
        (Expected::Unheard, _) => return Err(format!("exchange {n} of one that may not call")),
    }
    Ok(())
}

/// Each conversation ended as it says, with what went through it.
fn endings(
    world: &World,
    peer: &PeerPlan,
    fated: &[ExpectedExchange],
    theirs: &[Recorded],
    sent: &[&Datagram],
) -> Checked {
    let (plan, facts) = (&world.plan, &world.facts);
    let mut fated = fated.iter();
    let mut sent = sent.iter();
    let mut unsent = 0;
    for (i, talk) in theirs.iter().enumerate() {
        let ending = talk.ending.as_ref().ok_or("its end is not recorded")?;
        let heard: Vec<&ExpectedExchange> = match peer.from {
            // Nothing of them is recorded, and nothing but their bytes says what belongs together.
            From::Denied => fated.by_ref().collect(),
            _ => fated.by_ref().take(talk.exchanges.len()).collect(),
        };
        if peer.from == From::Denied {
            must!(ending.reason == CloseReason::Denied, "let in: {ending:?}");
            must!(ending.received + ending.sent == 0, "heard: {ending:?}");
            continue;
        }
        let all: usize = heard.iter().map(|(datagram, _)| datagram.bytes.len()).sum();
        must!(
            ending.received + ending.discarded == all as u64,
            "took {all}: {ending:?}"
        );
        let said: usize = talk.exchanges.iter().map(|kept| kept.reply.len()).sum();
        must!(
            ending.sent + ending.unsent == said as u64,
            "said {said}: {ending:?}"
        );
        let mut upto = 0;
        while upto < ending.sent {
            let datagram = sent.next().ok_or("not all that it tells was sent")?;
            upto += datagram.bytes.len() as u64;
            if plan.keeping.options.hold_replies {
                let kept = world.keeper.kept_before(talk.id, datagram.step);
                must!(upto <= kept, "{upto} bytes had left when {kept} were kept");
            }
        }
        must!(upto == ending.sent, "sent {upto}: {ending:?}");
        unsent += talk
            .exchanges
            .iter()
            .filter(|kept| kept.outcome == Outcome::Unsent)
            .count();
        let next = theirs.get(i + 1).and_then(|_| fated.clone().next());
        told_truly(world, ending, &heard, next.map(|(next, _)| next.at))
            .map_err(|what| format!("{what} ({ending:?})"))?;
    }
    must!(sent.next().is_none(), "sent and not told of");
    let failed: u64 = facts.failed.values().sum();
    must!(unsent as u64 <= failed, "{unsent} unsent, {failed} failed");
    Ok(())
}

/// The ending is the true one. `next` is when its peer was heard again.
fn told_truly(
    world: &World,
    ending: &Ending,
    heard: &[&ExpectedExchange],
    next: Option<Instant>,
) -> Checked {
    let (plan, facts) = (&world.plan, &world.facts);
    let is_calm = plan.keeping.is_calm();
    let Some((last, _)) = heard.last() else {
        return Err("a conversation of nothing".to_owned());
    };
    let over = next.unwrap_or(world.drained_at);
    let holds = plan.keeping.options.hold_replies;
    match ending.reason {
        CloseReason::IdleTimeout => {
            must!(over - last.at + TICK >= plan.gap, "not silent for so long");
        }
        CloseReason::ServerStopped => must!(
            next.is_none() && ending.unsent == 0,
            "before the stop, or not all sent"
        ),
        CloseReason::ServiceClosed => must!(plan.serving == Serving::Greet, "it says no last word"),
        CloseReason::MessageTooLong => must!(last.bytes.len() > ROOM, "none was too long"),
        CloseReason::StoreFailed => {
            must!(holds && !plan.keeping.is_patient(), "the store was well");
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
    // Once told to stop, it ends nobody for having been silent.
    let heard = heard.iter().filter(|(taken, _)| taken.at <= world.stopped);
    let at: Vec<Instant> = heard.map(|(taken, _)| taken.at).collect();
    let mut silences = at.windows(2).map(|two| two[1] - two[0]);
    must!(
        !is_calm || silences.all(|silence| silence <= plan.gap + TICK),
        "silent for longer than the gap"
    );
    Ok(())
}
