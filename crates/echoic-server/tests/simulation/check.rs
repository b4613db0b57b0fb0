//! Checks of the invariants (`ARCHITECTURE.md`, "What must hold") against what happened in a world.

use std::{collections::BTreeMap, time::Duration};

use echoic_client::Ending as ClientEnding;
use echoic_core::{
    ending::{CloseReason, Ending},
    event::{ConversationId, Outcome},
    framing::Framing,
};
use echoic_recorder::{RecorderStatus, WhenFull};
use tokio::time::Instant;

use super::{
    model::Model,
    net::Facts,
    peer::Account,
    plan::{Keeping, Plan, Reading, Serving},
    tls::check_peer,
    world::{Sum, World, address, port},
};
use crate::common::{Stored, TestStore};

/// Tolerance of deadlines: timers tick in milliseconds.
pub(super) const TICK: Duration = Duration::from_millis(3);

pub(super) type Checked = Result<(), String>;

/// Everything recorded of one conversation.
pub(super) struct Recorded {
    pub(super) id: ConversationId,
    pub(super) ending: Option<Ending>,
    pub(super) exchanges: Vec<Stored>,
}

pub(super) fn check(world: &World) -> Result<Sum, String> {
    let World {
        plan,
        drained,
        status,
        ..
    } = world;
    must!(drained.panicked == 0, "a conversation panicked");
    let late = world.drained_at - world.stopped;
    must!(
        late <= plan.limits.drain_timeout + TICK,
        "stopping took {late:?} of {:?}",
        plan.limits.drain_timeout
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
    let mut recorded = by_conversation(world, all)?;
    let mut reasons = Vec::new();
    let mut exchanges = 0;
    for (i, wire) in world.wires.iter().enumerate() {
        let at = address(port(i as u16));
        let theirs = recorded.remove(&at.to_string());
        let checked = wire.facts(|facts| {
            let what = theirs.as_ref();
            exchanges += what.map_or(0, |what| what.exchanges.len() as u64);
            reasons.extend(what.and_then(|what| what.ending.as_ref().map(|e| e.reason.word())));
            if let Some(ends) = &world.tls {
                return check_peer(world, ends, i, facts, what);
            }
            conversation(world, facts, what)?;
            delivered(plan, i, facts, what)?;
            client_report(facts, world.accounts[i].as_ref())
        });
        checked.map_err(|what| {
            let ending = theirs.and_then(|theirs| theirs.ending);
            format!("peer {i} ({ending:?}): {what}")
        })?;
    }
    must!(
        recorded.is_empty(),
        "a conversation is recorded of a peer that never connected"
    );
    must!(
        exchanges == status.recorded,
        "{exchanges} exchanges of peers, {status:?}"
    );
    Ok(Sum {
        steps: world.steps.next(),
        served: drained.served,
        lost: status.lost,
        reasons,
    })
}

/// The counts of the server and of the recorder, and the store.
pub(super) struct Books<'a> {
    pub(super) served: u64,
    pub(super) status: &'a RecorderStatus,
    pub(super) keeping: &'a Keeping,
    pub(super) store: &'a TestStore,
    /// Whether the recorder closed before its deadline.
    pub(super) closed_in_time: bool,
}

/// Checks that served = recorded + lost, and that the recorded gaps have the lost ones.
pub(super) fn conserved(books: &Books<'_>, all: &[Stored]) -> Checked {
    let Books {
        served,
        status,
        keeping,
        ..
    } = *books;
    must!(
        served == status.recorded + status.lost,
        "served {served}, but {status:?}"
    );
    must!(
        all.len() as u64 == status.recorded,
        "the store has {}, but {status:?}",
        all.len()
    );
    must!(
        (1..).zip(all).all(|(id, kept)| kept.id == id),
        "ids are not in order"
    );
    if !keeping.ends_well() {
        return Ok(());
    }
    must!(books.closed_in_time, "the recorder did not end");
    must!(status.failure.is_none(), "still failing: {status:?}");
    let gaps = books.store.gaps();
    must!(
        gaps == status.lost,
        "the recorded gaps have {gaps}, but {status:?}"
    );
    let may_lose = keeping.options.when_full == WhenFull::Drop || !keeping.is_patient();
    must!(
        status.lost == 0 || may_lose,
        "lost without need: {status:?}"
    );
    Ok(())
}

