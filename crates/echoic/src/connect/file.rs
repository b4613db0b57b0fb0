//! Sends a file from the prompt, on a thread and in pieces, so that memory stays bounded.

use std::{
    fs::File,
    io::{self, Read},
    thread,
};

use echoic_client::{ClientCommand, READ_BYTES_MAX};
use tokio::sync::mpsc;

/// Starts sending; `done` gets the number of bytes, or the error.
pub(super) fn spawn(
    file: File,
    commands: mpsc::Sender<ClientCommand>,
    done: mpsc::Sender<io::Result<u64>>,
) {
    thread::spawn(move || done.blocking_send(send_all(file, &commands)));
}

fn send_all(mut file: File, commands: &mpsc::Sender<ClientCommand>) -> io::Result<u64> {
    let mut buffer = vec![0; READ_BYTES_MAX];
    let mut sent = 0;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(sent);
        }
        if commands
            .blocking_send(ClientCommand::Send(buffer[..n].to_vec()))
            .is_err()
        {
            return Err(io::Error::other("the connection has ended"));
        }
        sent += n as u64;
    }
}
