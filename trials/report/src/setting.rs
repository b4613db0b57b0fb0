//! When and where the trials were run.

use std::{fs, process::Command};

use anyhow::{Context as _, bail};
use jiff::Timestamp;

/// When and where the trials were run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The date.
    pub date: String,
    /// The commit, and whether there were uncommitted changes.
    pub commit: String,
    /// CPU, memory, kernel.
    pub machine: String,
    /// The load average of the last quarter of an hour.
    pub busy: String,
}

impl Setting {
    /// Reads the current setting.
    ///
    /// # Errors
    ///
    /// If the machine or the checkout cannot be read.
    pub fn here() -> anyhow::Result<Self> {
        let proc = |file: &str| {
            let path = format!("/proc/{file}");
            fs::read_to_string(&path).with_context(|| format!("reading {path}"))
        };
        let load = proc("loadavg")?;
        Ok(Self {
            date: Timestamp::now().strftime("%Y-%m-%d").to_string(),
            commit: commit()?,
            machine: machine(
                &proc("cpuinfo")?,
                &proc("meminfo")?,
                &proc("sys/kernel/osrelease")?,
            ),
            busy: load.split(' ').nth(2).unwrap_or("unknown").to_owned(),
        })
    }
}

fn commit() -> anyhow::Result<String> {
    let head = git(&["rev-parse", "--short", "HEAD"])?;
    // The page itself is about to be written.
    let changes = git(&[
        "status",
        "--porcelain",
        "--",
        ":/",
        ":!/docs/reliability.md",
    ])?;
    Ok(if changes.is_empty() {
        head
    } else {
        format!("{head} with changes that were not committed")
    })
}

fn git(args: &[&str]) -> anyhow::Result<String> {
    let asked = Command::new("git")
        // The checkout may belong to another user.
        .args(["-c", "safe.directory=*"])
        .args(args)
        .output()
        .context("git")?;
    if !asked.status.success() {
        bail!("git {args:?}: {}", String::from_utf8_lossy(&asked.stderr));
    }
    Ok(String::from_utf8_lossy(&asked.stdout).trim().to_owned())
}

fn machine(cpuinfo: &str, meminfo: &str, kernel: &str) -> String {
    let field = |text: &str, name: &str| {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        let mut values = lines.filter(|(key, _)| key.trim() == name);
        values.next().map(|(_, value)| value.trim().to_owned())
    };
    let cores = cpuinfo
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let model = field(cpuinfo, "model name").unwrap_or_else(|| "an unnamed processor".into());
    let kib = field(meminfo, "MemTotal")
        .and_then(|total| total.strip_suffix(" kB")?.trim().parse::<u64>().ok());
    let memory = kib.map_or_else(
        || "unknown".to_owned(),
        |kib| format!("{} GiB", kib.div_ceil(1 << 20)),
    );
    format!(
        "{cores} × {model}, {memory} of memory, Linux {}",
        kernel.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_is_described_in_one_line() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n\nprocessor\t: 1\n";
        let meminfo = "MemTotal:       24000000 kB\nMemFree: 1 kB\n";
        assert_eq!(
            machine(cpuinfo, meminfo, "6.1.0\n"),
            "2 × Some CPU @ 2 GHz, 23 GiB of memory, Linux 6.1.0"
        );
    }

    #[test]
    fn current_setting_is_determined() {
        let setting = Setting::here().expect("a machine and a checkout");
        assert!(
            setting.date.len() == 10 && setting.commit.len() >= 7,
            "{setting:?}"
        );
    }
}