fn by_conversation(world: &World, all: Vec<Stored>) -> Result<BTreeMap<String, Recorded>, String> {
    let store = &world.keeper.inner;
    let callers: BTreeMap<ConversationId, String> = store
        .callers()
        .into_iter()
        .map(|(id, address)| (id, address.to_string()))
        .collect();
    let mut recorded = BTreeMap::new();
    for (id, caller) in &callers {
        let known = Recorded {
            id: *id,
            ending: None,
            exchanges: Vec::new(),
        };
        must!(
            recorded.insert(caller.clone(), known).is_none(),
            "{caller} opened twice"
        );
    }
    let never = |id| format!("conversation {id} never opened");
    for kept in all {
        let id = kept.conversation;
        let caller = callers.get(&id).and_then(|caller| recorded.get_mut(caller));
        caller.ok_or_else(|| never(id))?.exchanges.push(kept);
    }
    for (id, ending) in store.endings() {
        let caller = callers.get(&id).and_then(|caller| recorded.get_mut(caller));
        let ended = caller.ok_or_else(|| never(id))?.ending.replace(ending);
        must!(ended.is_none(), "{id} ended twice");
    }
    Ok(recorded)
}

/// Checks that the record of a conversation is what happened.
pub(super) fn conversation(world: &World, facts: &Facts, recorded: Option<&Recorded>) -> Checked {
    let plan = &world.plan;
    let Some(accepted) = facts.accepted else {
        must!(recorded.is_none(), "recorded and never accepted");
        must!(
            !facts.called_at_stop || !plan.failures.is_empty(),
            "connected before the stop, and was not accepted"
        );
        return Ok(());
    };
    let closed = facts.closed.ok_or("never closed")?;
    must!(
        closed <= world.drained_at,
        "still open when the server was done"
    );
    let is_whole = plan.keeping.ends_well() && world.status.lost == 0;
    let Some(recorded) = recorded else {
        must!(!is_whole, "not recorded");
        return Ok(());
    };
    let Some(ending) = &recorded.ending else {
        must!(!plan.keeping.ends_well(), "its end is not recorded");
        return Ok(());
    };
    let received = received(facts, ending)?;
    let (serving, max) = (plan.serving, plan.limits.message_bytes_max);
    let model = match ending.reason {
        CloseReason::TooManyConnections => Model::default(),
        _ => Model::of(serving, plan.framing, max, received, facts.read_end),
    };
    exchanges(plan, recorded, &model, is_whole)?;
    replies(plan, facts, ending, recorded, &model)?;
    if plan.keeping.options.hold_replies {
        let writes = facts.writes.iter().map(|(upto, step, _)| (*upto, *step));
        strict(world, writes, recorded.id)?;
    }
    ending_is_true(world, facts, ending, &model, accepted)
}

/// Returns the bytes that the conversation received, without those that the lingering close discarded.
fn received<'a>(facts: &'a Facts, ending: &Ending) -> Result<&'a [u8], String> {
    let read = facts.read.len() as u64;
    must!(
        ending.received + ending.discarded == read,
        "read {read}, recorded otherwise"
    );
    Ok(&facts.read[..ending.received as usize])
}

/// Checks that the recorded exchanges are those of the model, in order, each with its reply or none.
fn exchanges(plan: &Plan, recorded: &Recorded, model: &Model, is_whole: bool) -> Checked {
    let kept = &recorded.exchanges;
    must!(
        kept.windows(2).all(|two| two[0].n < two[1].n),
        "not recorded in order"
    );
    if plan.framing == Framing::Chunk && plan.serving != Serving::Greet {
        if is_whole {
            let requests: Vec<u8> = kept.iter().flat_map(|kept| kept.request.clone()).collect();
            let expected: Vec<u8> = model.exchanges.iter().flat_map(|e| e.0.clone()).collect();
            must!(
                requests == expected,
                "the recorded requests are not those received"
            );
        }
        return Ok(());
    }
    for kept in kept {
        let Some((request, reply)) = model.exchanges.get(kept.n as usize - 1) else {
            return Err(format!("exchange {} does not exist", kept.n));
        };
        let unanswered = kept.outcome == Outcome::Unanswered;
        let is_spawned = matches!(plan.serving, Serving::Spawned(_));
        must!(
            is_spawned || !unanswered,
            "exchange {} not answered",
            kept.n
        );
        must!(
            &kept.request == request,
            "exchange {}: another request",
            kept.n
        );
        must!(
            kept.reply == if unanswered { &[][..] } else { &reply[..] },
            "exchange {}: another reply",
            kept.n
        );
    }
    must!(
        !is_whole || kept.len() == model.exchanges.len(),
        "{} exchanges recorded of {}",
        kept.len(),
        model.exchanges.len()
    );
    Ok(())
}

