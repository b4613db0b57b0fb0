//! The target of a benchmark: its address, whether it may be loaded, and whether this process has the resources.

use std::net::IpAddr;

use echoic_core::{
    endpoint::{Endpoint, EndpointError, Host, HostPort, Located, Shape},
    framing::FramingPair,
};
use echoic_wire::resolve;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    cli::ENCODING_HINT,
    connect::framing_ignored,
    exit::{CliError, Exit},
    term,
};

/// Files open besides connections.
const OTHER_FILES: u64 = 64;
/// Highest rate, in requests a second, to another machine without `--allow-load`.
pub(crate) const BEYOND_RATE_MAX: u32 = 1000;
/// Most connections to another machine without `--allow-load`.
pub(crate) const BEYOND_CONNECTIONS_MAX: u32 = 100;

/// Parses an endpoint to connect to, and its framing: `?frame=`, or else `frame`. Datagrams have none; a notice says so if
/// `tells`.
pub(super) fn address(
    text: &str,
    frame: FramingPair,
    tells: bool,
) -> Result<(Endpoint, FramingPair), String> {
    let Located { endpoint, options } = text.parse().map_err(|error: EndpointError| {
        let schemes = "bench loads tcp://, udp://, tls://, unix: and unixgram: endpoints";
        format!("{error}; {schemes}")
    })?;
    match &endpoint {
        Endpoint::Tcp(at) | Endpoint::Udp(at) | Endpoint::Tls(at) if at.port == 0 => {
            return Err("invalid port 0: expected the port of a server".to_owned());
        }
        Endpoint::Tcp(at) | Endpoint::Udp(at) | Endpoint::Tls(at) if at.host == Host::Any => {
            return Err(
                "invalid host *: it is for listening; expected the host to load".to_owned(),
            );
        }
        Endpoint::Fd(_) => {
            return Err(
                "invalid endpoint fd: an inherited socket is for listening; expected an address to connect to"
                    .to_owned(),
            );
        }
        _ => {}
    }
    let mut frames = frame;
    for (name, value) in options.0 {
        match &*name {
            "frame" => frames = value.parse().map_err(|error| format!("{error}"))?,
            _ => {
                let hint = match endpoint {
                    Endpoint::Unix(_) | Endpoint::Unixgram(_) => ENCODING_HINT,
                    _ => "",
                };
                return Err(format!("invalid option ?{name}=: expected frame{hint}"));
            }
        }
    }
    if endpoint.shape() == Some(Shape::Datagrams) && frames != FramingPair::default() {
        if tells {
            term::note(&framing_ignored(&endpoint, frames != frame));
        }
        frames = FramingPair::default();
    }
    Ok((endpoint, frames))
}

/// The size of a load.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoadSize {
    /// The highest rate, in requests a second; `None` if nothing bounds it.
    pub(super) rate: Option<f64>,
    pub(super) connections: u32,
    /// Connections are replaced during the run (`--churn`).
    pub(super) churns: bool,
}

/// Fails if `endpoint` is on another machine, the load is above the default bounds, and `allowed` does not name the host.
pub(super) async fn check_allowed(
    endpoint: &Endpoint,
    allowed: &[String],
    size: LoadSize,
) -> Result<(), CliError> {
    let (Endpoint::Tcp(at) | Endpoint::Udp(at) | Endpoint::Tls(at)) = endpoint else {
        return Ok(());
    };
    let HostPort { host, .. } = at;
    let name = match host {
        Host::Name(name) => name.clone(),
        Host::Ip(ip) => ip.to_string(),
        Host::Zoned(ip, zone) => format!("{ip}%{zone}"),
        Host::Loopback | Host::Any => return Ok(()),
    };
    if allowed
        .iter()
        .any(|allowed| allowed.eq_ignore_ascii_case(&name))
    {
        return Ok(());
    }
    let addrs = resolve(at, std::time::Duration::from_secs(10)).await;
    let addrs = addrs.map_err(|error| CliError::new(Exit::NotResolved, error))?;
    let is_local = |ip: IpAddr| ip.to_canonical().is_loopback();
    if addrs.iter().all(|addr| is_local(addr.ip())) {
        return Ok(());
    }
    let is_small = size
        .rate
        .is_some_and(|rate| rate <= f64::from(BEYOND_RATE_MAX))
        && size.connections <= BEYOND_CONNECTIONS_MAX;
    if is_small {
        return Ok(());
    }
    Err(CliError::usage(format!(
        "{name} is another machine: expected at most {BEYOND_RATE_MAX} requests a second (-r) over \
         {BEYOND_CONNECTIONS_MAX} connections (-c); if you may load it, add --allow-load {name}"
    )))
}

