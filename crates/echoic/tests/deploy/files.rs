//! Reads the files of `deploy/`: no more of their formats than these files use.

use std::{collections::BTreeMap, fs, path::PathBuf};

pub(super) fn path(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join(name).canonicalize().expect(name)
}

#[track_caller]
pub(super) fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap()
}

/// Reads a list in JSON, as in a compose file or after CMD.
#[track_caller]
pub(super) fn list(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The blocks of the compose file: services, and what they inherit by `<<: *name` from `x-name`.
pub(super) struct Compose(BTreeMap<String, Vec<String>>);

impl Compose {
    pub(super) fn read() -> Self {
        let mut blocks = BTreeMap::<String, Vec<String>>::new();
        let (mut top, mut block) = (String::new(), String::new());
        for line in read("deploy/compose.yaml").lines() {
            let text = line.trim_start();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let key = || text.split(':').next().unwrap().to_owned();
            match line.len() - text.len() {
                0 => {
                    top = key();
                    block.clone_from(&top);
                }
                2 if top == "services" => block = key(),
                _ => {}
            }
            blocks
                .entry(block.clone())
                .or_default()
                .push(text.to_owned());
        }
        Self(blocks)
    }

    /// The services that run echoic.
    pub(super) fn ours(&self) -> Vec<&str> {
        let ours = |name: &&String| {
            !name.starts_with("x-")
                && self
                    .value(name, "image")
                    .is_some_and(|i| i == "localhost/echoic")
        };
        self.0.keys().filter(ours).map(String::as_str).collect()
    }

    /// Returns the value of a key, of the service itself or of what it inherits.
    pub(super) fn value(&self, block: &str, key: &str) -> Option<&str> {
        let lines = self.0.get(block)?;
        let of = |key: &str| {
            let found = lines.iter().find_map(|line| line.strip_prefix(key));
            found.and_then(|rest| rest.strip_prefix(": "))
        };
        of(key).or_else(|| {
            let parent = of("<<")?.trim_start_matches('*');
            self.value(&format!("x-{parent}"), key)
        })
    }

    /// Returns the value of a key that is a list.
    #[track_caller]
    pub(super) fn list(&self, service: &str, key: &str) -> Vec<String> {
        let value = self.value(service, key);
        list(value.unwrap_or_else(|| panic!("{service} has no {key}")))
    }
}

/// A unit of systemd.
pub(super) struct Unit(String);

impl Unit {
    pub(super) fn read(name: &str) -> Self {
        Self(read(&format!("deploy/systemd/{name}")))
    }

    /// Returns each value of a key.
    pub(super) fn values(&self, key: &str) -> Vec<&str> {
        let value = |line| str::strip_prefix(line, key)?.strip_prefix('=');
        self.0.lines().filter_map(value).collect()
    }

    /// Returns the value of a key that is there once.
    #[track_caller]
    pub(super) fn value(&self, key: &str) -> &str {
        let values = self.values(key);
        assert_eq!(values.len(), 1, "{key}: {values:?}");
        values[0]
    }

    /// Returns the variables that it sets.
    pub(super) fn environment(&self) -> Vec<(&str, &str)> {
        let variables = self.values("Environment").into_iter();
        variables.map(|one| one.split_once('=').unwrap()).collect()
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

/// Returns what follows an instruction of the Containerfile, with its continued lines joined.
#[track_caller]
pub(super) fn instruction(name: &str) -> String {
    let text = read("deploy/Containerfile").replace("\\\n", " ");
    let mut found = text.lines().filter_map(|line| line.strip_prefix(name));
    found.next_back().expect(name).trim().to_owned()
}
