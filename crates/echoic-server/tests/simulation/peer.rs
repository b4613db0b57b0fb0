//! Those who call: peers that follow a script, and our own client.

use std::time::Duration;

use echoic_client::{ClientCommand, ClientEvent, ConversationSummary, Timeouts};
use echoic_core::{event::Address, framing::FramingPair};
use echoic_wire::Link;
use tokio::{
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

/// What the client made of its conversation.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) talked: ConversationSummary,
    pub(super) heard: Vec<u8>,
}

/// Calls, acts, and is gone. Those who would stay for ever are ended with the world.
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
        return Some(converse(plan, own).await);
    }
    let reading = read(wire.view(PEER), plan.reading, plan.chance);
    join!(act(wire.view(PEER), plan.acts), reading);
    drop(own);
    None
}

async fn act(mut socket: Socket, acts: Vec<Act>) {
    for act in acts {
        let done = match act {
            Act::Say(bytes) => socket.write_all(&bytes).await,
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
            Act::SourcePermit => Ok(()),
        };
        if done.is_err() {
            return;
        }
    }
}

async fn read(mut socket: Socket, reading: Reading, mut chance: Chance) {
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
        match socket.read(&mut buffer[..room.min(4096)]).await {
            Ok(n) if n > 0 => all += n,
            _ => return,
        }
        if let Reading::Slow(_, most) = reading {
            let most = most.as_millis() as usize;
            sleep(chance.ms(0..=most)).await;
        }
    }
}

/// The client as the program has it: one queue in, one out.
async fn converse(plan: PeerPlan, socket: Socket) -> Account {
    let (say, said) = mpsc::channel(4);
    let (tell, mut news) = mpsc::channel(4);
    let waits = Timeouts {
        idle_timeout: Some(Duration::from_secs(90)),
        ..Timeouts::default()
    };
    let talking = echoic_client::converse(
        Link::layered(Box::new(socket)),
        FramingPair::default(),
        said,
        tell,
        std::future::pending(),
        waits,
    );
    let saying = async move {
        for act in plan.acts {
            let said = match act {
                Act::Say(bytes) => say.send(ClientCommand::Send(bytes)).await,
                Act::Pause(pause) => {
                    sleep(pause).await;
                    Ok(())
                }
                _ => return,
            };
            if said.is_err() {
                return;
            }
        }
    };
    let hearing = async {
        let mut all = Vec::new();
        while let Some(news) = news.recv().await {
            if let ClientEvent::Received { bytes, .. } = news {
                all.extend(bytes);
            }
        }
        all
    };
    let (talked, (), heard) = join!(talking, saying, hearing);
    Account { talked, heard }
}
