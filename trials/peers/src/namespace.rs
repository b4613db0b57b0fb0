//! A network namespace of the test's own.

use std::{
    env,
    process::{Command, Stdio},
};

use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};

/// Set for the test that runs inside.
const WITHIN: &str = "TRIALS_PEERS_WITHIN";

/// Runs `trial`, the body of the test called `name`, with the highest limit on open files. As root it runs in a network
/// namespace that has only a loopback interface and is removed with the test: the test runs itself again there. For
/// other users it runs on the host's loopback.
pub fn alone(name: &str, trial: impl FnOnce()) {
    if geteuid().is_root() && env::var_os(WITHIN).is_none() {
        let this = env::current_exe().unwrap();
        let ran = Command::new("unshare")
            .args(["-n", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""])
            .arg(this)
            .args([name, "--exact", "--nocapture", "--test-threads=1"])
            .env(WITHIN, "1")
            .stdin(Stdio::null())
            .output()
            .expect("unshare, of util-linux");
        let output = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
        assert!(
            ran.status.success(),
            "{name}, in a network of its own:\n{output}"
        );
        assert!(
            output.contains("1 passed"),
            "no test is called {name}:\n{output}"
        );
        return;
    }
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, all).unwrap();
    trial();
}
