//! The peers: some follow a script, others are our own client.

use std::time::Duration;

use echoic_client::{ClientCommand, ClientEvent, ConversationSummary, Timeouts};
use echoic_core::{event::Address, framing::FramingPair};
use echoic_wire::Link;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    join,
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use super::{
    callers::Callers,
    chance::Chance,
    net::{PEER, Socket, Wire},
    plan::{Act, PeerPlan, Reading},
};

/// The result of a conversation as the client reports it.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) summary: ConversationSummary,
    pub(super) received: Vec<u8>,
}

/// Connects, follows its script and closes. A peer that would stay for ever is aborted at the end of the world.
pub(super) async fn live(
    plan: PeerPlan,
    callers: Callers,
    wire: Wire,
    address: Address,
    began: Instant,
) -> Option<Account> {
    sleep_until(began + plan.calls_at).await;
    let own = wire.end(PEER);
    if !callers.call(&wire, address) {
        return None;
    }
    if plan.is_client {
        return Some(converse(plan, Link::layered(Box::new(own))).await);
    }
    let reader = Link::layered(Box::new(wire.view(PEER)));
    let reading = read(reader, plan.reading, plan.chance);
    join!(act(wire.view(PEER), plan.acts), reading);
    drop(own);
    None
}

async fn act(mut socket: Socket, acts: Vec<Act>) {
    for act in acts {
        let done = match act {
            Act::Send(bytes) => socket.write_all(&bytes).await,
            Act::Pause(pause) => {
                sleep(pause).await;
                Ok(())
            }
            Act::Finish => {
                socket.finish();
                Ok(())
            }
            Act::Reset => return socket.close(true),
            Act::Close => return socket.close(false),
            Act::Idle => Ok(()),
        };
        if done.is_err() {
            return;
        }
    }
}

/// Reads until the end, in the peer's own way.
pub(super) async fn read(mut from: impl AsyncRead + Unpin, reading: Reading, mut chance: Chance) {
    let mut buffer = [0; 4096];
    let mut all = 0;
    loop {
        let room = match reading {
            Reading::Eager => buffer.len(),
            Reading::Slow(bytes, _) => bytes.min(buffer.len()),
            Reading::Until(most) => most - all,
        };
        if room == 0 {
            return std::future::pending().await;
        }
        match from.read(&mut buffer[..room.min(4096)]).await {
            Ok(n) if n > 0 => all += n,
            _ => return,
        }
        if let Reading::Slow(_, most) = reading {
            let most = most.as_millis() as usize;
            sleep(chance.ms(0..=most)).await;
        }
    }
}

/// Runs the client as the program does: with a queue of commands and a queue of events.
pub(super) async fn converse(plan: PeerPlan, link: Link) -> Account {
    let (command_sender, commands) = mpsc::channel(4);
    let (event_sender, mut events) = mpsc::channel(4);
    let timeouts = Timeouts {
        idle_timeout: Some(Duration::from_secs(90)),
        ..Timeouts::default()
    };
    let conversing = echoic_client::converse(
        link,
        FramingPair::default(),
        commands,
        event_sender,
        std::future::pending(),
        timeouts,
    );
    let sending = async move {
        for act in plan.acts {
            let sent = match act {
                Act::Send(bytes) => command_sender.send(ClientCommand::Send(bytes)).await,
                Act::Pause(pause) => {
                    sleep(pause).await;
                    Ok(())
                }
                _ => return,
            };
            if sent.is_err() {
                return;
            }
        }
    };
    let receiving = async {
        let mut all = Vec::new();
        while let Some(event) = events.recv().await {
            if let ClientEvent::Received { bytes, .. } = event {
                all.extend(bytes);
            }
        }
        all
    };
    let (summary, (), received) = join!(conversing, sending, receiving);
    Account { summary, received }
}