/// Raises the limit of open files as needed. Fails if there are too few files or ports; returns a warning if ports may run
/// out.
pub(super) fn check_resources(
    endpoint: &Endpoint,
    size: LoadSize,
) -> Result<Option<String>, CliError> {
    let wanted = u64::from(size.connections) + OTHER_FILES;
    let files = raise_open_files(wanted);
    if files < wanted {
        return Err(CliError::system(format!(
            "{} connections need {wanted} open files, and the limit is {files}; raise it (ulimit -n) or lower -c",
            size.connections
        )));
    }
    if !matches!(endpoint, Endpoint::Tcp(_) | Endpoint::Tls(_)) {
        return Ok(None);
    }
    let Some(ports) = ephemeral_ports() else {
        return Ok(None);
    };
    if u64::from(size.connections) > ports {
        return Err(CliError::system(format!(
            "{} connections to one address need as many local ports, and there are {ports} \
             (net.ipv4.ip_local_port_range); lower -c",
            size.connections
        )));
    }
    let second = ports / 60;
    Ok(size.churns.then(|| {
        format!(
            "a closed connection holds its local port for a minute (TIME-WAIT): with {ports} ports, more than about \
             {second} new connections a second will run out of them"
        )
    }))
}

/// Raises the soft limit of open files to the hard limit if it is below `wanted`, and returns the resulting limit.
fn raise_open_files(wanted: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let now = current.unwrap_or(u64::MAX);
    if now >= wanted {
        return now;
    }
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum.unwrap_or(u64::MAX),
        Err(_) => now,
    }
}

/// Returns the number of ephemeral ports.
fn ephemeral_ports() -> Option<u64> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ends = range.split_whitespace().map(str::parse::<u64>);
    let (from, to) = (ends.next()?.ok()?, ends.next()?.ok()?);
    Some((to + 1).saturating_sub(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn allowed(endpoint: &str, names: &[&str], rate: Option<f64>, connections: u32) -> bool {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let size = LoadSize {
            rate,
            connections,
            churns: false,
        };
        check_allowed(&endpoint.parse().unwrap(), &names, size)
            .await
            .is_ok()
    }

    #[tokio::test]
    async fn remote_target_requires_low_load_or_permission() {
        assert!(allowed("127.0.0.1:5000", &[], None, 1000).await);
        assert!(allowed("[::1]:5000", &[], None, 1000).await);
        assert!(allowed(":5000", &[], None, 1000).await);
        assert!(allowed("./x.sock", &[], None, 1000).await);
        assert!(!allowed("192.0.2.1:5000", &[], None, 1).await);
        assert!(!allowed("udp://192.0.2.1:5000", &[], Some(1001.0), 1).await);
        assert!(!allowed("tls://192.0.2.1:5000", &[], None, 1).await);
        assert!(!allowed("192.0.2.1:5000", &[], Some(1000.0), 101).await);
        assert!(allowed("192.0.2.1:5000", &[], Some(1000.0), 100).await);
        assert!(allowed("192.0.2.1:5000", &["192.0.2.1"], None, 1000).await);
        assert!(!allowed("192.0.2.1:5000", &["192.0.2.2"], None, 1).await);
    }

    #[test]
    fn more_connections_than_files_are_rejected() {
        let size = LoadSize {
            rate: None,
            connections: u32::MAX - 100,
            churns: false,
        };
        let refused = check_resources(&"5000".parse().unwrap(), size).unwrap_err();
        assert!(
            refused.why.contains("open files") || refused.why.contains("ports"),
            "{}",
            refused.why
        );
    }
}
