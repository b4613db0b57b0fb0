//! A simulated disk: synced data survives, and an arbitrary part of the rest.
//!
//! Stricter than common file systems: a file's name is durable only once its directory is synced (fsync(2)), an
//! unsynced write may be missing while later ones are there, and may be torn between any two sectors.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use fastrand::Rng;

use crate::trace::What;

/// Size of an atomic write, in bytes.
const SECTOR: usize = 512;

/// The kind of crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Crash {
    /// The process is killed: the system still writes all it was given.
    Kill,
    /// Power loss: nothing unsynced survives.
    PowerDrop,
    /// Power loss: a random half of the unsynced sectors survives.
    PowerTorn,
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill -9",
            Self::PowerDrop => "power, unsynced gone",
            Self::PowerTorn => "power, unsynced torn",
        })
    }
}

/// Files by name.
pub type Files = BTreeMap<String, Vec<u8>>;

type Inode = usize;

/// An unsynced change to a file.
#[derive(Clone, Debug)]
enum Change {
    Write {
        at: u64,
        bytes: std::sync::Arc<[u8]>,
    },
    Length(u64),
}

/// An unsynced change to a name.
#[derive(Clone, Debug)]
enum Naming {
    Named(String, Inode),
    Gone(String),
}

#[derive(Debug, Default)]
struct File {
    now: Vec<u8>,
    synced: Vec<u8>,
    pending: Vec<(usize, Change)>,
}

/// A directory on such a disk.
#[derive(Debug, Default)]
pub struct Disk {
    files: Vec<File>,
    names: HashMap<String, Inode>,
    synced_names: BTreeMap<String, Inode>,
    pending_names: Vec<(usize, Naming)>,
    steps: usize,
    /// The disk acknowledges every sync and does none, which is the effect of `synchronous=OFF`.
    lies: bool,
}

impl Disk {
    /// Creates an empty directory; a disk that `lies` never syncs.
    pub fn new(lies: bool) -> Self {
        Self {
            lies,
            ..Self::default()
        }
    }

    /// Applies the next step; returns whether that changed what a crash would leave.
    pub fn step(&mut self, what: &What) -> bool {
        let number = self.steps;
        self.steps += 1;
        match what {
            What::Create(name) => {
                if self.names.contains_key(name) {
                    return false;
                }
                let inode = self.files.len();
                self.files.push(File::default());
                self.names.insert(name.clone(), inode);
                let naming = Naming::Named(name.clone(), inode);
                self.pending_names.push((number, naming));
            }
            What::Unlink(name) => {
                self.names.remove(name);
                let naming = Naming::Gone(name.clone());
                self.pending_names.push((number, naming));
            }
            What::Write { name, at, bytes } => {
                let (at, bytes) = (*at, bytes.clone());
                return self.change(name, number, Change::Write { at, bytes });
            }
            What::Truncate { name, length } => {
                return self.change(name, number, Change::Length(*length));
            }
            What::Sync { name, covers } => return !self.lies && self.sync(name, *covers, true),
            What::Unsynced { name, covers } => return self.sync(name, *covers, false),
            What::Sent(_) => {}
            What::Nothing => return false,
        }
        true
    }

    fn change(&mut self, name: &str, number: usize, change: Change) -> bool {
        let Some(file) = self.names.get(name).map(|inode| &mut self.files[*inode]) else {
            return false;
        };
        apply(&mut file.now, &change);
        file.pending.push((number, change));
        true
    }

    /// Syncs what was done before step `covers`; after a failed sync, that never gets to the disk.
    fn sync(&mut self, name: &str, covers: usize, done: bool) -> bool {
        if name.is_empty() && !done {
            return false;
        }
        if name.is_empty() {
            let later = self
                .pending_names
                .iter()
                .position(|(number, _)| *number >= covers);
            let later = later.unwrap_or(self.pending_names.len());
            for (_, naming) in self.pending_names.drain(..later) {
                rename(&mut self.synced_names, naming);
            }
            return later > 0;
        }
        let Some(file) = self.names.get(name).map(|inode| &mut self.files[*inode]) else {
            return false;
        };
        let later = file
            .pending
            .iter()
            .position(|(number, _)| *number >= covers);
        let later = later.unwrap_or(file.pending.len());
        for (_, change) in file.pending.drain(..later) {
            if done {
                apply(&mut file.synced, &change);
            }
        }
        later > 0
    }

    /// Whether a power loss could lose anything.
    pub fn is_synced(&self) -> bool {
        self.pending_names.is_empty()
            && self
                .names
                .values()
                .all(|inode| self.files[*inode].pending.is_empty())
    }

