//! Whom to load, and whether that may be.

use std::net::IpAddr;

use echoic_core::{
    endpoint::{Endpoint, EndpointError, Host, HostPort, Located},
    framing::FramingPair,
};
use echoic_wire::resolve;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::exit::{CliError, Exit};

/// Files that are open beside connections.
const OTHER_FILES: u64 = 64;
/// What may be done to somebody else's machine unless it was named.
pub(crate) const BEYOND_RATE_MAX: u32 = 1000;
/// See [`BEYOND_RATE_MAX`].
pub(crate) const BEYOND_CONNECTIONS_MAX: u32 = 100;

/// The endpoint, and the framing if it says one.
pub(super) fn address(text: &str, frame: FramingPair) -> Result<(Endpoint, FramingPair), String> {
    let Located { endpoint, options } = text.parse().map_err(|error: EndpointError| {
        let schemes = "bench loads tcp://, udp://, unix: and unixgram: endpoints";
        format!("{error}; {schemes}")
    })?;
    match &endpoint {
        Endpoint::Tcp(at) | Endpoint::Udp(at) if at.port == 0 => {
            return Err(
                "nobody can be called at port 0; it means \"any free port\" to a server".to_owned(),
            );
        }
        Endpoint::Tcp(at) | Endpoint::Udp(at) if at.host == Host::Any => {
            return Err(
                "* is every address of this machine, for listening; name a host to load".to_owned(),
            );
        }
        Endpoint::Fd(_) => {
            return Err("fd: is a socket handed to a server; there is nothing to call".to_owned());
        }
        _ => {}
    }
    let mut frames = frame;
    for (name, value) in options.0 {
        match &*name {
            "frame" => frames = value.parse().map_err(|error| format!("{error}"))?,
            _ => {
                return Err(format!(
                    "?{name}= is no option of an endpoint to call; there is frame"
                ));
            }
        }
    }
    Ok((endpoint, frames))
}

/// What a load is about to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Intent {
    /// The highest rate there will be; none if nothing bounds it.
    pub(super) rate: Option<f64>,
    pub(super) connections: u32,
    /// Connections are opened anew all the time.
    pub(super) churns: bool,
}

/// Whether it may be done to `endpoint`: this machine may be loaded, others only a little or if they were named.
pub(super) async fn is_allowed(
    endpoint: &Endpoint,
    allowed: &[String],
    intent: Intent,
) -> Result<(), CliError> {
    let (Endpoint::Tcp(at) | Endpoint::Udp(at)) = endpoint else {
        return Ok(());
    };
    let HostPort { host, .. } = at;
    let name = match host {
        Host::Name(name) => name.clone(),
        Host::Ip(ip) => ip.to_string(),
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
    let is_here = |ip: IpAddr| ip.to_canonical().is_loopback();
    if addrs.iter().all(|addr| is_here(addr.ip())) {
        return Ok(());
    }
    let is_little = intent
        .rate
        .is_some_and(|rate| rate <= f64::from(BEYOND_RATE_MAX))
        && intent.connections <= BEYOND_CONNECTIONS_MAX;
    if is_little {
        return Ok(());
    }
    Err(CliError::usage(format!(
        "{name} is not this machine, and may not be yours to load: at most {BEYOND_RATE_MAX} requests a second \
         (-r) over {BEYOND_CONNECTIONS_MAX} connections (-c); with --allow-load {name} there is no such bound"
    )))
}

/// Whether the system has what it takes; says what may run short, and refuses what cannot be.
pub(super) fn has_means(endpoint: &Endpoint, intent: Intent) -> Result<Option<String>, CliError> {
    let wanted = u64::from(intent.connections) + OTHER_FILES;
    let files = raise_open_files(wanted);
    if files < wanted {
        return Err(CliError::system(format!(
            "{} connections need {wanted} open files, and this process may have {files}; raise that (ulimit -n) or lower -c",
            intent.connections
        )));
    }
    if !matches!(endpoint, Endpoint::Tcp(_)) {
        return Ok(None);
    }
    let Some(ports) = ports() else {
        return Ok(None);
    };
    if u64::from(intent.connections) > ports {
        return Err(CliError::system(format!(
            "{} connections to one address need as many ports of our own, and there are {ports} \
             (net.ipv4.ip_local_port_range); lower -c",
            intent.connections
        )));
    }
    let second = ports / 60;
    Ok(intent.churns.then(|| {
        format!(
            "each connection that is closed keeps its port for a minute: with {ports} of them, more than about \
             {second} new connections a second cannot go on for long"
        )
    }))
}

/// Raises the soft limit of open files, if it is too low and may be; says what it then is.
fn raise_open_files(wanted: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let now = current.unwrap_or(u64::MAX);
    if now >= wanted {
        return now;
    }
    let more = Rlimit {
        current: maximum,
        maximum,
    };
    match setrlimit(Resource::Nofile, more) {
        Ok(()) => maximum.unwrap_or(u64::MAX),
        Err(_) => now,
    }
}

/// Ports that the system gives to callers.
fn ports() -> Option<u64> {
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
        let intent = Intent {
            rate,
            connections,
            churns: false,
        };
        is_allowed(&endpoint.parse().unwrap(), &names, intent)
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
        assert!(!allowed("192.0.2.1:5000", &[], Some(1000.0), 101).await);
        assert!(allowed("192.0.2.1:5000", &[], Some(1000.0), 100).await);
        assert!(allowed("192.0.2.1:5000", &["192.0.2.1"], None, 1000).await);
        assert!(!allowed("192.0.2.1:5000", &["192.0.2.2"], None, 1).await);
    }

    #[test]
    fn more_connections_than_files_are_rejected() {
        let intent = Intent {
            rate: None,
            connections: u32::MAX - 100,
            churns: false,
        };
        let refused = has_means(&"5000".parse().unwrap(), intent).unwrap_err();
        assert!(
            refused.why.contains("open files") || refused.why.contains("ports"),
            "{}",
            refused.why
        );
    }
}
