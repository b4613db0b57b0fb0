//! Standard input, with its errors as the system reports them.

use std::io::{self, Read};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::{Errno, read},
};

/// Reads standard input without a buffer.
///
/// [`io::Stdin`] reports the end where a read fails with EBADF (a descriptor opened for writing only), so that nothing
/// would be sent and the command would succeed. It also fails with EAGAIN where another process that shares the pipe or
/// terminal has set `O_NONBLOCK`; here such a read waits.
#[derive(Debug)]
pub(crate) struct Stdin;

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let input = io::stdin();
        loop {
            match read(&input, &mut *buffer) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    // No deadline, like a blocking read: the user decides when input comes.
                    poll(&mut [PollFd::new(&input, PollFlags::IN)], None)?;
                }
                result => return Ok(result?),
            }
        }
    }
}