    /// Returns the files found after a crash at this moment.
    pub fn after(&self, crash: Crash, random: &mut Rng) -> Files {
        match crash {
            Crash::Kill => {
                let names = self.names.iter();
                names
                    .map(|(name, inode)| (name.clone(), self.files[*inode].now.clone()))
                    .collect()
            }
            Crash::PowerDrop => {
                let names = self.synced_names.iter();
                names
                    .map(|(name, inode)| (name.clone(), self.files[*inode].synced.clone()))
                    .collect()
            }
            Crash::PowerTorn => {
                // Names are durable in the order of their changes: file systems have a journal for them.
                let mut names = self.synced_names.clone();
                let durable = random.usize(..=self.pending_names.len());
                for (_, naming) in &self.pending_names[..durable] {
                    rename(&mut names, naming.clone());
                }
                let names = names.into_iter();
                names
                    .map(|(name, inode)| (name, self.files[inode].torn(random)))
                    .collect()
            }
        }
    }
}

impl File {
    fn torn(&self, random: &mut Rng) -> Vec<u8> {
        let mut file = self.synced.clone();
        for (_, change) in &self.pending {
            if random.bool() {
                continue;
            }
            match change {
                Change::Length(_) => apply(&mut file, change),
                Change::Write { at, bytes } => {
                    for (i, sector) in bytes.chunks(SECTOR).enumerate() {
                        if random.bool() {
                            let at = at + (i * SECTOR) as u64;
                            let bytes = sector.into();
                            apply(&mut file, &Change::Write { at, bytes });
                        }
                    }
                }
            }
        }
        file
    }
}

fn rename(names: &mut BTreeMap<String, Inode>, naming: Naming) {
    match naming {
        Naming::Named(name, inode) => names.insert(name, inode),
        Naming::Gone(name) => names.remove(&name),
    };
}

fn apply(file: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Length(length) => file.resize(*length as usize, 0),
        Change::Write { at, bytes } => {
            let (at, end) = (*at as usize, *at as usize + bytes.len());
            if file.len() < end {
                file.resize(end, 0);
            }
            file[at..end].copy_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(name: &str, at: u64, bytes: &[u8]) -> What {
        What::Write {
            name: name.into(),
            at,
            bytes: bytes.into(),
        }
    }

    fn sync(name: &str, covers: usize) -> What {
        let name = name.to_owned();
        What::Sync { name, covers }
    }

    fn after(disk: &Disk, crash: Crash) -> Vec<(String, Vec<u8>)> {
        disk.after(crash, &mut Rng::with_seed(1))
            .into_iter()
            .collect()
    }

    #[test]
    fn only_synced_data_survives() {
        let mut disk = Disk::new(false);
        disk.step(&What::Create("a".into()));
        disk.step(&write("a", 0, b"one"));
        assert_eq!(after(&disk, Crash::Kill), [("a".into(), b"one".to_vec())]);
        assert_eq!(after(&disk, Crash::PowerDrop), []);
        disk.step(&sync("a", 2));
        assert_eq!(after(&disk, Crash::PowerDrop), [], "its name is not");
        disk.step(&sync("", 3));
        disk.step(&write("a", 3, b"two"));
        disk.step(&write("a", 6, b"three"));
        disk.step(&sync("a", 5));
        assert_eq!(
            after(&disk, Crash::PowerDrop),
            [("a".into(), b"onetwo".to_vec())],
            "what was written after the sync began is not covered by it"
        );
        assert!(!disk.is_synced());
        let name = "a".to_owned();
        disk.step(&What::Unsynced { name, covers: 7 });
        disk.step(&sync("a", 8));
        assert_eq!(after(&disk, Crash::Kill)[0].1, b"onetwothree");
        assert_eq!(
            after(&disk, Crash::PowerDrop)[0].1,
            b"onetwo",
            "after a failed sync the next one succeeds, and the data is not written"
        );
        disk.step(&What::Unlink("a".into()));
        assert_eq!(after(&disk, Crash::Kill), []);
        assert_eq!(after(&disk, Crash::PowerDrop).len(), 1);
    }

    #[test]
    fn torn_write_tears_between_sectors() {
        let mut disk = Disk::new(true);
        disk.step(&What::Create("a".into()));
        disk.step(&sync("", 1));
        disk.step(&write("a", 0, &vec![7; 64 * SECTOR]));
        disk.step(&sync("a", 3));
        let mut whole = [0, 0];
        for seed in 0..64 {
            let files = disk.after(Crash::PowerTorn, &mut Rng::with_seed(seed));
            for sector in files
                .get("a")
                .into_iter()
                .flat_map(|file| file.chunks(SECTOR))
            {
                assert!(sector.iter().all(|byte| *byte == sector[0]));
                whole[usize::from(sector[0] == 7)] += 1;
            }
        }
        assert!(whole[0] > 100 && whole[1] > 100, "{whole:?}");
    }
}