/// Checks that the bytes sent are the beginning of the replies, and that the ending has the right counts.
fn replies(
    plan: &Plan,
    facts: &Facts,
    ending: &Ending,
    recorded: &Recorded,
    model: &Model,
) -> Checked {
    let replies = model.replies();
    must!(
        replies.starts_with(&facts.written),
        "the bytes sent are not the replies in order"
    );
    let written = facts.written.len() as u64;
    must!(ending.sent == written, "sent {written}, recorded otherwise");
    let produced = ending.sent + ending.unsent;
    if matches!(plan.serving, Serving::Spawned(_)) {
        must!(
            produced <= replies.len() as u64,
            "produced more than the replies"
        );
    } else {
        must!(
            produced == replies.len() as u64,
            "produced {produced} of {}",
            replies.len()
        );
    }
    for kept in &recorded.exchanges {
        let upto = kept.reply_offset as usize + kept.reply.len();
        must!(
            replies.get(kept.reply_offset as usize..upto) == Some(&kept.reply[..]),
            "exchange {} has a wrong reply offset",
            kept.n
        );
    }
    Ok(())
}

/// Checks that with strict durability no byte is sent before its exchange is committed.
pub(super) fn strict(
    world: &World,
    writes: impl Iterator<Item = (usize, u64)>,
    conversation: ConversationId,
) -> Checked {
    for (upto, step) in writes {
        let committed = world.keeper.committed_before(conversation, step);
        must!(
            upto as u64 <= committed,
            "{upto} bytes were sent when {committed} were committed"
        );
    }
    Ok(())
}

/// Checks that the close reason is the right one.
fn ending_is_true(
    world: &World,
    facts: &Facts,
    ending: &Ending,
    model: &Model,
    accepted: Instant,
) -> Checked {
    let (plan, reason) = (&world.plan, ending.reason);
    let limits = &plan.limits;
    must!(
        (reason == CloseReason::TooManyConnections) == facts.one_too_many,
        "one too many: {}",
        facts.one_too_many
    );
    let over = facts.finished.or(facts.closed).ok_or("never closed")?;
    let stopped = over >= world.stopped;
    let last_read = last(received_reads(facts, ending), accepted);
    let last_write = last(facts.writes.iter().map(|(.., at)| *at), accepted);
    // Reasons that replace an earlier one while the conversation is being closed.
    let otherwise = matches!(
        reason,
        CloseReason::PeerReset
            | CloseReason::SystemError
            | CloseReason::WriteTimeout
            | CloseReason::StoreFailed
            | CloseReason::DrainTimeout
    );
    must!(
        !model.too_long || reason == CloseReason::MessageTooLong || otherwise,
        "a message was too long"
    );
    match facts.failed {
        // Over TLS: the end of the stream without a `close_notify`.
        Some(std::io::ErrorKind::UnexpectedEof) => must!(
            matches!(reason, CloseReason::Truncated) || otherwise,
            "the stream was cut"
        ),
        Some(kind) if kind != std::io::ErrorKind::TimedOut => must!(
            matches!(reason, CloseReason::PeerReset | CloseReason::DrainTimeout),
            "the connection was reset"
        ),
        Some(_) => must!(
            matches!(
                reason,
                CloseReason::SystemError | CloseReason::PeerReset | CloseReason::DrainTimeout
            ),
            "the connection failed"
        ),
        None if facts.reset_afterwards && plan.serving == Serving::Greet => must!(
            !matches!(
                reason,
                CloseReason::ServiceClosed | CloseReason::SystemError
            ),
            "the connection was reset after the last reply"
        ),
        None => must!(
            !matches!(reason, CloseReason::SystemError | CloseReason::PeerReset),
            "the connection did not fail"
        ),
    }
    match reason {
        CloseReason::PeerClosed => must!(
            facts.read_end && ending.unsent == 0 && !model.incomplete,
            "no"
        ),
        CloseReason::Incomplete => must!(
            facts.read_end && ending.unsent == 0 && model.incomplete,
            "no"
        ),
        CloseReason::ServiceClosed => {
            must!(plan.serving == Serving::Greet && ending.unsent == 0, "no");
        }
        CloseReason::MessageTooLong => must!(model.too_long && ending.unsent == 0, "no"),
        CloseReason::IdleTimeout => {
            let since = last_read.max(last_write);
            let idle = over - since;
            must!(idle + TICK >= limits.idle_timeout, "idle for {idle:?}");
        }
        CloseReason::MessageTimeout => {
            must!(!model.unfinished.is_empty(), "nothing was unfinished");
            let begun = ending.received as usize - model.unfinished.len();
            let since = facts.reads.iter().find(|(upto, _)| *upto > begun);
            let taken = over - since.map_or(accepted, |(_, at)| *at);
            must!(taken + TICK >= limits.message_timeout, "took {taken:?}");
        }
        CloseReason::WriteTimeout => {
            let stalled = over - last_write.max(accepted);
            must!(ending.unsent > 0, "nothing was unsent");
            must!(
                stalled + TICK >= limits.write_timeout,
                "stalled {stalled:?}"
            );
        }
        CloseReason::ServerStopped => {
            must!(stopped, "before the stop");
            must!(ending.unsent == 0, "not everything was sent");
            let (arrived, received) = (facts.arrived_at_stop as u64, ending.received);
            must!(
                received >= arrived,
                "{arrived} bytes had arrived at the stop, {received} were received"
            );
        }
        CloseReason::DrainTimeout => {
            let closed = facts.closed.unwrap_or(over);
            must!(
                closed + TICK >= world.stopped + limits.drain_timeout,
                "before the deadline"
            );
        }
        CloseReason::StoreFailed => must!(
            plan.keeping.options.hold_replies && !plan.keeping.is_patient(),
            "the store did not fail"
        ),
        CloseReason::Truncated => must!(
            facts.failed == Some(std::io::ErrorKind::UnexpectedEof) && ending.unsent == 0,
            "not cut"
        ),
        CloseReason::TooManyConnections | CloseReason::PeerReset | CloseReason::SystemError => {}
        other => return Err(format!("nothing ends as {other:?} here")),
    }
    punctual(world, facts, ending, over, last_read.max(last_write))
}

