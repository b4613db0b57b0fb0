//! A network of a test's own: nothing gets in or out, and it is gone with the test.

use std::{fs, net::IpAddr, process::Command};

use tempfile::TempDir;

use crate::harness::{Home, Ran, run, tool};

/// Tells the test that it already is where it wants to be.
const INSIDE: &str = "ECHOIC_TEST_NETWORK";

/// A loopback, and behind `hole` a network in which every packet is lost without a word. `/etc/resolv.conf` and
/// `/etc/hosts` are the test's.
#[derive(Debug)]
pub(crate) struct Network {
    home: Home,
    _etc: TempDir,
}

/// IPv4 addresses in which packets vanish begin so.
pub(crate) const HOLE_V4: &str = "198.51.100";

/// The same for IPv6.
pub(crate) const HOLE_V6: &str = "2001:db8:1:";

/// Where the resolver of the network is asked.
pub(crate) const RESOLVER: &str = "127.0.0.53";

/// Runs the test of this name in a network of its own: once more, in a process of its own, under `unshare`. That takes
/// a privilege; without it the test is skipped, which is printed.
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
        println!(
            "skipped: no network namespace can be made here: {}",
            may.err.trim()
        );
        return;
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

    /// This address is ours.
    pub(crate) fn have(&self, addr: IpAddr) {
        match addr {
            IpAddr::V4(addr) => ip(&format!("addr add {addr}/32 dev lo")),
            IpAddr::V6(addr) => ip(&format!("-6 addr add {addr}/128 dev lo nodad")),
        }
    }

    /// Packets to this address are sent, and nobody takes them: its neighbour is said to be somebody who is not there.
    pub(crate) fn lose(&self, addr: IpAddr) {
        ip(&format!(
            "neigh add {addr} lladdr 02:00:00:00:00:99 dev hole nud permanent"
        ));
    }

    /// The way to this network ends with an error of this kind: `unreachable`, `prohibit`.
    pub(crate) fn end_the_way(&self, kind: &str, network: &str) {
        ip(&format!("route add {kind} {network}"));
    }

    /// A firewall that rules so, in the words of nft(8): `tcp dport 81 drop`. Before anything gets in, or out.
    pub(crate) fn rule(&self, hook: &str, rule: &str) {
        nft(&format!("add table inet at_{hook}"));
        nft(&format!(
            "add chain inet at_{hook} seen {{ type filter hook {hook} priority 0; }}"
        ));
        nft(&format!("add rule inet at_{hook} seen {rule}"));
    }

    /// The program, run here to its end.
    #[track_caller]
    pub(crate) fn echoic(&self, args: &str) -> Ran {
        self.home.run(&args.split(' ').collect::<Vec<_>>())
    }

    /// The program, to be run here.
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
