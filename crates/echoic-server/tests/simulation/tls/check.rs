//! Checks of a conversation over TLS: those of other conversations, by the plain bytes, and those of its handshake.

use echoic_core::ending::CloseReason;

use super::ends::{Ends, Seen};
use crate::simulation::{
    check::{Checked, Recorded, TICK, conversation, strict},
    net::Facts,
    peer::Account,
    plan::Reading,
    world::World,
};

/// Checks a peer's conversation. `wire` has what happened below TLS.
pub(in crate::simulation) fn check_peer(
    world: &World,
    ends: &Ends,
    peer: usize,
    wire: &Facts,
    recorded: Option<&Recorded>,
) -> Checked {
    let seen = &*ends.seen(peer);
    let facts = above(seen, wire);
    if facts.accepted.is_some() && seen.opened.is_none() {
        return not_opened(world, &facts, recorded);
    }
    conversation(world, &facts, recorded)?;
    if world.plan.keeping.options.hold_replies
        && let Some(recorded) = recorded
    {
        strict(world, seen.given.iter().copied(), recorded.id)?;
    }
    delivered(world, peer, seen, &facts, recorded)?;
    reported(&facts, world.accounts[peer].as_ref())
}

/// What happened above TLS, in the form of what happens on a wire without it.
fn above(seen: &Seen, wire: &Facts) -> Facts {
    let plain = &seen.plain;
    let arrived = seen.sent.iter().rev();
    let mut arrived = arrived.skip_while(|(_, on_wire)| *on_wire > wire.arrived_at_stop);
    let failed_after = plain.finished.is_some() && wire.failed.is_some();
    Facts {
        read: plain.read.clone(),
        reads: plain.reads.clone(),
        read_end: plain.read_end,
        written: plain.written.clone(),
        writes: plain.writes.clone(),
        failed: plain.failed,
        reset_afterwards: wire.reset_afterwards || failed_after,
        held_up: wire.held_up,
        accepted: wire.accepted.map(|at| seen.opened.unwrap_or(at)),
        finished: plain.finished,
        closed: wire.closed,
        one_too_many: wire.one_too_many,
        arrived_at_stop: arrived.next().map_or(0, |(upto, _)| *upto),
        called_at_stop: wire.called_at_stop,
        got: plain.got.clone(),
        got_end: plain.got_end,
        got_reset: wire.got_reset,
        peer_reset: wire.peer_reset,
        peer_left: wire.peer_left && !plain.got_end,
        peer_finished: wire.peer_finished,
        peer_wrote: wire.peer_wrote,
    }
}

/// Checks a connection whose handshake was not done: nothing was served, and the reason is the right one.
fn not_opened(world: &World, facts: &Facts, recorded: Option<&Recorded>) -> Checked {
    let closed = facts.closed.ok_or("never closed")?;
    must!(
        closed <= world.drained_at,
        "still open when the server was done"
    );
    let Some(recorded) = recorded else {
        let is_whole = world.plan.keeping.ends_well() && world.status.lost == 0;
        must!(!is_whole, "not recorded");
        return Ok(());
    };
    must!(recorded.exchanges.is_empty(), "served before the handshake");
    let Some(ending) = &recorded.ending else {
        must!(!world.plan.keeping.ends_well(), "its end is not recorded");
        return Ok(());
    };
    must!(
        (ending.received, ending.sent, ending.unsent) == (0, 0, 0),
        "bytes before the handshake"
    );
    let accepted = facts.accepted.ok_or("never accepted")?;
    let limits = &world.plan.limits;
    must!(
        (ending.reason == CloseReason::TooManyConnections) == facts.one_too_many,
        "one too many: {}",
        facts.one_too_many
    );
    match ending.reason {
        CloseReason::TooManyConnections => {}
        CloseReason::HandshakeTimeout => must!(
            closed - accepted + TICK >= limits.handshake_timeout,
            "before the limit of a handshake"
        ),
        CloseReason::HandshakeFailed => must!(
            facts.peer_reset || facts.peer_left,
            "a handshake failed without a reason"
        ),
        CloseReason::ServerStopped => must!(closed >= world.stopped, "before the stop"),
        CloseReason::DrainTimeout => must!(
            closed + TICK >= world.stopped + limits.drain_timeout,
            "before the deadline"
        ),
        other => return Err(format!("no handshake ends as {other:?} here")),
    }
    Ok(())
}

/// What the server sent reaches a peer that reads: closing takes nothing away. Records may arrive of a write that TLS has
/// taken, and could not finish.
fn delivered(
    world: &World,
    peer: usize,
    seen: &Seen,
    facts: &Facts,
    recorded: Option<&Recorded>,
) -> Checked {
    let given = [&facts.written[..], &seen.taken].concat();
    must!(
        given.starts_with(&facts.got),
        "the peer got what was never sent"
    );
    let reads_all = !matches!(world.plan.peers[peer].reading, Reading::Until(_));
    let ending = recorded.and_then(|recorded| recorded.ending.as_ref());
    let in_order = ending.is_some_and(|ending| {
        !matches!(
            ending.reason,
            CloseReason::DrainTimeout
                | CloseReason::PeerReset
                | CloseReason::SystemError
                | CloseReason::WriteTimeout
        )
    });
    if reads_all && in_order && !facts.peer_reset && !facts.peer_left {
        must!(
            facts.got == facts.written,
            "{} bytes sent, {} arrived",
            facts.written.len(),
            facts.got.len()
        );
    }
    Ok(())
}

/// Checks the bytes that the client reports.
fn reported(facts: &Facts, account: Option<&Account>) -> Checked {
    let Some(Account { summary, received }) = account else {
        return Ok(());
    };
    must!(received == &facts.got, "the client received something else");
    must!(
        summary.counts.received.bytes == facts.got.len() as u64,
        "the client counted wrong"
    );
    Ok(())
}
