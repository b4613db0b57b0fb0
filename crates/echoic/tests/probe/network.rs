//! A network namespace for one test: isolated, and removed with the test.

use std::{fs, net::IpAddr, process::Command};

use tempfile::TempDir;

use crate::harness::{Home, Ran, run, tool};

/// Set in the process that already runs inside the namespace.
const INSIDE: &str = "ECHOIC_TEST_NETWORK";

/// A loopback interface, and behind `hole` a network in which every packet is lost silently. `/etc/resolv.conf` and
/// `/etc/hosts` belong to the test.
#[derive(Debug)]
pub(crate) struct Network {
    home: Home,
    _etc: TempDir,
}

/// Prefix of the IPv4 addresses whose packets are lost.
pub(crate) const HOLE_V4: &str = "198.51.100";

/// The same for IPv6.
pub(crate) const HOLE_V6: &str = "2001:db8:1:";

/// Address of the resolver.
pub(crate) const RESOLVER: &str = "127.0.0.53";

/// Runs the named test again in a process of its own, under `unshare`, in a network namespace. That takes a privilege;
/// without it the test is skipped.
#[track_caller]
pub(crate) fn in_a_network(test: &str, hosts: &str, body: impl FnOnce(&Network)) {
    if std::env::var_os(INSIDE).is_some() {
        return body(&Network::build(hosts));
    }
    let unshared = |program: &str| {
        let mut command = tool("unshare", "util-linux");
        command.args(["--net", "--mount", program]);
        command
    };
    let may = run(&mut unshared("true"), b"");
    if may.code != Some(0) {
        return trials_skip::skip(format_args!(
            "no network namespace can be made here: {}",
            may.err.trim()
        ));
    }
    let myself = std::env::current_exe().unwrap();
    let mut again = unshared(myself.to_str().unwrap());
    let ran = run(
        again
            .args([test, "--exact", "--nocapture"])
            .env(INSIDE, test),
        b"",
    );
    let out = String::from_utf8_lossy(&ran.out);
    assert!(
        ran.code == Some(0) && out.contains("1 passed"),
        "{out}{}",
        ran.err
    );
}

#[expect(
    clippy::unused_self,
    reason = "only who has such a network may change it"
)]
impl Network {
    fn build(hosts: &str) -> Self {
        ip("link set lo up");
        ip("link add hole type veth peer name bottom");
        ip("link set hole up");
        ip("link set bottom up");
        ip(&format!("addr add {HOLE_V4}.1/24 dev hole"));
        ip(&format!("-6 addr add {HOLE_V6}:1/64 dev hole nodad"));
        let etc = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let ours = etc.path().join(name);
            fs::write(&ours, text).unwrap();
            let address = format!("/etc/{name}");
            if fs::metadata(&address).is_ok() {
                let mount = run(
                    tool("mount", "util-linux")
                        .arg("--bind")
                        .arg(ours)
                        .arg(address),
                    b"",
                );
                assert_eq!(mount.code, Some(0), "{}", mount.err);
            }
        };
        put("resolv.conf", &format!("nameserver {RESOLVER}\n"));
        put("hosts", hosts);
        put("nsswitch.conf", "hosts: files dns\n");
        Self {
            home: Home::new(),
            _etc: etc,
        }
    }

    /// Adds a local address.
    pub(crate) fn have(&self, addr: IpAddr) {
        match addr {
            IpAddr::V4(addr) => ip(&format!("addr add {addr}/32 dev lo")),
            IpAddr::V6(addr) => ip(&format!("-6 addr add {addr}/128 dev lo nodad")),
        }
    }

    /// Makes packets to this address vanish on the link: its neighbour entry is permanent and points to no host.
    pub(crate) fn lose(&self, addr: IpAddr) {
        ip(&format!(
            "neigh add {addr} lladdr 02:00:00:00:00:99 dev hole nud permanent"
        ));
    }

    /// Adds a route of this type to this network: `unreachable`, `prohibit`.
    pub(crate) fn end_the_way(&self, kind: &str, network: &str) {
        ip(&format!("route add {kind} {network}"));
    }

    /// Adds a firewall rule in the syntax of nft(8), before input and output: `tcp dport 81 drop`.
    pub(crate) fn rule(&self, hook: &str, rule: &str) {
        nft(&format!("add table inet at_{hook}"));
        nft(&format!(
            "add chain inet at_{hook} seen {{ type filter hook {hook} priority 0; }}"
        ));
        nft(&format!("add rule inet at_{hook} seen {rule}"));
    }

    /// Runs the program here to its end.
    #[track_caller]
    pub(crate) fn echoic(&self, args: &str) -> Ran {
        self.home.run(&args.split(' ').collect::<Vec<_>>())
    }

    /// Returns the program's command, to be run here.
    pub(crate) fn command(&self, args: &str) -> Command {
        self.home.echoic(&args.split(' ').collect::<Vec<_>>())
    }
}

fn nft(command: &str) {
    let ran = run(tool("nft", "nftables").arg(command), b"");
    assert_eq!(ran.code, Some(0), "nft {command}: {}", ran.err);
}

fn ip(args: &str) {
    let ran = run(tool("ip", "iproute2").args(args.split(' ')), b"");
    assert_eq!(ran.code, Some(0), "ip {args}: {}", ran.err);
}
