//! The floor: the minimal server for a message, and a load generator to measure with.
//!
//! Every figure echoic publishes is a ratio to [`server`], taken in the same run on the same
//! cores, because absolute figures move by half between one minute and the next.

mod churn;
mod datagrams;
mod histogram;
mod idle;
mod load;
mod plain_tokio;
mod process;
mod server;
mod talker;
mod text;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::load::{Pace, Plan};
use crate::server::{Answer, Server};

/// Exit code for wrong or missing replies, as in echoic's own table.
const NOT_MET: u8 = 7;

#[derive(Parser)]
#[command(
    name = "floor",
    about = "A minimal upper-case server, and a generator to measure servers with",
    version
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer in upper case on 127.0.0.1, with one recv and one send for each readable socket
    Serve {
        /// Port to listen on; 0 picks a free one
        #[arg(long, default_value_t = 0)]
        port: u16,
        /// Hold an incomplete last line back until its newline comes
        #[arg(long, conflicts_with_all = ["tokio", "udp"])]
        lines: bool,
        /// The same on tokio, as most would write it
        #[arg(long, conflicts_with = "udp")]
        tokio: bool,
        /// Datagrams instead of streams
        #[arg(long)]
        udp: bool,
    },
    /// Send lines, check every reply, print one line of JSON
    Load(LoadArgs),
    /// Open connections that do nothing and report the server's memory
    Idle {
        /// Server to connect to, such as 127.0.0.1:5000
        #[arg(value_parser = loopback)]
        address: SocketAddr,
        /// How many connections to hold
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
        connections: u32,
        /// Seconds to hold them, before and again after each has sent one line
        #[arg(long, default_value = "1", value_parser = seconds)]
        hold: Duration,
        /// Process id of the server
        #[arg(long)]
        pid: i32,
    },
    /// Send datagrams of 64 bytes, each when the last is answered, and check the answers
    Udp {
        /// Server to send to, such as 127.0.0.1:5000
        #[arg(value_parser = loopback)]
        address: SocketAddr,
        /// How many sockets send
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1000))]
        sockets: u32,
        /// How long to measure
        #[arg(long, default_value = "1", value_parser = seconds)]
        seconds: Duration,
        /// How long to run before measuring
        #[arg(long, default_value = "0.3", value_parser = seconds)]
        warmup: Duration,
        /// Process id of the server, to report its CPU time
        #[arg(long)]
        pid: Option<i32>,
    },
    /// Connect, exchange one line and close, again and again
    Churn {
        /// Server to connect to, such as 127.0.0.1:5000
        #[arg(value_parser = loopback)]
        address: SocketAddr,
        /// How many connections are open at once
        #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
        connections: u32,
        /// How long to go on, at most 60
        #[arg(long, default_value = "1", value_parser = seconds)]
        seconds: Duration,
        /// Process id of the server, to report its CPU time
        #[arg(long)]
        pid: Option<i32>,
    },
}

#[derive(Args)]
struct LoadArgs {
    /// Server to connect to, such as 127.0.0.1:5000
    #[arg(value_parser = loopback)]
    address: SocketAddr,
    /// How many connections send
    #[arg(long, short = 'c', default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    connections: u32,
    /// Messages in flight on each connection
    #[arg(long, short = 'd', default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    depth: u32,
    /// Bytes in a message, its newline included
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(4..=1_048_576))]
    size: u32,
    /// Messages a second over all connections, paced evenly; without it each reply triggers the next message
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rate: Option<u32>,
    /// Pace in bursts of one message on every connection instead of evenly
    #[arg(long, requires = "rate")]
    bursts: bool,
    /// How long to measure
    #[arg(long, default_value = "1", value_parser = seconds)]
    seconds: Duration,
    /// How long to run before measuring
    #[arg(long, default_value = "0.3", value_parser = seconds)]
    warmup: Duration,
    /// Process id of the server, to report its CPU time
    #[arg(long)]
    pid: Option<i32>,
}

impl From<LoadArgs> for Plan {
    fn from(args: LoadArgs) -> Self {
        Self {
            address: args.address,
            connections: args.connections,
            depth: args.depth,
            size: args.size,
            pace: match (args.rate, args.bursts) {
                (None, _) => Pace::Closed,
                (Some(rate), false) => Pace::Even { rate },
                (Some(rate), true) => Pace::Bursts { rate },
            },
            warmup: args.warmup,
            seconds: args.seconds,
            pid: args.pid,
        }
    }
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "floor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve {
            port,
            lines,
            tokio,
            udp,
        } => {
            if udp {
                datagrams::serve(port, print_address)?;
            } else if tokio {
                plain_tokio::run(port, print_address)?;
            } else {
                let answer = if lines { Answer::Lines } else { Answer::Chunks };
                let mut server = Server::bind(port, answer)?;
                print_address(server.address()?);
                server.run()?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Udp {
            address,
            sockets,
            seconds,
            warmup,
            pid,
        } => {
            let report = datagrams::run(address, sockets, warmup, seconds, pid)?;
            print(&report, report.wrong)
        }
        Command::Load(args) => {
            let report = load::run(&args.into())?;
            print(&report, report.wrong + report.unanswered)
        }
        Command::Idle {
            address,
            connections,
            hold,
            pid,
        } => {
            let report = idle::run(address, connections, hold, pid)?;
            print(&report, report.wrong)
        }
        Command::Churn {
            address,
            connections,
            seconds,
            pid,
        } => {
            let report = churn::run(address, connections, seconds, pid)?;
            print(&report, report.wrong)
        }
    }
}

/// The reader of standard output may close it early; that is not an error.
fn print_address(address: SocketAddr) {
    let _ = writeln!(io::stdout(), "listening on {address}");
}

fn print(report: &impl Serialize, failures: u64) -> anyhow::Result<ExitCode> {
    writeln!(io::stdout(), "{}", serde_json::to_string(report)?)?;
    Ok(if failures == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_MET)
    })
}

/// A generator at full speed must not be pointed at a remote machine by mistake.
fn loopback(word: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = word.parse().map_err(|_| {
        format!("'{word}' is not an address and a port; write it as 127.0.0.1:5000")
    })?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(format!(
            "{address} is not on this machine; floor loads loopback addresses only"
        ))
    }
}

/// Between 50 ms, below which a window holds too few messages, and ten minutes.
fn seconds(word: &str) -> Result<Duration, String> {
    word.parse::<f64>()
        .ok()
        .filter(|seconds| (0.05..=600.0).contains(seconds))
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| format!("'{word}' is not a number of seconds between 0.05 and 600"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_passes_clap_checks() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn load_accepts_only_loopback_addresses() {
        assert!(loopback("127.0.0.1:5000").is_ok());
        assert!(loopback("[::1]:5000").is_ok());
        assert!(loopback("192.0.2.1:5000").is_err());
        assert!(loopback("localhost").is_err());
    }

    #[test]
    fn duration_argument_is_bounded() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for word in ["0", "601", "NaN", "-1", "inf", ""] {
            assert!(seconds(word).is_err(), "{word}");
        }
    }
}
