//! The standard streams by read(2) and write(2), without the buffers of std.
//!
//! A process that shares the terminal or pipe may have made it non-blocking (`O_NONBLOCK` belongs to the open file, not to
//! the descriptor). Then a call that cannot go on fails with EAGAIN, and std takes that for an error. Here the call waits, as
//! a blocking one would. And std takes EBADF for success, for example if standard output is open for reading only; here it is
//! an error.

use std::{
    io::{self, Read, Write},
    os::fd::AsFd,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::{Errno, read, write},
};

/// An unbuffered stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unbuffered<F>(F);

/// Standard input.
pub(crate) type Input = Unbuffered<io::Stdin>;

/// Returns standard input.
pub(crate) fn input() -> Input {
    Unbuffered(io::stdin())
}

/// Returns standard output.
pub(crate) fn output() -> Unbuffered<io::Stdout> {
    Unbuffered(io::stdout())
}

/// Returns standard error.
pub(crate) fn errors() -> Unbuffered<io::Stderr> {
    Unbuffered(io::stderr())
}

impl<F: AsFd> Unbuffered<F> {
    /// Repeats `call` until it is not interrupted and need not wait. The wait is for `ready`; as with a blocking stream, it
    /// has no deadline.
    fn retry(
        &self,
        ready: PollFlags,
        mut call: impl FnMut(&F) -> Result<usize, Errno>,
    ) -> io::Result<usize> {
        loop {
            match call(&self.0) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => match poll(&mut [PollFd::new(&self.0, ready)], None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(why) => return Err(why.into()),
                },
                done => return Ok(done?),
            }
        }
    }
}

impl Input {
    /// Waits until a read returns at once: with bytes, the end, or an error. Without a deadline, as a read.
    pub(crate) fn wait(&self) -> io::Result<()> {
        loop {
            match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], None) {
                Err(Errno::INTR) => {}
                done => return Ok(done.map(drop)?),
            }
        }
    }
}

impl<F: AsFd> Read for Unbuffered<F> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.retry(PollFlags::IN, |fd| read(fd, &mut *bytes))
    }
}

impl<F: AsFd> Write for Unbuffered<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.retry(PollFlags::OUT, |fd| write(fd, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixStream, thread, time::Duration};

    use super::*;

    #[test]
    fn non_blocking_stream_is_waited_for() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut stream = Unbuffered(&ours);
        // More than the buffers hold.
        let sent = vec![7; 8 << 20];
        let reading = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            let mut received = vec![0; 8 << 20];
            theirs.read_exact(&mut received).unwrap();
            thread::sleep(Duration::from_millis(50));
            theirs.write_all(b"x").unwrap();
            received
        });
        stream.write_all(&sent).unwrap();
        assert_eq!(stream.read(&mut [0; 9]).unwrap(), 1);
        assert!(reading.join().unwrap() == sent);
    }
}
