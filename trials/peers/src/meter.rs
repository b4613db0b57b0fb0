//! Measures a process from outside.

use std::{fs, net::SocketAddr, time::Duration};

use trials_report::Scale;

/// A process by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(pub u32);

/// Ticks a second in `/proc/PID/stat`: `sysconf(_SC_CLK_TCK)`, 100 on every Linux of today.
const TICKS: u64 = 100;

impl Process {
    fn read(self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.0);
        fs::read_to_string(&path).unwrap_or_else(|why| panic!("{path}: {why}"))
    }

    /// Returns the CPU time used, to a hundredth of a second.
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

    /// Returns the CPU time used or waited for: on a busy machine a spinning thread gets little of a core, and wants
    /// all of it (`/proc/PID/schedstat`, of each thread).
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

    /// Returns the resident memory in bytes.
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

    /// Returns the peak resident memory in bytes.
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

    /// Returns the number of open files, except those of its database: under load a second thread opens them too, which
    /// no client causes.
    pub fn files(self) -> usize {
        let of_record = |name: &str| {
            [".db", ".db-wal", ".db-shm"]
                .iter()
                .any(|end| name.ends_with(end))
        };
        self.open().iter().filter(|name| !of_record(name)).count()
    }

    fn open(self) -> Vec<String> {
        // One may be closed meanwhile.
        fs::read_dir(format!("/proc/{}/fd", self.0))
            .unwrap()
            .filter_map(|file| fs::read_link(file.ok()?.path()).ok())
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    }

    /// Limits how many more files it may open from now on.
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

/// Returns the bytes sent and not yet read, for each connection to `server`, at the server's end, in the kernel.
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

/// Returns the 99th percentile.
pub fn p99(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    let at = times.len() * 99 / 100;
    times.get(at).copied().unwrap_or_default()
}

/// Latencies of good peers without a load and with it, measured alternately, since the machine's speed changes from one
/// second to the next. The median of the turns counts.
#[derive(Clone, Debug, Default)]
pub struct ByTurns {
    without: Vec<Duration>,
    with: Vec<Duration>,
    /// Whether the load occupies all cores.
    saturates: bool,
}

/// Allowed at least in the full run, on a quiet machine, however little it is without the load: one or two time slices
/// of Linux's scheduler (3 ms each), where more threads are runnable than there are cores.
const FLOOR: Duration = Duration::from_millis(5);

/// The same where the load occupies both cores: nine threads are runnable then (workers, recorder and store, load and
/// good peers), so that one time slice of each takes 13 ms; and a request and its reply wait for a core four times, at
/// both ends. Waiting for a commit would take some hundred.
const FLOOR_SATURATED: Duration = Duration::from_millis(60);

impl ByTurns {
    /// Adds a turn.
    pub fn add(&mut self, mut without: Vec<Duration>, mut with: Vec<Duration>) {
        self.without.push(p99(&mut without));
        self.with.push(p99(&mut with));
    }

    /// Returns the p99 without the load.
    pub fn without(&self) -> Duration {
        median(&self.without)
    }

    /// Returns the p99 with it.
    pub fn with(&self) -> Duration {
        median(&self.with)
    }

    /// Marks the load as one that occupies all cores.
    pub fn saturating() -> Self {
        Self {
            saturates: true,
            ..Self::default()
        }
    }

    /// Returns the limit with the load: twice the value without it, and at least the floor, since very small values are
    /// the machine's noise. The small run shares its machine with other tests, which stretches times beyond any limit:
    /// there only the replies count, and 2 s.
    pub fn allowed(&self, scale: Scale) -> Duration {
        (self.without() * 2).max(self.floor(scale))
    }

    /// The least limit, however small the value without the load.
    pub fn floor(&self, scale: Scale) -> Duration {
        let floor = if self.saturates {
            FLOOR_SATURATED
        } else {
            FLOOR
        };
        scale.pick(Duration::from_secs(2), floor)
    }

    /// Whether the value with the load is within the limit.
    pub fn holds(&self, scale: Scale) -> bool {
        self.with() <= self.allowed(scale)
    }
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Formats bytes.
pub fn kib(bytes: u64) -> String {
    if bytes >= 10 << 20 {
        format!("{} MiB", bytes >> 20)
    } else {
        format!("{:.1} KiB", bytes as f64 / 1024.0)
    }
}

/// Formats a duration.
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
