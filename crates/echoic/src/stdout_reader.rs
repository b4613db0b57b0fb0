//! Notices that the reader of standard output has left (`| head -1`), also while there is nothing to write.

use std::{
    io,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

/// Waits at most this long for the reader of standard output to leave. Returns whether it has left, at once if so.
///
/// A file and `/dev/null` have no reader that could leave. A socket has one until both of its halves are closed.
pub(crate) fn has_left(within: Duration) -> bool {
    has_left_of(&io::stdout(), within)
}

/// Asks poll(2) for no events: it then reports only POLLERR, which is how the write end of a pipe without a reader shows,
/// and POLLHUP, which a closed socket or terminal has.
fn has_left_of(out: &impl AsFd, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        let mut out = [PollFd::new(out, PollFlags::empty())];
        match poll(&mut out, timeout.as_ref()) {
            Err(Errno::INTR) => {}
            Err(_) => return false,
            Ok(_) => {
                let gone = PollFlags::ERR | PollFlags::HUP;
                return out[0].revents().intersects(gone);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, net, os::unix::net::UnixStream, thread};

    use super::*;

    const MOMENT: Duration = Duration::from_millis(20);

    #[test]
    fn reader_of_a_pipe_leaves_by_closing_it() {
        let (reader, writer) = io::pipe().unwrap();
        assert!(!has_left_of(&writer, MOMENT));
        let closing = thread::spawn(move || {
            thread::sleep(MOMENT);
            drop(reader);
        });
        assert!(has_left_of(&writer, Duration::from_secs(20)));
        closing.join().unwrap();
        assert!(has_left_of(&writer, Duration::ZERO));
    }

    #[test]
    fn reader_of_a_full_pipe_leaves_by_closing_it() {
        let (reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        while rustix::io::write(&writer, &[0; 4096]).is_ok() {}
        assert!(!has_left_of(&writer, MOMENT));
        drop(reader);
        assert!(has_left_of(&writer, Duration::ZERO));
    }

    /// Node.js gives its children sockets as standard streams.
    #[test]
    fn reader_of_a_socket_leaves_by_closing_both_halves() {
        let (reader, writer) = UnixStream::pair().unwrap();
        assert!(!has_left_of(&writer, MOMENT));
        reader.shutdown(net::Shutdown::Write).unwrap();
        assert!(!has_left_of(&writer, MOMENT), "it still reads");
        drop(reader);
        assert!(has_left_of(&writer, Duration::ZERO));
    }

    #[test]
    fn files_and_devices_have_no_reader_that_leaves() {
        assert!(!has_left_of(&tempfile::tempfile().unwrap(), MOMENT));
        for device in ["/dev/null", "/dev/full"] {
            let device = File::options().write(true).open(device).unwrap();
            assert!(!has_left_of(&device, MOMENT));
        }
    }
}
