//! A limit on all memory of a process, including the kernel's memory for it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// A memory cgroup; removed when dropped, once it has no processes.
#[derive(Debug)]
pub struct MemoryGroup {
    folder: PathBuf,
    events: &'static str,
}

impl MemoryGroup {
    /// Creates a group with a limit in bytes, in version 1 or 2 of cgroups.
    ///
    /// # Errors
    ///
    /// The system's error, for instance where the machine does not permit it.
    pub fn of(name: &str, bytes: u64) -> io::Result<Self> {
        let name = format!("echoic-trial-{name}-{}", std::process::id());
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (folder, limit, events) = if v1.is_dir() {
            (v1.join(name), "memory.limit_in_bytes", "memory.oom_control")
        } else {
            (
                Path::new("/sys/fs/cgroup").join(name),
                "memory.max",
                "memory.events",
            )
        };
        fs::create_dir(&folder)?;
        let group = Self { folder, events };
        fs::write(group.folder.join(limit), bytes.to_string())?;
        Ok(group)
    }

    /// Adds a process.
    pub fn hold(&self, process: u32) {
        fs::write(self.folder.join("cgroup.procs"), process.to_string()).unwrap();
    }

    /// Whether one of its processes was killed by the OOM killer.
    pub fn has_killed(&self) -> bool {
        let events = fs::read_to_string(self.folder.join(self.events)).unwrap();
        let mut kills = events
            .lines()
            .filter_map(|line| line.strip_prefix("oom_kill "));
        kills.any(|count| count.trim() != "0")
    }

    /// Returns the peak memory use.
    pub fn peak(&self) -> Option<u64> {
        let files = ["memory.max_usage_in_bytes", "memory.peak"];
        let texts = files
            .iter()
            .find_map(|file| fs::read_to_string(self.folder.join(file)).ok());
        texts?.trim().parse().ok()
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        for _ in 0..100 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}
