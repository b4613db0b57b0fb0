//! What a process takes, looked at from outside.

use std::{fs, net::SocketAddr, time::Duration};

use trials_report::Scale;

/// A process by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(pub u32);

/// Ticks of the clocks in `/proc/PID/stat`, a second: `sysconf(_SC_CLK_TCK)`, 100 on every Linux of today.
const TICKS: u64 = 100;

impl Process {
    fn read(self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.0);
        fs::read_to_string(&path).unwrap_or_else(|why| panic!("{path}: {why}"))
    }

    /// Processor time it has used, to a hundredth of a second.
    pub fn cpu(self) -> Duration {
        let stat = self.read("stat");
        // The second field is a name in parentheses, with anything in it (proc_pid_stat(5)).
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        let ticks: u64 = fields[11..13]
            .iter()
            .map(|field| field.parse::<u64>().unwrap())
            .sum();
        Duration::from_millis(ticks * 1000 / TICKS)
    }

    /// Processor time it has used or stood in line for: on a busy machine what spins gets little of a core, and wants
    /// all of it (`/proc/PID/schedstat`, of each of its threads).
    pub fn wanted(self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0)).unwrap();
        let nanoseconds = tasks.map(|task| {
            let stat =
                fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap_or_default();
            let fields = stat.split_whitespace().take(2);
            fields
                .map(|field| field.parse::<u64>().unwrap())
                .sum::<u64>()
        });
        Duration::from_nanos(nanoseconds.sum())
    }

    /// Memory it occupies, in bytes.
    pub fn resident(self) -> u64 {
        let rollup = self.read("smaps_rollup");
        let line = rollup
            .lines()
            .find_map(|line| line.strip_prefix("Rss:"))
            .unwrap();
        line.trim()
            .strip_suffix(" kB")
            .unwrap()
            .trim()
            .parse::<u64>()
            .unwrap()
            << 10
    }

    /// The most it has occupied, in bytes.
    pub fn resident_peak(self) -> u64 {
        let status = self.read("status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        line.trim()
            .strip_suffix(" kB")
            .unwrap()
            .trim()
            .parse::<u64>()
            .unwrap()
            << 10
    }

    /// Files it has open, but for those of its record: under load a second thread opens them once more, and that is no
    /// caller's doing.
    pub fn files(self) -> usize {
        let of_record = |name: &str| {
            [".db", ".db-wal", ".db-shm"]
                .iter()
                .any(|end| name.ends_with(end))
        };
        self.open().iter().filter(|name| !of_record(name)).count()
    }

    fn open(self) -> Vec<String> {
        // One may be closed while we look.
        fs::read_dir(format!("/proc/{}/fd", self.0))
            .unwrap()
            .filter_map(|file| fs::read_link(file.ok()?.path()).ok())
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    }

    /// How many more files it may open from here on.
    pub fn may_open(self, more: usize) {
        let files = self.open().len() + more;
        let set = std::process::Command::new("prlimit")
            .args([
                "--pid",
                &self.0.to_string(),
                &format!("--nofile={files}:{files}"),
            ])
            .status()
            .expect("prlimit, of util-linux");
        assert!(set.success());
    }
}

/// Bytes sent and not yet taken of each connection to `server`, at the server's end, in the kernel.
pub fn send_queues(server: SocketAddr) -> Vec<u64> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{:04X}", server.port());
    let queues = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let established = fields[3] == "01";
        let unsent = fields[4].split(':').next()?;
        (established && fields[1].ends_with(&port))
            .then(|| u64::from_str_radix(unsent, 16).unwrap())
    });
    queues.collect()
}

/// The value below which all but one in a hundred lie.
pub fn p99(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    let at = times.len() * 99 / 100;
    times.get(at).copied().unwrap_or_default()
}

/// What good peers take without a load and with it, measured by turns, since what a machine gives changes from one second
/// to the next. Of the turns the median counts.
#[derive(Clone, Debug, Default)]
pub struct ByTurns {
    without: Vec<Duration>,
    with: Vec<Duration>,
    /// The load leaves no core idle.
    saturates: bool,
}

/// What is let pass in the full run, on a quiet machine, however little it is without the load: a turn or two of Linux's
/// scheduler (3 ms each), where more want to run than there are cores.
const FLOOR: Duration = Duration::from_millis(5);

/// The same where the load takes all of two cores: nine threads then want to run, workers, those that write the record, those
/// that push and good peers, so that one turn of each takes 13 ms; and a question and its answer stand in line four times,
/// at both ends. Who waited for a commit would wait for some hundred.
const FLOOR_SATURATED: Duration = Duration::from_millis(60);

impl ByTurns {
    /// Another turn.
    pub fn add(&mut self, mut without: Vec<Duration>, mut with: Vec<Duration>) {
        self.without.push(p99(&mut without));
        self.with.push(p99(&mut with));
    }

    /// The p99 without the load.
    pub fn without(&self) -> Duration {
        median(&self.without)
    }

    /// The p99 with it.
    pub fn with(&self) -> Duration {
        median(&self.with)
    }

    /// The same for a load that leaves no core idle.
    pub fn saturating() -> Self {
        Self {
            saturates: true,
            ..Self::default()
        }
    }

    /// What it may be with the load: twice what it is without. Where that is next to nothing, what the machine takes of
    /// it is not the server's. The small run shares its machine with other tests, which stretches times beyond any limit:
    /// it is held to the answers alone, and to 2 s.
    pub fn allowed(&self, scale: Scale) -> Duration {
        (self.without() * 2).max(self.floor(scale))
    }

    /// What is let pass however little it is without the load.
    pub fn floor(&self, scale: Scale) -> Duration {
        let floor = if self.saturates {
            FLOOR_SATURATED
        } else {
            FLOOR
        };
        scale.pick(Duration::from_secs(2), floor)
    }

    /// Whether it is within that.
    pub fn holds(&self, scale: Scale) -> bool {
        self.with() <= self.allowed(scale)
    }
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Bytes for people.
pub fn kib(bytes: u64) -> String {
    if bytes >= 10 << 20 {
        format!("{} MiB", bytes >> 20)
    } else {
        format!("{:.1} KiB", bytes as f64 / 1024.0)
    }
}

/// A time for people.
pub fn time(time: Duration) -> String {
    if time >= Duration::from_secs(1) {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{:.2} ms", time.as_secs_f64() * 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn two_bad_rounds_fail_the_comparison_and_one_does_not() {
        let mut turns = ByTurns::default();
        for (without, with) in [(6, 11), (7, 400), (300, 13)] {
            turns.add(vec![MS * without; 200], vec![MS * with; 200]);
        }
        assert_eq!((turns.without(), turns.with()), (7 * MS, 13 * MS));
        assert!(turns.holds(Scale::Full));
        turns.add(vec![MS; 200], vec![50 * MS; 200]);
        turns.add(vec![MS; 200], vec![50 * MS; 200]);
        assert!(!turns.holds(Scale::Full) && turns.holds(Scale::Test));
    }

    #[test]
    fn tiny_latency_may_grow_to_five_milliseconds_at_most() {
        let mut turns = ByTurns::default();
        turns.add(vec![MS / 10; 200], vec![4 * MS; 200]);
        assert!(turns.holds(Scale::Full));
        let mut turns = ByTurns::default();
        turns.add(vec![MS / 10; 200], vec![6 * MS; 200]);
        assert!(!turns.holds(Scale::Full));
    }
}
