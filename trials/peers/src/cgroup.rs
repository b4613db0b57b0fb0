//! A bound to all the memory of a process, the kernel's part for it included.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// A group of the memory controller; removed with its end, when nobody is in it any more.
#[derive(Debug)]
pub struct MemoryGroup {
    folder: PathBuf,
    events: &'static str,
}

impl MemoryGroup {
    /// A group that may take so many bytes, where the machine lets one be made: in version 1 or 2 of cgroups.
    ///
    /// # Errors
    ///
    /// What the system says.
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

    /// Puts a process into it.
    pub fn hold(&self, process: u32) {
        fs::write(self.folder.join("cgroup.procs"), process.to_string()).unwrap();
    }

    /// Whether one of its processes was killed for want of memory.
    pub fn has_killed(&self) -> bool {
        let events = fs::read_to_string(self.folder.join(self.events)).unwrap();
        let mut kills = events
            .lines()
            .filter_map(|line| line.strip_prefix("oom_kill "));
        kills.any(|count| count.trim() != "0")
    }

    /// The most that was taken.
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