/// Checks that no conversation outlasts its deadline, where neither peer nor store can have stopped the clock.
fn punctual(
    world: &World,
    facts: &Facts,
    ending: &Ending,
    over: Instant,
    last_activity: Instant,
) -> Checked {
    let limits = &world.plan.limits;
    let is_spawned = matches!(world.plan.serving, Serving::Spawned(_));
    if world.plan.keeping.is_calm()
        && !facts.held_up
        && !is_spawned
        && ending.reason != CloseReason::DrainTimeout
    {
        let silent = over - last_activity;
        must!(
            silent <= limits.idle_timeout.max(limits.message_timeout) + TICK,
            "silent for {silent:?}"
        );
    }
    Ok(())
}

fn received_reads<'a>(facts: &'a Facts, ending: &'a Ending) -> impl Iterator<Item = Instant> + 'a {
    let reads = facts.reads.iter();
    let reads = reads.take_while(|(upto, _)| *upto as u64 <= ending.received);
    reads.map(|(_, at)| *at)
}

fn last(moments: impl Iterator<Item = Instant>, otherwise: Instant) -> Instant {
    moments.last().unwrap_or(otherwise)
}

/// What the server sent reaches a peer that reads: closing takes nothing away.
fn delivered(plan: &Plan, i: usize, facts: &Facts, recorded: Option<&Recorded>) -> Checked {
    must!(
        facts.written.starts_with(&facts.got),
        "the peer got what was never sent"
    );
    let reads_all = !matches!(plan.peers[i].reading, Reading::Until(_));
    let reason = recorded.and_then(|recorded| recorded.ending.as_ref().map(|ending| ending.reason));
    let in_order = reason.is_some_and(|reason| {
        !matches!(
            reason,
            CloseReason::DrainTimeout | CloseReason::PeerReset | CloseReason::SystemError
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

/// Checks what the client reports: the bytes it received and how its conversation ended.
fn client_report(facts: &Facts, account: Option<&Account>) -> Checked {
    let Some(Account { summary, received }) = account else {
        return Ok(());
    };
    must!(received == &facts.got, "the client received something else");
    must!(
        summary.counts.received.bytes == facts.got.len() as u64,
        "the client counted wrong"
    );
    match &summary.ending {
        ClientEnding::PeerClosed => must!(facts.got_end || facts.got_reset, "no end came"),
        ClientEnding::PeerReset { after } => {
            must!(facts.got_reset, "no reset came");
            must!(*after == received.len() as u64, "reset after {after}");
        }
        ClientEnding::Failed(_) => must!(facts.got_reset, "nothing failed"),
        ClientEnding::TimedOut(_) => must!(!facts.got_end, "the end had come"),
        other => return Err(format!("the client ended as {other:?}")),
    }
    Ok(())
}
