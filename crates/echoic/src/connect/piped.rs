//! Through a pipe: standard input verbatim to the peer, the peer's bytes and nothing else to standard output.

use std::{
    future::pending,
    io::{self, Read, Write},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use echoic_client::{News, READ_BYTES_MAX, Say, Talked, Waits, talk};
use echoic_core::framing::Frames;
use echoic_wire::Link;
use tokio::sync::mpsc;

/// Reads that may wait to be sent, and to be written. With what the loop itself holds, that bounds the memory.
const QUEUE: usize = 2;

/// What became of it.
pub(super) struct Piped {
    pub(super) talked: Talked,
    /// Our own input or output failed; a reader of our output that has gone (`| head`) is no failure.
    pub(super) trouble: Option<Trouble>,
}

/// Which of our own ends failed.
pub(super) enum Trouble {
    Input(io::Error),
    Output(io::Error),
}

/// Talks until the peer or the waits end it. Standard input may still be open then: its thread is left to
/// block, and ends with the process.
pub(super) async fn piped(link: Link, frames: Frames, waits: Waits) -> Piped {
    let (say, says) = mpsc::channel(QUEUE);
    let (news, heard) = mpsc::channel(QUEUE);
    let input = Arc::new(Mutex::new(None));
    let failed = Arc::clone(&input);
    thread::spawn(move || {
        if let Err(error) = read_all(&say) {
            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    });
    let writer = thread::spawn(move || write_all(heard));
    let talked = talk(link, frames, says, news, pending(), waits).await;
    // Nothing more can come, so it ends once what came is written; how long that takes is our reader's affair.
    let written = writer.join().unwrap_or(Ok(()));
    let output = written
        .err()
        .filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
        .map(Trouble::Output);
    let input = input.lock().unwrap_or_else(PoisonError::into_inner).take();
    Piped {
        talked,
        trouble: output.or_else(|| input.map(Trouble::Input)),
    }
}

/// To the end of standard input, or of the conversation. Dropping `say` is the end of our stream.
fn read_all(say: &mpsc::Sender<Say>) -> io::Result<()> {
    let mut input = io::stdin().lock();
    let mut buffer = vec![0; READ_BYTES_MAX];
    loop {
        let n = match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if say.blocking_send(Say::Bytes(buffer[..n].to_vec())).is_err() {
            return Ok(());
        }
    }
}

/// Each read of the peer is written and flushed at once, since whoever reads us may wait for it.
fn write_all(mut heard: mpsc::Receiver<News>) -> io::Result<()> {
    let mut output = io::stdout().lock();
    while let Some(news) = heard.blocking_recv() {
        if let News::Heard { bytes, .. } = news {
            output.write_all(&bytes)?;
            output.flush()?;
        }
    }
    Ok(())
}
